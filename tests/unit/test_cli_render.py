"""Errors in words: one line for the log, several for a person."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ocirun.cli import log, output, render
from ocirun.cli.options import Options
from ocirun.errors import (
    BundleError,
    InvalidConfig,
    InvalidJSON,
    NotFound,
    OcirunError,
    StepFailed,
    UsageError,
)

CONFIG = """{
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"}
  ]
}
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(CONFIG)
    return tmp_path


CASES: list[tuple[OcirunError, str, str]] = [
    (
        NotFound('container "x" does not exist'),
        'ocirun: container "x" does not exist\n',
        'container "x" does not exist',
    ),
    (
        UsageError("bad id", hint="letters and digits"),
        "ocirun: bad id\n  hint:     letters and digits\n",
        "bad id (hint: letters and digits)",
    ),
    (
        BundleError("cannot read /b/config.json", errno=errno.ENOENT, path="/b/config.json"),
        "ocirun: cannot read /b/config.json: no such file or directory\n",
        "cannot read /b/config.json: no such file or directory",
    ),
    (
        StepFailed(
            "cannot mount proc",
            step="mount proc on /proc",
            syscall='mount("proc", "/proc", MS_NOSUID)',
            errno=errno.EPERM,
            path="/proc",
            kernel=" too revealing\n",
            hint="run as root",
        ),
        "ocirun: cannot mount proc: operation not permitted\n"
        "  step:     mount proc on /proc\n"
        "  path:     /proc\n"
        '  syscall:  mount("proc", "/proc", MS_NOSUID) = EPERM\n'
        "  kernel:   too revealing\n"
        "  hint:     run as root\n",
        "cannot mount proc: operation not permitted (step: mount proc on /proc; path: /proc; "
        'syscall: mount("proc", "/proc", MS_NOSUID) = EPERM; kernel: too revealing; '
        "hint: run as root)",
    ),
    (
        OcirunError("kill failed: no such process", errno=errno.ESRCH),
        "ocirun: kill failed: no such process\n",
        "kill failed: no such process",
    ),
    (
        OcirunError("odd", syscall="x()", errno=4000),
        "ocirun: odd: unknown error 4000\n  syscall:  x() = errno 4000\n",
        "odd: unknown error 4000 (syscall: x() = errno 4000)",
    ),
]


@pytest.mark.parametrize(("error", "shown", "line"), CASES)
def test_facts_become_words(error: OcirunError, shown: str, line: str) -> None:
    assert render.shown(error) == shown
    assert render.one_line(error) == line


def test_the_line_of_the_config_is_quoted(bundle: Path) -> None:
    error = StepFailed("no", pointer="/mounts/0/type", bundle=str(bundle))
    assert render.shown(error) == (
        "ocirun: no\n"
        f"  asked by: {bundle}/config.json:3:38 /mounts/0/type\n"
        '            | {"destination": "/proc", "type": "proc", "source": "proc"}\n'
        "            |                                  ^\n"
    )
    assert render.one_line(error) == f"no (asked by: {bundle}/config.json:3:38 /mounts/0/type)"


