"""The process around a command: exit status, log, closed descriptors, broken pipes, bugs."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocirun.cli import entry, hot, log
from ocirun.cli.options import Options
from ocirun.errors import NotFound, StepFailed

CHECKOUT = Path(__file__).parent.parent.parent
SITE = next(path for path in sys.path if path.endswith("site-packages"))


def ocirun(*argv: str, before: str = "", **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a fresh interpreter, as the launcher does; `before` runs first."""
    code = f"import sys; sys.path[:0] = {[str(CHECKOUT), SITE]!r}; {before}\n"
    code += "from ocirun.cli.entry import main; main()"
    command = [sys.executable, "-ISXutf8", "-c", code, *argv]
    return subprocess.run(command, **{"capture_output": True, "timeout": 30, **options})


FAIL = """
from ocirun.cli import hot
from ocirun.errors import NotFound
def fail(options, id): raise %s
hot.COMMANDS["state"] = fail
"""


@pytest.fixture
def state_does(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace what `state` does; the log's settings are restored."""

    def replace(action: Callable[..., int]) -> None:
        monkeypatch.setitem(hot.COMMANDS, "state", action)

    yield replace
    log.setup(Options())


def failing(error: BaseException) -> Callable[..., int]:
    def fail(options: Options, *, id: str) -> int:
        raise error

    return fail


def test_version() -> None:
    done = ocirun("--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.fullmatch(
        rb"ocirun version \d+\.\d+\.\d+\ncommit: \w+\nspec: 1\.\d\.\d\n", done.stdout
    )
    assert ocirun("-v").stdout == ocirun("--root", "/x", "--version").stdout == done.stdout


def test_no_arguments_show_the_help() -> None:
    done = ocirun()
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"create" in done.stdout


def test_nothing_is_needed_of_the_environment() -> None:
    done = ocirun("--help", env={}, cwd="/")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("x"), 1),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (TypeError("x"), 1),
        (RecursionError("x"), 1),
        (PermissionError(13, "x"), 1),
    ],
)
def test_exit_status(state_does: Any, error: BaseException, status: int) -> None:
    state_does(failing(error))
    assert entry.guarded(["state", "x"]) == status


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BrokenPipeError()])
def test_some_ends_are_quiet(
    state_does: Any, capfd: pytest.CaptureFixture[str], error: BaseException
) -> None:
    state_does(failing(error))
    entry.guarded(["state", "x"])
    assert capfd.readouterr() == ("", "")


