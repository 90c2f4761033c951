"""The agent that answers for system calls with SCMP_ACT_NOTIFY: it gets the listener.

config-linux.md, "The Container Process State".
"""

import _socket
import posix

from ocirun.errors import StepFailed
from ocirun.executor.parent import Birth
from ocirun.linux.fs import O_PATH
from ocirun.linux.process import pidfd_getfd
from ocirun.plan.step import Plan
from ocirun.spec.fastjson import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_POINTER = "/linux/seccomp/listenerPath"


def hand_over(plan: Plan, state: "dict[str, Any]", birth: Birth, fd: int, number: int) -> None:
    """Send the listener to the agent, with the container process state.

    Args:
        plan, birth: of the process, which waits for the end of this.
        state: of the container (`oci_state`).
        fd: the listener, which is closed here; -1: it is still to be taken from init.
        number: then, the listener's descriptor in init.

    Raises StepFailed.
    """
    path, metadata = plan.listener
    message = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": birth.pid,
        **({"metadata": metadata} if metadata else {}),
        "state": state,
    }
    call = f"pidfd_getfd({number})"
    try:
        if fd < 0:
            fd = _take(birth.pid, number)
        call = "connect"
        _send(path, dumps(message).encode(), fd)
    except OSError as error:
        raise StepFailed(
            f"cannot hand the listener over to the seccomp agent at {path}",
            pointer=_POINTER,
            syscall=call,
            errno=error.errno or 0,
            path=path,
            hint="does the agent run, and listen on a stream socket of this name?",
        ) from None
    finally:
        if fd >= 0:
            posix.close(fd)


def _take(pid: int, number: int) -> int:
    """A descriptor of init (pidfd_getfd(2))."""
    pidfd = posix.pidfd_open(pid)
    try:
        return pidfd_getfd(pidfd, number)
    finally:
        posix.close(pidfd)


def _send(path: str, data: bytes, fd: int) -> None:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        # By way of a descriptor: an address has room for 107 bytes (unix(7)).
        place = posix.open(path, O_PATH | posix.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{place}")
        finally:
            posix.close(place)
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little"))
        data = data[sock.sendmsg([data], [rights]) :]
        if data:  # an agent that has all of it may have gone
            sock.sendall(data)
    finally:
        sock.close()
