"""The filter of system calls, and init's last moments under it.

From seccomp(2) on the filter judges init too. So everything that follows has been prepared
before: after `seccomp` come `capset`, if a privilege is left to give up, and `execve`, in which
libc and the interpreter need nothing else of the kernel.

Loaded by the process that clones init, for plans with a filter (`child.load`).
"""

import _socket
import posix
import sys

from ocirun.executor.protocol import GO, LISTENER
from ocirun.linux.ffi import SyscallError, address_of, c_char_p, c_void_p, check, libc
from ocirun.linux.process import capset
from ocirun.linux.seccomp import set_mode_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.executor.child import Child

_POINTER = 8 if sys.maxsize > 2**32 else 4
_execve = libc("execve", c_char_p, c_void_p, c_void_p)


def seccomp(child: "Child", program: bytes, flags: int, way: str) -> None:
    """Install the filter, and hand its listener over to the parent, if it has one."""
    listener = set_mode_filter(program, flags)
    if not way:
        return
    call = "sendmsg"
    try:
        number = listener.to_bytes(4, "little")
        if way == "send":
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, number)
            child.sock.sendmsg([LISTENER], [rights])
        else:
            call = "write"
            posix.write(child.sock.fileno(), LISTENER + number)
        call = "read"
        answer = posix.read(child.sock.fileno(), 1)
        # Who holds the listener keeps its calls waiting, even if the agent has died.
        call = "close"
        posix.close(listener)
    except OSError as error:
        raise SyscallError(call, error.errno) from None
    if answer != GO:
        posix._exit(1)


def drop_privilege(child: "Child", effective: int, permitted: int, inheritable: int) -> None:
    """Give up the capability that was kept for seccomp(2)."""
    capset(effective, permitted, inheritable)


def prepare_execve(child: "Child") -> "Callable[[], None]":
    """execve(2) with everything in its place: a function that does nothing but the call."""
    path = child.path
    words = [key + b"=" + value for key, value in child.env.items()]
    kept = [*_pointers(child.plan.args), *_pointers(words)]
    argv, envp = address_of(kept[1]), address_of(kept[3])

    def execute() -> None:
        check(_execve(path, argv, envp), "execve")
        kept.clear()  # until here there is something at the addresses

    return execute


def _pointers(words: list[bytes]) -> tuple[bytearray, bytearray]:
    """Strings, each with its NUL, and the array of pointers to them, with a null at its end."""
    texts = bytearray(b"\0".join([*words, b""]) or b"\0")
    place = address_of(texts)
    table = bytearray()
    for word in words:
        table += place.to_bytes(_POINTER, sys.byteorder)
        place += len(word) + 1
    return texts, table + bytes(_POINTER)


STEPS: "dict[str, Callable[..., None]]" = {
    "seccomp": seccomp,
    "drop-privilege": drop_privilege,
}
