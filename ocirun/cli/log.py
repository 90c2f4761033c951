"""The log: errors and debug messages, in the file of --log and on standard error.

On the hot path: a success writes nothing and opens nothing. Nothing here decides
what an error's message is; that is `ocirun.cli.render`.
"""

import posix
import time

from ocirun.cli.options import Options

_STDERR_LIMIT = 8000
"""Bytes: conmon reads standard error once, at most 8191 bytes of it."""

_options = Options()


def setup(options: Options) -> None:
    """Use the global options from now on."""
    global _options
    _options = options


def options() -> Options:
    """Return the global options in use (the defaults before any were read)."""
    return _options


def debug(message: str) -> None:
    """Log a message if --debug was given: to the log file, else to standard error."""
    if not _options.debug:
        return
    if _options.log:
        _append(_line("debug", message))
    else:
        _write_all(2, _line("debug", message))


def warning(message: str) -> None:
    """Log a warning, and show it on standard error."""
    from ocirun.cli.render import clean

    line = _line("warning", message)
    if _options.log:
        _append(line)
    _write_all(2, line if _options.log_format == "json" else f"ocirun: warning: {clean(message)}\n")


def error(message: str, shown: str) -> None:
    """Log an error, and show it on standard error.

    Args:
        message: everything in one line, for the log file and for JSON.
        shown: the same for a person: lines of text, each ending in a newline.
    """
    line = _line("error", message)
    if _options.log_format == "json":
        shown = line
    if _options.log and not _append(line):
        shown += f"ocirun: cannot write to the log file {_options.log}\n"
    _write_all(2, shown)


def _line(level: str, message: str) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    from _json import encode_basestring_ascii as quote

    if _options.log_format == "json":
        return f'{{"level":"{level}","msg":{quote(message)},"time":"{now}"}}\n'
    return f'time="{now}" level={level} msg={quote(message)}\n'


def _append(line: str) -> bool:
    """Append a line to the log file; False if the file cannot be written."""
    flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC
    try:
        fd = posix.open(_options.log, flags, 0o644)
    except (OSError, ValueError):
        return False
    try:
        posix.write(fd, line.encode("utf-8", "backslashreplace"))
    except OSError:
        return False
    finally:
        posix.close(fd)
    return True


def _write_all(fd: int, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > _STDERR_LIMIT:
        data = data[: _STDERR_LIMIT - 5] + b" ...\n"
    try:
        while data:
            data = data[posix.write(fd, data) :]
    except OSError:
        pass  # nobody reads; there is no one left to tell
