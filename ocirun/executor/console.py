"""The terminal of a foreground container: the caller's, passed through a pseudo terminal.

Loaded only for `run` with process.terminal and no console socket.
"""

import _signal
import posix
import select
import termios
from fcntl import ioctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Listener(Protocol):
        """What is listened to besides: `fd` is readable when there is something to take."""

        fd: int

        def take_in_foreground(self) -> None:
            """Take it."""


_TIOCGWINSZ, _TIOCSWINSZ = 0x5413, 0x5414
_CHUNK = 1 << 16


def serve(master: int, pid: int, besides: "Listener | None" = None) -> int:
    """Pass bytes and window sizes between the caller's terminal and the container's.

    The caller's terminal is in raw mode meanwhile, so that Ctrl-C and the like
    reach the container as keys.

    Args:
        master: descriptor of the pseudo terminal; closed at the end.
        pid: of init, a child of this process.
        besides: what is listened to meanwhile.

    Returns:
        The wait status of init.
    """
    saved = _raw(0)
    wake_read, wake_write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)

    def resized(number: int, frame: object) -> None:
        _copy_size(master)
        try:
            posix.write(wake_write, b"r")
        except OSError:
            pass

    previous = _signal.signal(_signal.SIGWINCH, resized)
    pidfd = posix.pidfd_open(pid)
    try:
        _copy_size(master)
        _relay(master, pidfd, wake_read, besides)
        return posix.waitpid(pid, 0)[1]
    finally:
        if saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
        _signal.signal(_signal.SIGWINCH, previous or _signal.SIG_DFL)
        for fd in (pidfd, wake_read, wake_write, master):
            posix.close(fd)


def _raw(fd: int) -> "list[Any] | None":
    """Put a terminal into raw mode (termios(3), cfmakeraw). Returns what it was before."""
    try:
        before = termios.tcgetattr(fd)
    except termios.error:
        return None
    mode = list(before)
    mode[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )  # fmt: skip
    mode[1] &= ~termios.OPOST
    mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(fd, termios.TCSADRAIN, mode)
    return before


def caller_size() -> tuple[int, int] | None:
    """(rows, columns) of the caller's terminal; None if it has none."""
    for fd in range(3):
        try:
            size = ioctl(fd, _TIOCGWINSZ, bytes(8))
        except OSError:
            continue
        rows, columns = int.from_bytes(size[:2], "little"), int.from_bytes(size[2:4], "little")
        if rows or columns:
            return rows, columns
    return None


def _copy_size(master: int) -> None:
    """Give the container's terminal the size of the caller's, if that is a terminal."""
    size = caller_size()
    if size is not None:
        rows, columns = size
        ioctl(
            master,
            _TIOCSWINSZ,
            rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4),
        )


def _relay(master: int, pidfd: int, wake: int, besides: "Listener | None") -> None:
    """Copy in both directions until init has ended and all that it wrote has been read."""
    poll = select.poll()
    for fd in (0, master, pidfd, wake):
        poll.register(fd, select.POLLIN)
    if besides is not None:
        poll.register(besides.fd, select.POLLIN)
    pending = b""
    ended = False
    while True:
        events = dict(poll.poll(0 if ended else -1))
        if wake in events:
            posix.read(wake, 64)
        if besides is not None:
            besides.take_in_foreground()
        if master in events:
            data = _read(master)
            _write_all(1, data)
            if not data:
                poll.unregister(master)
                if ended:
                    return
                continue
        elif ended:
            return
        if 0 in events:
            data = _read(0)
            pending += data
            if not data:
                poll.unregister(0)
                pending += b"\x04"  # end of input: Ctrl-D
        if pending:
            pending = pending[_write(master, pending) :]
        if pidfd in events:
            ended = True
            poll.unregister(pidfd)


def _read(fd: int) -> bytes:
    try:
        return posix.read(fd, _CHUNK)
    except OSError:  # EIO: all of the other side is closed
        return b""


def _write(fd: int, data: bytes) -> int:
    try:
        return posix.write(fd, data)
    except OSError:
        return len(data)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[_write(fd, data) :]
