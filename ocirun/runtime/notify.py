"""sd_notify(3) out of a container: what it says reaches the socket in the caller's NOTIFY_SOCKET.

The container has a socket of its own, as with runc: in /run/notify, a folder beside the record.
`create` mounts it; who executes the command (`start`, `run`) listens there and passes on what is
said: until the container is ready, or, for a `run` in the foreground, until its end. Nobody is left
behind to do it later. Loaded only if the caller has NOTIFY_SOCKET.
"""

import _socket
import posix
import select

from ocirun.errors import StateError
from ocirun.linux.fs import O_PATH
from ocirun.plan.notify import NAME
from ocirun.runtime.settings import Settings, absolute
from ocirun.state.store import NOTIFY, Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READY = b"READY=1"
PASSED_ON = frozenset(
    (
        b"READY", b"STATUS", b"RELOADING", b"STOPPING", b"MONOTONIC_USEC", b"ERRNO",
        b"WATCHDOG", b"EXTEND_TIMEOUT_USEC",
    )
)  # fmt: skip
"""Not what names processes (MAINPID), brings descriptors or changes rights: it is not trusted."""
_LONGEST = 4096
_PATIENCE = 30.0  # seconds for the barrier, as with runc and crun


def make_folder(folder: Folder) -> str:
    """Make the folder for the container's socket; return its path."""
    posix.mkdir(NOTIFY, 0o755, dir_fd=folder.fd)
    posix.chmod(NOTIFY, 0o755, dir_fd=folder.fd)  # whatever the umask
    return absolute(f"{folder.path}/{NOTIFY}")


def relay_of(settings: Settings, folder: Folder, host: bytes) -> "Relay":
    """Listen for the container. `host` is NOTIFY_SOCKET. Raises StateError."""
    try:
        return Relay(settings, folder, host)
    except OSError as error:
        raise StateError(
            f"cannot make the notification socket of container {folder.id}",
            syscall="bind",
            errno=error.errno or 0,
            path=f"{folder.path}/{NOTIFY}/{NAME}",
        ) from None


class Relay:
    """Listens in a container's folder, and speaks to the caller's socket.

    Attributes:
        fd: readable when the container has said something.
    """

    def __init__(self, settings: Settings, folder: Folder, host: bytes) -> None:
        self._settings = settings
        self._host = host
        self._sock = _datagrams()
        self.fd = self._sock.fileno()
        self._sock.setblocking(False)
        # By way of the descriptor: a path of a socket has at most 107 bytes.
        path = f"/proc/self/fd/{folder.fd}/{NOTIFY}/{NAME}"
        try:
            posix.unlink(path)
        except FileNotFoundError:
            pass
        try:
            self._sock.bind(path)
            posix.chmod(path, 0o777)
        except BaseException:
            self._sock.close()
            raise

    def close(self) -> None:
        """Hear no more."""
        self._sock.close()

    def wait(self, pid: int) -> None:
        """Pass on what the container says until it is ready, or until init has ended.

        The caller's socket then hears which process it is, and has taken it all (barrier).
        """
        if self._listen(pid, self.take):
            self._say(b"MAINPID=%d" % pid)
            self._barrier()

    def attend(self, pid: int) -> None:
        """Pass on what the container says until init has ended."""
        self._listen(pid, self.take_in_foreground)

    def _listen(self, pid: int, take: "Callable[[], object]") -> bool:
        """Call `take` when there is something, until it is content (True), or the process ends."""
        try:
            pidfd = posix.pidfd_open(pid)
        except OSError:  # it has ended already
            return bool(take())
        poll = select.poll()
        for fd in (pidfd, self.fd):
            poll.register(fd, select.POLLIN)
        try:
            while True:
                ended = pidfd in dict(poll.poll())
                if take():
                    return True
                if ended:
                    return False
        finally:
            posix.close(pidfd)

    def take(self) -> bool:
        """Pass on what the container has said; True if it is ready now."""
        ready = False
        while True:
            try:
                # Descriptors that come along are closed by the kernel.
                message = self._sock.recv(_LONGEST)
            except BlockingIOError:
                return ready
            lines = [x for x in message.split(b"\n") if x.partition(b"=")[0] in PASSED_ON]
            ready = ready or READY in lines
            if lines:
                self._say(b"\n".join(lines))

    def take_in_foreground(self) -> None:
        """The same, for a runtime that stays: it is the main process itself."""
        if self.take():
            self._say(b"MAINPID=%d" % posix.getpid())

    def _say(self, message: bytes, rights: bytes = b"") -> None:
        sock = _datagrams()
        place = -1
        try:
            sock.settimeout(_PATIENCE)  # somebody may not read
            address: bytes | str = self._host
            if self._host[:1] == b"@":
                address = b"\0" + self._host[1:]
            else:
                place = posix.open(self._host, O_PATH | posix.O_CLOEXEC)
                address = f"/proc/self/fd/{place}"
            control = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if rights else []
            sock.sendmsg([message], control, 0, address)
        except OSError as error:
            name = self._host.decode("utf-8", "replace")
            words = posix.strerror(error.errno) if error.errno else str(error)
            self._settings.warn(f"nobody is told of {message!r} at NOTIFY_SOCKET {name}: {words}")
        finally:
            sock.close()
            if place >= 0:
                posix.close(place)

    def _barrier(self) -> None:
        """Wait until all that was said has been read (sd_notify_barrier(3)).

        Else systemd might no longer find out who has said it.
        """
        reading, writing = posix.pipe2(posix.O_CLOEXEC)
        try:
            self._say(b"BARRIER=1", writing.to_bytes(4, "little"))
            posix.close(writing)
            poll = select.poll()
            poll.register(reading, 0)  # POLLHUP: nobody has the other end any more
            if not poll.poll(_PATIENCE * 1000):
                self._settings.warn("NOTIFY_SOCKET: no answer to BARRIER=1 for 30 seconds")
        finally:
            posix.close(reading)


def _datagrams() -> "_socket.socket":
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
