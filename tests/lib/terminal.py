"""Terminals: one that the runtime is started on, and the console socket."""

import array
import fcntl
import os
import select
import socket
import struct
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType


def window(rows: int, columns: int) -> bytes:
    return struct.pack("HHHH", rows, columns, 0, 0)


class Terminal:
    """The master side of a pseudo terminal; with `spawn`, a program that runs on its slave."""

    def __init__(self, master: int | None = None) -> None:
        self.seen = b""
        self.process: subprocess.Popen[bytes] | None = None
        if master is None:
            self.master, self.slave = os.openpty()
        else:
            self.master, self.slave = master, -1

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        if self.slave >= 0:
            os.close(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        """Changes the size; the kernel sends SIGWINCH to the foreground processes."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, window(rows, columns))

    def spawn(self, argv: list[str]) -> None:
        """Starts a program in a new session whose controlling terminal this is."""

        def own() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            argv,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            preexec_fn=own,  # noqa: PLW1509
        )

    def write(self, text: bytes) -> None:
        os.write(self.master, text)

    def read_until(self, wanted: bytes, seconds: float = 10) -> bytes:
        """Everything seen so far, once `wanted` is in it."""
        deadline = time.monotonic() + seconds
        while wanted not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain for {wanted!r}; seen: {self.seen!r}"
            if not self._read(left):
                assert wanted in self.seen, f"closed before {wanted!r}; seen: {self.seen!r}"
        return self.seen

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], seconds)
        try:
            data = os.read(self.master, 65536) if ready else b""
        except OSError:  # EIO: the other side is closed
            data = b""
        self.seen += data
        return bool(data) or not ready

    def wait(self, seconds: float = 20) -> int:
        """Exit status of the program; reads on while it ends."""
        assert self.process
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"does not end; seen: {self.seen!r}"
            self._read(0.05)
        while select.select([self.master], [], [], 0)[0] and self._read(0):
            pass
        return self.process.returncode


class ConsoleSocket:
    """The listening end of `--console-socket`: an engine that waits for a terminal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(str(path))
        self.server.listen(1)
        self.server.settimeout(10)

    def __enter__(self) -> "ConsoleSocket":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.close()

    def receive(self) -> Terminal:
        """The terminal whose master the runtime sends."""
        connection, _ = self.server.accept()
        with connection:
            connection.settimeout(10)
            fds = array.array("i")
            _data, ancillary, _flags, _address = connection.recvmsg(4096, 256)
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        assert len(fds) == 1, f"{len(fds)} descriptors instead of one"
        return Terminal(fds[0])