def test_a_value_of_many_lines_is_quoted_in_one(tmp_path: Path) -> None:
    mounts = [{"destination": "/" + "x" * 200}, {"destination": "/dev", "type": "tmpfs"}]
    (tmp_path / "config.json").write_text(json.dumps({"mounts": mounts}, indent=2))

    def quoted(pointer: str) -> list[str]:
        error = StepFailed("no", pointer=pointer, bundle=str(tmp_path))
        return [line for line in render.shown(error).splitlines() if "| " in line]

    assert quoted("/mounts/1") == ['            | {"destination":"/dev","type":"tmpfs"}']
    assert quoted("/mounts/0")[0].endswith("xxx...")
    assert quoted("/mounts/1/source") == quoted("/mounts/1")
    (tmp_path / "config.json").write_text('{"mounts": [\n{\n "a": broken')
    assert quoted("/mounts/0") == []


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_a_config_that_is_gone_or_changed_leaves_the_pointer(
    tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    error = StepFailed("no", pointer="/mounts/0", bundle=str(tmp_path))
    first, asked_by, *_ = render.shown(error).splitlines()
    assert first == "ocirun: no"
    assert asked_by.startswith("  asked by: ")
    assert asked_by.endswith(" /mounts/0")
    assert text is not None or ":1:1" not in asked_by


def test_a_place_in_a_long_line_is_still_seen(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": "' + "x" * 500 + '" "b": 1}')
    error = InvalidJSON("',' is expected", line=1, column=510, path=str(path))
    lines = render.shown(error).splitlines()
    assert lines[0] == f"ocirun: {path}:1:510: ',' is expected"
    assert max(map(len, lines[1:])) < 130
    assert lines[1][lines[2].index("^")] == '"'
    assert lines[1].endswith('"b": 1}')
    assert len(lines) == 3
    assert render.one_line(error) == f"{path}:1:510: ',' is expected"


def finding(number: int) -> SimpleNamespace:
    return SimpleNamespace(
        severity="error",
        pointer=f"/mounts/{number}",
        line=number + 1,
        column=3,
        message="is wrong",
        expected="right" if number == 0 else "",
        hint="mend it" if number == 0 else "",
        section="config.md#mounts",
    )


def test_findings_are_listed_up_to_twenty() -> None:
    few = InvalidConfig("config.json is invalid", tuple(map(finding, range(2))))
    assert render.shown(few) == (
        "ocirun: config.json is invalid\n"
        "  error:    config.json:1:3 /mounts/0: is wrong; expected right (mend it)\n"
        "            config.json:2:3 /mounts/1: is wrong\n"
    )
    assert render.one_line(few) == (
        "config.json is invalid (error: config.json:1:3 /mounts/0: is wrong; expected right"
        " (mend it); config.json:2:3 /mounts/1: is wrong)"
    )
    many = render.shown(InvalidConfig("config.json is invalid", tuple(map(finding, range(25)))))
    assert many.count("is wrong") == 20
    assert many.endswith("and 5 more: see `ocirun validate`\n")


def test_nothing_reaches_the_terminal_as_a_control_sequence() -> None:
    error = StepFailed("\x1b[2J\nfake", step="a\rb", syscall="\x9b31m", kernel="\0", hint="\x07")
    for text in (render.shown(error), render.one_line(error)):
        assert all(c.isprintable() or c == "\n" for c in text)
    assert "\n" not in render.one_line(error)


def test_the_kernel_speaks_in_lower_case_as_go_does() -> None:
    assert render.strerror(errno.ESRCH) == "no such process"
    assert render.strerror(errno.EACCES) == "permission denied"
    assert render.strerror(errno.EDOTDOT) == "RFS specific error"


def test_a_bug_is_one_line_and_with_debug_a_traceback() -> None:
    try:
        raise TypeError("wrong\nthing")
    except TypeError as error:
        bug = error
    assert render.internal_error(bug) == (
        "internal error: TypeError: wrong\\nthing"
        " (this is a bug in ocirun; --debug shows the traceback)"
    )
    log.setup(Options(debug=True))
    try:
        assert "Traceback" in render.internal_error(bug)
    finally:
        log.setup(Options())


def test_colours_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    error = UsageError("bad id", hint="letters")
    monkeypatch.setattr(output.posix, "isatty", lambda fd: fd == 2)
    monkeypatch.setattr(output.posix, "environ", {b"TERM": b"xterm"})
    coloured = render.shown(error)
    assert "\x1b[" in coloured
    assert "bad id" in coloured
    for environ in ({b"TERM": b"xterm", b"NO_COLOR": b"1"}, {b"TERM": b"dumb"}):
        monkeypatch.setattr(output.posix, "environ", environ)
        assert "\x1b[" not in render.shown(error)
