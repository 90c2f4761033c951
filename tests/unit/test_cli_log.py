"""Where --log sends messages: files, the journal and syslog, with fake daemons."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirun.cli import daemons, entry, log
from ocirun.cli.options import Options

LINES = "first\nsecond \N{SNOWMAN}"


@pytest.fixture(autouse=True)
def options() -> Iterator[None]:
    yield
    log.setup(Options())


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of both daemons."""
    path = str(tmp_path / "socket")
    monkeypatch.setattr(daemons, "JOURNAL", path)
    monkeypatch.setattr(daemons, "SYSLOG", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.settimeout(5)
        yield server


def fields(entry_: bytes) -> dict[str, str]:
    """The fields of an entry as systemd's documentation of the native protocol has them."""
    found = {}
    while entry_:
        key, _, rest = entry_.partition(b"\n")
        size = int.from_bytes(rest[:8], "little")
        found[key.decode()] = rest[8 : 8 + size].decode()
        assert rest[8 + size : 9 + size] == b"\n"
        entry_ = rest[9 + size :]
    return found


@pytest.mark.parametrize(("level", "priority"), [("error", "3"), ("warning", "4"), ("debug", "7")])
def test_journal(daemon: socket.socket, level: str, priority: str) -> None:
    assert daemons.send("journald", "web", level, LINES)
    assert fields(daemon.recv(10000)) == {
        "MESSAGE": LINES, "PRIORITY": priority, "SYSLOG_IDENTIFIER": "web", "ID": "web",
    }  # fmt: skip


SYSLOG = r"<11>[A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d web\[\d+\]: first second \N{SNOWMAN}"


def test_syslog(daemon: socket.socket) -> None:
    assert daemons.send("syslog", "web", "error", LINES)
    assert re.fullmatch(SYSLOG, daemon.recv(10000).decode())


def test_older_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that takes a stream, in which a NUL ends an entry."""
    monkeypatch.setattr(daemons, "SYSLOG", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(daemons.SYSLOG)
        server.listen()
        assert daemons.send("syslog", "web", "error", LINES)
        with server.accept()[0] as connection:
            assert re.fullmatch(SYSLOG + "\0", connection.recv(10000).decode())


@pytest.mark.contract("log drivers `file:`, `journald:`, `syslog:`")
@pytest.mark.parametrize("name", ["web", ""])
@pytest.mark.parametrize("driver", ["journald", "syslog"])
def test_error(
    daemon: socket.socket, capfd: pytest.CaptureFixture[str], driver: str, name: str
) -> None:
    assert entry.guarded(["--log", f"{driver}:{name}", "state", "a/b"]) == 1
    text = daemon.recv(10000).decode()
    assert "invalid container id 'a/b'" in text
    assert f"{name or 'ocirun'}" in text
    assert capfd.readouterr().err.startswith("ocirun: invalid container id 'a/b'\n")


@pytest.mark.contract("log drivers `file:`, `journald:`, `syslog:`")
@pytest.mark.parametrize("log", ["journald:web", "syslog:web", "file:/nowhere/log", "/nowhere/log"])
def test_nobody_takes_it(
    log: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(daemons, "JOURNAL", "/nowhere/socket")
    monkeypatch.setattr(daemons, "SYSLOG", "/nowhere/socket")
    assert entry.guarded(["--log", log, "state", "a/b"]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "ocirun: invalid container id 'a/b'"
    assert lines[-1] == f"ocirun: cannot write to the log {log}"


@pytest.mark.contract("log drivers `file:`, `journald:`, `syslog:`")
@pytest.mark.parametrize("prefix", ["", "file:", "odd:"])
def test_file(
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What no driver is named by is a path, with its colon, as runc has it."""
    monkeypatch.chdir(tmp_path)
    assert entry.guarded(["--log", f"{prefix}log", "--log-format", "json", "state", "a/b"]) == 1
    name = "odd:log" if prefix == "odd:" else "log"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == capfd.readouterr().err


def test_debug_message_without_a_log_that_takes_it(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup(Options(log="/nowhere/log", debug=True))
    log.debug("something")
    assert 'level=debug msg="something"' in capfd.readouterr().err
