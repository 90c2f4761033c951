"""process.terminal: the caller's terminal in the foreground, `--console-socket` detached."""

import os
import signal
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for
from lib.terminal import ConsoleSocket, Terminal


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as master:
        yield master


@pytest.fixture
def server(bundle: Bundle) -> Iterator[ConsoleSocket]:
    with ConsoleSocket(bundle.path / "console") as socket:
        yield socket


def start(runtime: Runtime, bundle: Bundle, terminal: Terminal) -> None:
    """`run` of the bundle on the terminal, with one of its own inside."""
    bundle.set("/process/terminal", True)
    terminal.spawn(runtime.argv("run", "--bundle", bundle.write(), bundle.id))


def test_streams_are_a_terminal(runtime: Runtime, bundle: Bundle, terminal: Terminal) -> None:
    start(runtime, bundle, terminal)
    assert terminal.wait() == 0
    assert b'"tty":[1,1,1]' in terminal.seen
    assert b'"controlling_tty":1' in terminal.seen
    assert b'"tty_name":"/dev/pts/0"' in terminal.seen


def test_console_device(runtime: Runtime, bundle: Bundle, terminal: Terminal) -> None:
    start(
        runtime, bundle.sh("test -c /dev/console && test -t 0 && echo y > /dev/console"), terminal
    )
    assert terminal.wait() == 0
    assert terminal.seen == b"y\r\n"


def test_terminal_belongs_to_the_user(runtime: Runtime, bundle: Bundle, terminal: Terminal) -> None:
    bundle.set("/process/user", {"uid": 1000, "gid": 1000})
    start(runtime, bundle.sh("stat -c 'owner %u' $(tty); echo z > /dev/tty"), terminal)
    assert terminal.wait() == 0
    assert terminal.seen == b"owner 1000\r\nz\r\n"


@pytest.mark.parametrize("status", [0, 7, 130])
def test_exit_status(runtime: Runtime, bundle: Bundle, terminal: Terminal, status: int) -> None:
    start(runtime, bundle.args("/bin/probe", "--exit", str(status)), terminal)
    assert terminal.wait() == status


def test_input_is_passed_on(runtime: Runtime, bundle: Bundle, terminal: Terminal) -> None:
    start(runtime, bundle.sh("echo ready; read line; echo got $line"), terminal)
    terminal.read_until(b"ready")
    terminal.write(b"hello\n")
    terminal.read_until(b"got hello")
    assert terminal.wait() == 0


def test_end_of_file(runtime: Runtime, bundle: Bundle, terminal: Terminal) -> None:
    start(runtime, bundle.sh("echo ready; cat; echo end"), terminal)
    terminal.read_until(b"ready")
    terminal.write(b"\x04")
    terminal.read_until(b"end")
    assert terminal.wait() == 0


def test_interrupt_key(runtime: Runtime, bundle: Bundle, terminal: Terminal) -> None:
    start(
        runtime,
        bundle.sh("trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.02; done"),
        terminal,
    )
    terminal.read_until(b"ready")
    terminal.write(b"\x03")
    terminal.read_until(b"interrupted")
    assert terminal.wait() == 5


def test_size_at_the_start(runtime: Runtime, bundle: Bundle, terminal: Terminal) -> None:
    terminal.resize(33, 111)
    start(runtime, bundle.sh("sleep 0.2; stty size"), terminal)
    terminal.read_until(b"33 111")
    assert terminal.wait() == 0


@pytest.mark.spec(
    "/process/consoleSize", "/process/consoleSize/height", "/process/consoleSize/width"
)
def test_size_of_config(runtime: Runtime, bundle: Bundle, server: ConsoleSocket) -> None:
    """consoleSize counts where the caller has no terminal of its own to take the size from."""
    bundle.set("/process/consoleSize", {"height": 44, "width": 122}).set("/process/terminal", True)
    runtime.create(bundle.sh("stty size"), "--console-socket", server.path).ok()
    with server.receive() as console:
        runtime.start(bundle.id).ok()
        console.read_until(b"44 122")


def test_change_of_size(runtime: Runtime, bundle: Bundle, terminal: Terminal) -> None:
    terminal.resize(20, 70)
    start(
        runtime,
        bundle.sh("trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done"),
        terminal,
    )
    terminal.read_until(b"ready")
    terminal.resize(25, 99)
    terminal.read_until(b"25 99")
    runtime.kill(bundle.id).ok()
    assert terminal.wait() == 128 + signal.SIGKILL


def test_much_output(runtime: Runtime, bundle: Bundle, terminal: Terminal) -> None:
    start(runtime, bundle.sh("seq 1 100000"), terminal)
    assert terminal.wait() == 0
    lines = terminal.seen.decode().split()
    assert len(lines) == 100000
    assert lines[-1] == "100000"


