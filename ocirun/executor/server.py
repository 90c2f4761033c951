"""The library's executor: a small process that clones containers for a larger one.

A clone costs as much as the process that makes it is large, and needs care in one
with threads. So the library starts this process once, by posix_spawn, and sends
it plans. It decides nothing, holds no state on disk, and knows no container but
as a pid: when it dies, the containers live on.

    library                              executor
      |  request, descriptors ------------> |   control socket
      |                                     |  clone3 -> init
      | <--------------- BORN pid + pidfd   |   the container's own line
      |          or FAILED, as in protocol  |
      |                                     |  wait4
      | <--------- ENDED status and usage   |   the line, then its end

A request is in marshal's form: (names of the descriptors, number of descriptors that the
container gets besides, plan or None). "line", "sock" and the three of stdio
are always there. A plan that is too long for a packet comes as a memory file, "plan".
Nothing here outlives the caller: at the end of the control socket the executor exits.
"""

import _signal
import _socket
import gc
import marshal
import posix
import select
import sys

from ocirun.executor.child import Link
from ocirun.executor.parent import NotBorn, bear
from ocirun.executor.protocol import BORN, FAILED, INTERNAL, failed
from ocirun.plan.wire import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

ENDED = b"X"
CONTROL = 3  # number of the control socket in the executor
MAX_REQUEST = 64 << 10  # bytes of a request in one packet
_MAX_RIGHTS = 64


class Child:
    """A container that this process is the parent of: its pid, and the line to its owner."""

    __slots__ = ("line", "pid")

    def __init__(self, pid: int, line: "_socket.socket") -> None:
        self.pid = pid
        self.line = line


def main() -> "NoReturn":
    """Serve until the control socket ends."""
    gc.disable()
    # Init inherits the memory: nothing of what is here now will be garbage.
    gc.freeze()
    control = _socket.socket(fileno=CONTROL)
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    poll = select.epoll(select.EPOLL_CLOEXEC)
    poll.register(CONTROL, select.EPOLLIN)
    children: dict[int, Child] = {}
    while True:
        for fd, _ in poll.poll():
            if fd != CONTROL:
                poll.unregister(fd)
                posix.close(fd)
                _bury(children.pop(fd))
            elif not _serve(control, poll, children):
                posix._exit(0)


def _serve(control: "_socket.socket", poll: "select.epoll", children: "dict[int, Child]") -> bool:
    """Answer one request. False at the end of the socket."""
    space = _socket.CMSG_SPACE(4 * _MAX_RIGHTS)
    message, rights, _, _ = control.recvmsg(MAX_REQUEST, space, _socket.MSG_CMSG_CLOEXEC)
    if not message:
        return False
    fds: list[int] = []
    for _, _, data in rights:
        fds += [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data) - 3, 4)]
    names, preserved, encoded = marshal.loads(message)  # noqa: S302, from our own parent
    named = dict(zip(names, fds, strict=True))
    line = _socket.socket(fileno=named.pop("line"))
    try:
        try:
            pid = _bear(named, preserved, encoded)
        finally:
            for fd in named.values():
                posix.close(fd)
    except NotBorn as error:
        _tell(line, error.message)
        return True
    except OSError as error:
        _tell(line, failed(INTERNAL, error.errno or 0, str(error)))
        return True
    pidfd = posix.pidfd_open(pid)
    children[pidfd] = Child(pid, line)
    poll.register(pidfd, select.EPOLLIN)
    control_message = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pidfd.to_bytes(4, "little"))]
    try:
        line.sendmsg([BORN + pid.to_bytes(8, "little")], control_message)
    except OSError:  # the owner is gone; the container is not
        pass
    return True


def _bear(named: dict[str, int], preserved: int, encoded: bytes | None) -> int:
    if encoded is None:
        size = posix.fstat(named["plan"]).st_size
        encoded = posix.pread(named["plan"], size, 0)
    plan = decode(encoded)
    link = Link()
    link.preserved = preserved
    link.stdio = (named["stdin"], named["stdout"], named["stderr"])
    link.creating = named.get("creating", -1)
    link.created = named.get("created", -1)
    if plan.hooks:
        from ocirun.executor.hooks import run_hooks

        link.run_hooks = run_hooks
    sock = _socket.socket(fileno=posix.dup(named["sock"]))
    if "listener" in named:
        link.listener = _socket.socket(fileno=posix.dup(named["listener"]))
    try:
        return bear(plan, link, sock, named.get("into", -1), False)
    finally:
        sock.close()
        if link.listener is not None:
            link.listener.close()


def _bury(child: Child) -> None:
    """Wait for a container that has ended, and tell its owner."""
    pid, status, usage = posix.wait4(child.pid, 0)
    facts = (status, usage.ru_utime, usage.ru_stime, usage.ru_maxrss)
    _tell(child.line, ENDED + marshal.dumps(facts))


def _tell(line: "_socket.socket", message: bytes) -> None:
    """The last words on a line."""
    try:
        line.send(message)
    except OSError:  # nobody listens any more
        pass
    line.close()


__all__ = ["BORN", "CONTROL", "ENDED", "FAILED", "MAX_REQUEST", "main"]

if __name__ == "__main__":
    sys.exit("the library starts this module; it is no command")
