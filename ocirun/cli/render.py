"""Errors in words: for the log in one line, for a person in several. Cold.

The errors carry facts (`ocirun.errors`); which words they become, and in which
order, is decided here and nowhere else.
"""

import errno
import os
import posix
from typing import Any

from ocirun.cli import log
from ocirun.cli.output import styled
from ocirun.errors import CriuFailed, HookFailed, InvalidConfig, InvalidJSON, OcirunError

MAX_FINDINGS = 20
_MAX_QUOTED = 100
"""Characters of a source line that are quoted."""
_MAX_SAID, _MAX_LINE = 10, 300
"""Lines of a hook's output that are shown, and characters of each."""
_LONGEST = 1500
"""Characters of one fact that are shown: a log line, and conmon's buffer, have room for some."""
_BAR = "| "
"""Begins a quoted line of a document."""
_STYLES = {"hint": "green", "": "dim"}


def one_line(error: OcirunError) -> str:
    """Return all facts of an error in one line: `MESSAGE: STRERROR (step: ...; ...)`."""
    rows = [(label, text) for label, text in _rows(error) if not text.startswith(_BAR)]
    facts = "; ".join(f"{label}: {text}" if label else text for label, text in rows)
    return _headline(error) + (f" ({facts})" if facts else "")


def shown(error: OcirunError) -> str:
    """Return an error for standard error: coloured if that is a terminal."""
    lines = [[("ocirun: ", "bold"), (_headline(error), "bold red")]]
    for label, text in _rows(error):
        name = f"  {label + ':' if label else '':<9} "
        lines.append([(name, "cyan"), (text, _STYLES.get(label, ""))])
    return styled(lines, 2)


def internal_error(bug: BaseException) -> str:
    """Return one line about a bug of ocirun's; with --debug, its traceback too."""
    words = clean(str(bug))
    line = f"internal error: {type(bug).__name__}{': ' if words else ''}{words}"
    if not log.options().debug:
        return line + " (this is a bug in ocirun; --debug shows the traceback)"
    import traceback

    return line + "\n" + "".join(traceback.format_exception(bug)).rstrip()


def strerror(number: int) -> str:
    """Return the kernel's words for an error number as Go writes them: in lower case.

    Engines look for such words ("no such process", "permission denied").
    """
    words = posix.strerror(number)
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]


def _headline(error: OcirunError) -> str:
    words = clean(error.message)
    if isinstance(error, InvalidJSON) and error.path and error.path not in words:
        words = f"{clean(error.path)}:{error.line}:{error.column}: {words}"
    reason = strerror(error.errno) if error.errno else ""
    return words if not reason or reason in words else f"{words}: {reason}"


def _rows(error: OcirunError) -> list[tuple[str, str]]:
    """Return (label, text) of every further fact; rows without a label continue the last."""
    rows: list[tuple[str, str]] = []
    if isinstance(error, InvalidConfig):
        rows += _findings(error)
    if error.step:
        rows.append(("step", clean(error.step)))
    if error.pointer:
        rows += _asked_by(error)
    if isinstance(error, InvalidJSON):  # the headline names its path
        rows += _quote(_text_of(error.path), error.line, error.column)
    elif error.path and error.path not in error.message:
        rows.append(("path", clean(error.path)))
    if error.syscall:
        rows.append(("syscall", clean(error.syscall) + _failed_with(error.errno)))
    if isinstance(error, HookFailed):
        rows += _said(error.output)
    if isinstance(error, CriuFailed):
        rows += [("" if number else "log", _BAR + clean(x)) for number, x in enumerate(error.lines)]
    if error.kernel:
        rows.append(("kernel", clean(error.kernel.strip())))
    if error.hint:
        rows.append(("hint", clean(error.hint)))
    return rows


def _said(output: str) -> list[tuple[str, str]]:
    """The last lines that a hook wrote; one alone is in the headline."""
    lines = [line.strip() for line in output.split("\n") if line.strip()][-_MAX_SAID:]
    if len(lines) < 2:
        return []
    return [("" if at else "said", clean(line[:_MAX_LINE])) for at, line in enumerate(lines)]


def _failed_with(number: int) -> str:
    return f" = {errno.errorcode.get(number, f'errno {number}')}" if number else ""


def _findings(error: InvalidConfig) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    document = error.document or os.path.basename(error.config) or "config.json"
    for finding in error.findings[:MAX_FINDINGS]:
        rows.append(("error" if not rows else "", clean(finding_line(finding, document))))
    more = len(error.findings) - MAX_FINDINGS
    if more > 0:
        rows.append(("", f"and {more} more: see `ocirun validate`"))
    return rows


def finding_line(finding: object, document: str = "config.json") -> str:
    """Return a finding of the validator in one line, beginning with its place."""
    line, column = getattr(finding, "line", 0), getattr(finding, "column", 0)
    place = f"{document}:{line}:{column}" if line else document
    pointer = getattr(finding, "pointer", "")
    text = f"{place} {pointer or '/'}: {getattr(finding, 'message', finding)}"
    expected, hint = getattr(finding, "expected", ""), getattr(finding, "hint", "")
    text += f"; expected {expected}" if expected else ""
    return text + (f" ({hint})" if hint else "")


def _asked_by(error: OcirunError) -> list[tuple[str, str]]:
    """Return the rows that name, and quote, the line of the config that asked for it."""
    if error.document:
        return [("asked by", clean(f"{error.document} {error.pointer}".rstrip()))]
    path = error.config or (os.path.join(error.bundle, "config.json") if error.bundle else "")
    text = _text_of(path)
    if not text:  # it has gone since: the pointer alone must do
        name = os.path.basename(path) or "config.json"
        return [("asked by", clean(f"{name} {error.pointer}"))]
    from ocirun.spec.positions import locate

    line, column = locate(text, error.pointer)
    place = f"{path}:{line}:{column} {error.pointer}"
    quoted = _quote(text, line, column)
    if quoted and quoted[0][1] in (_BAR + "{", _BAR + "["):  # it goes on over many lines
        quoted = _value(text, error.pointer)
    return [("asked by", clean(place)), *quoted]


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except (OSError, ValueError):
        return ""


def _quote(text: str, line: int, column: int) -> list[tuple[str, str]]:
    """Return the source line around a column, and a mark below that column."""
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        return []
    source = lines[line - 1].rstrip()
    start = max(0, min(len(source) - _MAX_QUOTED, column - _MAX_QUOTED // 2))
    start = max(start, len(source) - len(source.lstrip())) if start < column else start
    piece = "".join(c if c.isprintable() else " " for c in source[start : start + _MAX_QUOTED])
    return [("", _BAR + piece), ("", _BAR + " " * max(0, column - 1 - start) + "^")]


def _value(text: str, pointer: str) -> list[tuple[str, str]]:
    """Return the value at a JSON pointer, or what is there of its way, in one line."""
    from ocirun.spec.fastjson import dumps, loads

    try:
        value: Any = loads(text.encode())
        for name in pointer.split("/")[1:]:
            key = name.replace("~1", "/").replace("~0", "~")
            value = value[int(key)] if isinstance(value, list) else value[key]
    except (LookupError, TypeError, ValueError):
        pass  # it asks by its absence
    except InvalidJSON:  # the file has changed since
        return []
    line = dumps(value)
    return [("", _BAR + line[:_MAX_QUOTED] + ("..." if len(line) > _MAX_QUOTED else ""))]


def clean(text: str) -> str:
    """Make text safe for a terminal and for one line: no control characters, and an end."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... ({len(text)} characters)"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