def test_a_bug_is_one_line(state_does: Any, capfd: pytest.CaptureFixture[str]) -> None:
    state_does(failing(TypeError("oops")))
    entry.guarded(["state", "x"])
    assert capfd.readouterr().err == (
        "ocirun: internal error: TypeError: oops"
        " (this is a bug in ocirun; --debug shows the traceback)\n"
    )
    entry.guarded(["--debug", "state", "x"])
    assert "Traceback" in capfd.readouterr().err


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def test_the_log_as_json(
    state_does: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    state_does(failing(StepFailed('no "x"', errno=2, hint="look")))
    file = tmp_path / "log"
    entry.guarded(["--log", str(file), "--log-format", "json", "state", "x"])
    entry.guarded(["--log", str(file), "--log-format", "json", "state", "x"])
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 2
    assert list(lines[0]) == ["level", "msg", "time"]
    assert lines[0]["level"] == "error"
    assert lines[0]["msg"] == 'no "x": no such file or directory (hint: look)'
    assert re.fullmatch(TIME, lines[0]["time"])
    assert json.loads(capfd.readouterr().err.splitlines()[0])["msg"] == lines[0]["msg"]


def test_the_log_as_text(
    state_does: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    state_does(failing(NotFound('no "x"')))
    file = tmp_path / "log"
    entry.guarded(["--log", str(file), "state", "x"])
    assert re.fullmatch(rf'time="{TIME}" level=error msg="no \\"x\\""\n', file.read_text())
    assert capfd.readouterr().err == 'ocirun: no "x"\n'


@pytest.mark.parametrize("line", ["state", "bogus", "--bogus", "list --format x", "spec a b c"])
def test_a_mistake_reaches_the_log(state_does: Any, tmp_path: Path, line: str) -> None:
    file = tmp_path / "log"
    assert entry.guarded(["--log", str(file), "--log-format", "json", *line.split()]) == 1
    assert json.loads(file.read_text())["level"] == "error"


def test_success_writes_no_log(state_does: Any, tmp_path: Path) -> None:
    state_does(lambda options, id: 0)
    file = tmp_path / "log"
    assert entry.guarded(["--log", str(file), "state", "x"]) == 0
    assert not file.exists()


def test_debug_messages_go_to_the_log(state_does: Any, tmp_path: Path) -> None:
    state_does(lambda options, id: log.debug("looking") or 0)
    file = tmp_path / "log"
    entry.guarded(["--log", str(file), "--log-format", "json", "--debug", "state", "x"])
    assert json.loads(file.read_text())["msg"] == "looking"


def test_a_log_that_cannot_be_written_hides_nothing(
    state_does: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    state_does(failing(NotFound("gone")))
    entry.guarded(["--log", "/nonexistent/log", "state", "x"])
    err = capfd.readouterr().err
    assert err.startswith("ocirun: gone\n")
    assert "cannot write to the log /nonexistent/log" in err


def test_conmon_can_read_all_of_it(state_does: Any, capfd: pytest.CaptureFixture[str]) -> None:
    state_does(failing(NotFound("\u20ac" * 9000)))
    entry.guarded(["state", "x"])
    assert len(capfd.readouterr().err.encode("utf-8", "surrogateescape")) < 8192


@pytest.mark.parametrize("format_", ["json", "text"])
def test_stray_bytes_in_a_message(state_does: Any, tmp_path: Path, format_: str) -> None:
    state_does(failing(NotFound("no /\udcff")))
    file = tmp_path / "log"
    entry.guarded(["--log", str(file), "--log-format", format_, "state", "x"])
    assert b"udcff" in file.read_bytes()


@pytest.mark.parametrize("fds", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_descriptors(fds: tuple[int, ...]) -> None:
    """A file opened later must not become standard output."""
    probe = (
        "import posix\n"
        "def look(options, id):\n"
        "    fd = posix.open('/', posix.O_RDONLY)\n"
        "    names = [posix.readlink(f'/proc/self/fd/{n}') for n in range(3)]\n"
        f"    good = all(names[n] == '/dev/null' and posix.get_inheritable(n) for n in {fds})\n"
        "    return 42 if fd > 2 and good else 1\n"
        "from ocirun.cli import hot; hot.COMMANDS['state'] = look"
    )
    closing = lambda: [os.close(fd) for fd in fds]  # noqa: E731
    done = ocirun("state", "x", before=f"\n{probe}", capture_output=False, preexec_fn=closing)
    assert done.returncode == 42


@pytest.mark.parametrize("argv", [["--help"], ["state"], ["--version"], ["list", "--help"]])
def test_closed_descriptors_with_typer(argv: list[str]) -> None:
    closing = lambda: [os.close(fd) for fd in (0, 1, 2)]  # noqa: E731
    done = ocirun(*argv, capture_output=False, preexec_fn=closing)
    assert done.returncode == (1 if argv == ["state"] else 0)


@pytest.mark.parametrize("argv", [["--help"], ["--version"]])
def test_a_broken_pipe_is_quiet(argv: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = ocirun(*argv, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode != 0


def test_an_interrupt_has_no_traceback() -> None:
    wait = (
        "\nimport time, posix\n"
        "def wait(options, id):\n"
        "    posix.write(1, b'ready')\n"
        "    time.sleep(30)\n"
        "from ocirun.cli import hot; hot.COMMANDS['state'] = wait\n"
    )
    code = f"import sys; sys.path[:0] = {[str(CHECKOUT), SITE]!r}{wait}"
    code += "from ocirun.cli.entry import main; main()"
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", code, "state", "x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"ready"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == (b"", b"")
        assert process.returncode == 130


def test_the_answer_is_utf8_whatever_the_locale() -> None:
    before = (
        "\nfrom ocirun.cli import hot, output\n"
        "def say(options, id):\n"
        "    output.emit('\\u20ac\\udcff')\n"
        "    return 0\n"
        "hot.COMMANDS['state'] = say\n"
    )
    for locale in ("C", "de_DE.ISO-8859-1", "xx"):
        done = ocirun("state", "x", before=before, env={"LC_ALL": locale})
        assert (done.stdout, done.stderr) == (b"\xe2\x82\xac\xff", b"")


def test_completion_offers_the_commands() -> None:
    env = {"_OCIRUN_COMPLETE": "complete_bash", "COMP_WORDS": "ocirun st", "COMP_CWORD": "1"}
    done = ocirun(env=env)
    assert done.stdout.split() == [b"start", b"state"]