def test_the_callers_terminal_is_as_before(
    runtime: Runtime, bundle: Bundle, terminal: Terminal
) -> None:
    before = termios.tcgetattr(terminal.slave)
    start(runtime, bundle.sh("stty raw -echo; exit 0"), terminal)
    assert terminal.wait() == 0
    assert termios.tcgetattr(terminal.slave) == before


def test_terminal_in_a_user_namespace(runtime: Runtime, bundle: Bundle, terminal: Terminal) -> None:
    start(runtime, bundle.user_namespace().sh("test -t 0 && echo fine"), terminal)
    assert terminal.wait() == 0
    assert terminal.seen == b"fine\r\n"


def test_no_terminal_inside_on_a_terminal_outside(
    runtime: Runtime, bundle: Bundle, terminal: Terminal
) -> None:
    """terminal: false hands the streams through, but not the terminal's control."""
    terminal.spawn(runtime.argv("run", "--bundle", bundle.write(), bundle.id))
    assert terminal.wait() == 0
    assert b'"controlling_tty":0' in terminal.seen


@pytest.mark.only("ocirun")
def test_run_without_a_terminal_of_the_caller(runtime: Runtime, bundle: Bundle) -> None:
    """The container has one all the same, as under script(1); runc and crun refuse."""
    assert runtime.probe(bundle.set("/process/terminal", True))["tty"] == [1, 1, 1]


# The console socket


def test_console_socket(runtime: Runtime, bundle: Bundle, server: ConsoleSocket) -> None:
    bundle.set("/process/terminal", True).sh("tty; read line; echo got $line")
    runtime.create(bundle, "--console-socket", server.path).ok()
    with server.receive() as console:
        assert os.isatty(console.master)
        console.resize(24, 80)
        runtime.start(bundle.id).ok()
        console.read_until(b"/dev/pts/0")
        console.write(b"hello\n")
        console.read_until(b"got hello")
        runtime.wait_status(bundle.id, "stopped")


def test_console_socket_of_a_detached_run(
    runtime: Runtime, bundle: Bundle, server: ConsoleSocket
) -> None:
    bundle.set("/process/terminal", True).sh("echo said; sleep 1000")
    runtime.run(bundle, "--detach", "--console-socket", server.path).ok()
    with server.receive() as console:
        console.read_until(b"said")
        runtime.kill(bundle.id).ok()
        runtime.wait_status(bundle.id, "stopped")


def test_create_with_a_terminal_needs_a_console_socket(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle.set("/process/terminal", True)).failed("console")
    assert runtime.containers() == []


def test_console_socket_without_a_terminal(
    runtime: Runtime, bundle: Bundle, server: ConsoleSocket
) -> None:
    runtime.create(bundle, "--console-socket", server.path).failed("console|terminal")
    assert runtime.containers() == []


def test_missing_console_socket(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/process/terminal", True)
    runtime.create(bundle, "--console-socket", bundle.path / "none").failed("no such file")
    assert runtime.containers() == []


def test_nobody_listens_on_the_console_socket(
    runtime: Runtime, bundle: Bundle, server: ConsoleSocket
) -> None:
    server.server.close()
    bundle.set("/process/terminal", True)
    runtime.create(bundle, "--console-socket", server.path).failed("refused")
    assert runtime.containers() == []


def test_console_socket_with_a_long_path(
    runtime: Runtime, bundle: Bundle, server: ConsoleSocket
) -> None:
    """Longer than the 107 bytes of a socket address: an engine's folder may be deep."""
    deep = bundle.path / ("d" * 100)
    deep.mkdir()
    os.rename(server.path, deep / "console")
    bundle.set("/process/terminal", True).sh("echo here")
    runtime.create(bundle, "--console-socket", deep / "console").ok()
    with server.receive() as console:
        runtime.start(bundle.id).ok()
        console.read_until(b"here")


def test_console_closed_early(runtime: Runtime, bundle: Bundle, server: ConsoleSocket) -> None:
    """The engine dies: the process gets SIGHUP."""
    bundle.set("/process/terminal", True).drop_namespace("pid").sh("sleep 1000")
    runtime.create(bundle, "--console-socket", server.path).ok()
    with server.receive() as console:
        runtime.start(bundle.id).ok()
        wait_for(
            lambda: (
                Path(f"/proc/{runtime.state(bundle.id)['pid']}/comm").read_text()
                in ("sleep\n", "sh\n")
            ),
            "sh",
        )
        time.sleep(0.05)
        assert console.master
    runtime.wait_status(bundle.id, "stopped")
