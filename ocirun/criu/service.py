"""One `criu swrk` process: CRIU as a child that takes requests over a socket (criu.org, "RPC").

The socket is CRIU's own; how its process is made, and the numbers of its descriptors:
`ocirun.executor.criu`. What CRIU restores becomes its sibling (rst_sibling).
"""

import _socket
import os
import posix

from ocirun.criu.hierarchy import Hierarchy
from ocirun.criu.protobuf import decode, encode
from ocirun.errors import CriuFailed, StepFailed, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirun.criu.protobuf import Message
    from ocirun.executor.criu import Criu, Family, Launch

    Notified = Callable[[str, int, int], None]

# enum criu_req_type
DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK = 1, 2, 4, 6, 9
# struct criu_req, criu_resp
_TYPE, _OPTS, _NOTIFY_SUCCESS, _FEATURES = 1, 2, 3, 5
_SUCCESS, _NOTIFIED, _ERRNO, _FEATURES_FOUND, _MESSAGE = 2, 5, 7, 8, 9
# struct criu_features
MEM_TRACK, LAZY_PAGES = 1, 2
_LOG_LINES = 12
_LOG_END = 1 << 16
_BUFFER = 1 << 16
FURTHER = ("/usr/local/sbin", "/usr/sbin")  # not everybody has these in $PATH


def find_criu() -> str:
    """The path of criu. Raises Unsupported if there is none in $PATH."""
    path = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    for folder in [*path.split(":"), *FURTHER]:
        if folder and posix.access(f"{folder}/criu", posix.X_OK):
            return f"{folder}/criu"
    raise Unsupported(
        "there is no criu in $PATH, and checkpoint and restore are its work",
        hint="install CRIU (Debian: `apt install criu`)",
    )


class Service:
    """A `criu swrk` process.

    Args:
        launch: what it starts with.
        family: whose child it is.

    Raises StepFailed.
    """

    def __init__(self, launch: "Launch", family: "Family") -> None:
        self._hierarchy = Hierarchy()
        kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        mine, theirs = _socket.socketpair(_socket.AF_UNIX, kind)
        try:
            self._process: Criu | None = family.start(launch, theirs)
            self.pid = self._process.pid
            theirs.close()
            self.sock = self._receive(mine)
        except BaseException:
            self._hierarchy.close()
            raise
        finally:
            theirs.close()
            mine.close()

    def _receive(self, line: "_socket.socket") -> "_socket.socket":
        """The socket that the new process has made, once it is CRIU."""
        sock = None
        while True:
            data, rights, _, _ = line.recvmsg(4096, 64, _socket.MSG_CMSG_CLOEXEC)
            if rights:
                sock = _socket.socket(fileno=int.from_bytes(rights[0][2][:4], "little"))
                continue
            if not data and sock is not None:
                return sock
            if sock is not None:
                sock.close()
            self._bury()
            number, _, call = data.decode("utf-8", "replace").partition(" ")
            raise StepFailed(
                "cannot make things ready for criu", syscall=call, errno=int(number or 0)
            )

    def let_others(self) -> None:
        """Let other CRIUs run beside this one, which only waits: it mounts nothing any more."""
        self._hierarchy.close()

    def close(self) -> None:
        """Let CRIU end, and wait for that."""
        self.sock.close()
        if self._process is not None:
            self._bury()
            self._hierarchy.close()

    def _bury(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.wait()
        process.close()

    def ask(self, kind: int, options: "Message", notified: "Notified | None" = None) -> None:
        """Have a request done.

        Args:
            kind: DUMP, PRE_DUMP or RESTORE.
            options: fields of criu_opts.
            notified: called for each notification with the name of the script, the pid that
                it tells (0 for none) and a descriptor that came along (-1 for none).

        Raises Failed, and whatever `notified` raises.
        """
        self.sock.sendall(encode([(_TYPE, kind), (_OPTS, options)]))
        while True:
            answer, fd = self._answer()
            if answer.get(_TYPE) != NOTIFY:
                return
            told = decode(answer.get(_NOTIFIED, b""))
            if notified is not None:
                notified(told.get(1, b"").decode(), told.get(2, 0), fd)
            self.sock.sendall(encode([(_TYPE, NOTIFY), (_NOTIFY_SUCCESS, True)]))

    def has(self, feature: int) -> bool:
        """CRIU and the kernel can do it: MEM_TRACK or LAZY_PAGES."""
        self.sock.sendall(encode([(_TYPE, FEATURE_CHECK), (_FEATURES, [(feature, True)])]))
        try:
            answer, _ = self._answer()
        except Failed:
            return False
        return bool(decode(answer.get(_FEATURES_FOUND, b"")).get(feature))

    def _answer(self) -> "tuple[dict[int, Any], int]":
        try:
            data, rights, _, _ = self.sock.recvmsg(_BUFFER, 64, _socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data, rights = b"", []
        if not data:
            raise Failed("criu has ended in the middle of it")
        answer = decode(data)
        if not answer.get(_SUCCESS):
            said = answer.get(_MESSAGE, b"").decode("utf-8", "replace")
            raise Failed(said, answer.get(_ERRNO, 0))
        return answer, int.from_bytes(rights[0][2][:4], "little") if rights else -1


class Failed(Exception):
    """CRIU says no; `failure` has the rest of the story."""

    def __init__(self, words: str, number: int = 0) -> None:
        super().__init__(words)
        self.words = words
        self.number = number


def failure(error: Failed, what: str, log: str, bundle: str = "") -> CriuFailed:
    """The error for a request that failed: its first cause and the end of CRIU's log."""
    lines = _end_of(log)
    causes = [line.partition("Error ")[2] for line in lines if "Error (" in line]
    cause = causes[0].partition("): ")[2] if causes else error.words
    return CriuFailed(
        f"criu cannot {what}" + (f": {cause}" if cause else ""),
        tuple(lines[-_LOG_LINES:]),
        errno=error.number if 0 < error.number < 134 and not cause else 0,
        path=log,
        hint="`criu check --all` tells what this kernel and this CRIU can do together",
        bundle=bundle,
    )


def _end_of(path: str) -> list[str]:
    """The last lines of a log, from shortly before the first error that is in them."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return []
    try:
        size = posix.fstat(fd).st_size
        data = posix.pread(fd, _LOG_END, max(0, size - _LOG_END))
    finally:
        posix.close(fd)
    return data.decode("utf-8", "replace").splitlines()
