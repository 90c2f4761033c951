"""The process that becomes CRIU: a child of this process, or of the library's executor.

What it needs is plain data, so that it can be sent to the executor. Its descriptors have fixed
numbers: 0, 1 and 2 are the container's streams, and once more from STREAMS on, since CRIU closes
those that it hands on; IMAGES and WORK are folders; from HELD on are others that it inherits. What
CRIU restores becomes its sibling: a child of who has made it.
"""

import _signal
import _socket
import os
import posix
from errno import EBADF
from fcntl import F_DUPFD_CLOEXEC, fcntl

from ocirun.executor.parent import Process
from ocirun.executor.paths import make
from ocirun.linux.clone import CLONE_NEWNS, unshare
from ocirun.linux.ffi import SyscallError
from ocirun.linux.mount import MS_BIND, MS_REC, MS_SLAVE, mount
from ocirun.linux.process import (
    CLOSE_RANGE_CLOEXEC,
    PR_SET_NO_NEW_PRIVS,
    close_range,
    prctl,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Protocol

    Root = tuple[bytes, tuple[Any, ...] | None, list[tuple[bytes, bool]]]
    Facts = tuple[str, list[tuple[bytes, bytes]], tuple[str, str], Root | None, bool]

    class Criu(Protocol):
        """A process of CRIU."""

        pid: int

        def wait(self) -> object:
            """Wait for its end."""

        def close(self) -> None:
            """Let go of it."""

    class Family(Protocol):
        """Who has CRIU, and what it restores, as a child."""

        def start(self, launch: "Launch", line: "_socket.socket") -> Criu:
            """Make the process that becomes CRIU; `line` is its end of the socket."""

        def adopt(self, pid: int) -> Process:
            """The process that CRIU has made a child."""


STREAMS, IMAGES, WORK, HELD = 7, 10, 11, 12
_LAST_FD = 0xFFFFFFFF
_ASIDE = 64  # above all fixed numbers


class Launch:
    """What a process of CRIU starts with.

    Attributes:
        program: the path of criu.
        images, work: folders, opened by the process itself: CRIU must not work in a directory of
            a mount namespace that it is not in. "" for none.
        root: None, or (directory, the arguments of an overlay on it or None, [(path, whether a
            directory)] of what must be there): it is made ready in a mount namespace of its own.
        no_new_privileges: CRIU, and what it restores, cannot gain privileges by execve
            (prctl(2), PR_SET_NO_NEW_PRIVS).
        held: descriptors that CRIU inherits; they become HELD, HELD + 1, ...
    """

    def __init__(self, program: str, images: str = "", work: str = "") -> None:
        self.program = program
        self.images = images
        self.work = work
        self.root: Root | None = None
        self.no_new_privileges = False
        self.held: list[int] = []

    def facts(self) -> "Facts":
        """All but the descriptors, in the form that marshal knows."""
        environment = list(os.environb.items())
        folders = (self.images, self.work)
        return self.program, environment, folders, self.root, self.no_new_privileges


class Here:
    """CRIU and what it restores are children of this process."""

    def start(self, launch: Launch, line: "_socket.socket") -> "Criu":
        """Fork."""
        pid = posix.fork()
        if pid == 0:
            become(launch.facts(), line.fileno(), (0, 1, 2), launch.held)
        return Own(pid)

    def adopt(self, pid: int) -> Process:
        """It is a child already."""
        return Process(pid)


class Own:
    """A CRIU that is this process's child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> None:
        """Wait for its end."""
        posix.waitpid(self.pid, 0)

    def close(self) -> None:
        """Nothing is held."""


def become(facts: "Facts", line: int, streams: "tuple[int, ...]", held: list[int]) -> "NoReturn":
    """Be CRIU. Runs in the new process; does not return.

    Over `line` goes CRIU's socket, and if it cannot be executed "errno call".
    """
    try:
        teller = _socket.socket(fileno=fcntl(line, F_DUPFD_CLOEXEC, _ASIDE))
        try:
            _execute(facts, teller, streams, held)
        except OSError as error:
            call = error.call if isinstance(error, SyscallError) else f"open({error.filename})"
            teller.send(f"{error.errno} {call}".encode())
    finally:
        posix._exit(1)


def _execute(
    facts: "Facts", teller: "_socket.socket", streams: "tuple[int, ...]", held: list[int]
) -> None:
    program, environment, folders, root, no_new_privileges = facts
    # First all out of the way of the fixed numbers.
    numbers = (*enumerate(streams), *enumerate(streams, STREAMS), *enumerate(held, HELD))
    kept = {number: _aside(fd) for number, fd in numbers}
    if root is not None:
        unshare(CLONE_NEWNS)
        mount(None, b"/", None, MS_REC | MS_SLAVE)
        _make_ready(*root)
    for wanted, path in zip((IMAGES, WORK), folders, strict=True):
        if path:
            kept[wanted] = _aside(posix.open(path, posix.O_DIRECTORY | posix.O_CLOEXEC))
    # CRIU finds descriptors by number in the process that has made its socket: itself.
    far, sock = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    number = _aside(sock.fileno())
    right = far.fileno().to_bytes(4, "little")
    teller.sendmsg([b"+"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, right)])
    close_range(3, _LAST_FD, CLOSE_RANGE_CLOEXEC)
    posix.set_inheritable(number, True)
    for wanted, fd in kept.items():
        if fd >= 0:
            posix.dup2(fd, wanted)
    if no_new_privileges:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    posix.execve(program, ["criu", "swrk", str(number)], dict(environment))


def _aside(fd: int) -> int:
    """A copy of a descriptor above all fixed numbers; -1 if it is not open."""
    try:
        return fcntl(fd, F_DUPFD_CLOEXEC, _ASIDE)
    except OSError as error:
        if error.errno != EBADF:
            raise
        return -1


def _make_ready(
    place: bytes, overlay: "tuple[Any, ...] | None", wanted: list[tuple[bytes, bool]]
) -> None:
    """Make the root file system ready for CRIU, in a mount namespace that nobody sees."""
    if overlay is not None:
        from ocirun.executor.filesystem import overlay as mount_overlay

        mount_overlay(_Place(), *overlay)  # type: ignore[arg-type]
    else:
        mount(place, place, None, MS_BIND | MS_REC)  # CRIU wants a mount point
    root = posix.open(place, posix.O_DIRECTORY | posix.O_CLOEXEC)
    for path, directory in wanted:
        try:
            posix.close(make(root, path, directory))
        except SyscallError as error:
            raise SyscallError(f"mkdir({path.decode(errors='replace')})", error.errno) from None
    posix.close(root)


class _Place:
    """What the step `overlay` knows of init."""

    root = -1
    log = b""
