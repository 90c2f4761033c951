"""What the caller of create, run, exec and restore hands in, and what it gets.

Descriptors and sockets for the container; the terminal, a pidfd and the pid file back.
"""

import _socket
import posix

from ocirun.errors import UsageError
from ocirun.executor.parent import Birth
from ocirun.linux.fs import O_PATH
from ocirun.plan.step import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.runtime.create import Request
    from ocirun.runtime.exec import ExecRequest


def check_preserved(count: int) -> None:
    """See that the descriptors to be handed on are the caller's, before ocirun opens its own."""
    for fd in range(3, 3 + count):
        try:
            posix.fstat(fd)
        except OSError:
            raise UsageError(
                f"descriptor {fd} is not open, and --preserve-fds {count} asks for it",
                syscall="fstat",
                errno=9,
                hint="the descriptors from 3 on are passed to the container without a gap",
            ) from None


def console_socket(
    spec: "dict[str, Any]", request: "Request | ExecRequest"
) -> "_socket.socket | None":
    """Connect to the console socket, or refuse a request that does not fit the terminal."""
    terminal = spec["process"].get("terminal", False)
    if request.console_socket and not terminal:
        raise UsageError(
            "a console socket is given, but process.terminal is not true",
            hint="set process.terminal (exec: --tty), or leave out --console-socket",
        )
    if terminal and not request.console_socket and not request.foreground:
        raise UsageError(
            "process.terminal is true, and nobody is there to hold the terminal",
            hint="give --console-socket, stay in the foreground (run or exec without --detach), "
            "or do without the terminal",
        )
    if not request.console_socket:
        return None
    return connect(request.console_socket, "console socket")


def connect(path: str, what: str) -> "_socket.socket":
    """Connect to a socket of the caller. Raises UsageError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        # By way of a descriptor: an address has room for 107 bytes (unix(7)).
        place = posix.open(path, O_PATH | posix.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{place}")
        finally:
            posix.close(place)
    except OSError as error:
        sock.close()
        raise UsageError(
            f"cannot connect to the {what} {path}",
            syscall="connect",
            errno=error.errno or 0,
            path=path,
        ) from None
    return sock


def size_terminal(plan: Plan) -> None:
    """Make the terminal as large as the caller's from its first moment."""
    from ocirun.executor.console import caller_size

    size = caller_size()
    if size is not None:
        plan.child = [
            Step(step.op, step.pointer, size) if step.op in ("console", "terminal") else step
            for step in plan.child
        ]


def hand_over(
    request: "Request | ExecRequest", birth: Birth, console: "_socket.socket | None"
) -> None:
    """Give the caller what it asked for: the terminal, a pidfd, the pid file."""
    if console is not None and birth.console >= 0:
        send_descriptor(console, birth.console, b"/dev/ptmx")
        posix.close(birth.console)
        birth.console = -1
    if request.pidfd_socket:
        sock = connect(request.pidfd_socket, "pidfd socket")
        pidfd = posix.pidfd_open(birth.pid)
        send_descriptor(sock, pidfd, b"pidfd")
        posix.close(pidfd)
        sock.close()
    if request.pid_file:
        write_pid_file(request.pid_file, birth.pid)


def send_descriptor(sock: "_socket.socket", fd: int, name: bytes) -> None:
    """Send a descriptor over a socket, with a word of bytes."""
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little"))
    sock.sendmsg([name], [rights])


def write_pid_file(path: str, pid: int) -> None:
    """Write a pid, digits only, so that a reader finds all of it or no file. Raises UsageError."""
    folder, slash, name = path.rpartition("/")
    aside = f"{folder}{slash}.{name}.{posix.getpid()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
    try:
        fd = posix.open(aside, flags, 0o644)
        try:
            posix.write(fd, b"%d" % pid)
        finally:
            posix.close(fd)
        posix.rename(aside, path)
    except OSError as error:
        raise UsageError(
            f"cannot write the pid file {path}", syscall="open", errno=error.errno or 0, path=path
        ) from None
