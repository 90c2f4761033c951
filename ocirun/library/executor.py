"""The library's end of the executor (`ocirun.executor.server` is the other one).

`Executor.clone` is what `executor.parent.spawn` calls instead of cloning here. It
returns a `RemoteProcess`: a child of the executor, of which this process has a
pidfd, and a line on which its end is told. SIGCHLD and wait(2) of this process are
never touched.
"""

import _socket
import errno
import marshal
import os
import posix
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ocirun.errors import ExecutorDied, OcirunError
from ocirun.executor.child import Link, is_common
from ocirun.executor.parent import NotBorn, Process
from ocirun.executor.protocol import BORN, MAX_MESSAGE
from ocirun.executor.server import ADOPTION, CONTROL, CRIU, ENDED, MAX_REQUEST
from ocirun.plan.step import Plan
from ocirun.plan.wire import encode

if TYPE_CHECKING:
    from ocirun.executor.child import Cloner
    from ocirun.executor.criu import Launch

_START = "import sys; sys.path[:] = {path!r}; from ocirun.executor.server import main; main()"
_SIGNALS = sorted(set(range(1, signal.NSIG)) - {signal.SIGKILL, signal.SIGSTOP, 32, 33})


class End(NamedTuple):
    """How a container ended.

    Attributes:
        status: wait status of init (wait(2)); None if nobody could wait for it,
            since its executor had died.
        user, system: seconds of processor time of init and what it waited for.
        max_rss: the largest resident memory of one of its processes, KiB.
    """

    status: int | None
    user: float = 0.0
    system: float = 0.0
    max_rss: int = 0


class RemoteProcess(Process):
    """An init process that is a child of the executor.

    Attributes:
        pidfd: refers to it, whoever gets its pid next.
        line: socket on which the executor tells its end; readable then.
    """

    def __init__(self, pid: int, pidfd: int, line: "_socket.socket") -> None:
        super().__init__(pid)
        self.pidfd = pidfd
        self.line = line
        self._end: End | None = None
        self._orphaned = False
        self._lock = threading.Lock()

    def ended(self) -> End | None:
        """How it ended, or None while it lives. Does not wait."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> End | None:
        """Wait for its end, at most `timeout` seconds. None if it lives longer."""
        if self._end is None:
            limit = None if timeout is None else time.monotonic() + timeout
            if not readable(self.line.fileno(), timeout):
                return None
            with self._lock:
                self._hear()
            if self._end is None:  # the executor has died; the container may well live
                left = None if limit is None else max(0.0, limit - time.monotonic())
                if not readable(self.pidfd, left):
                    return None
                self._end = End(None)
        return self._end

    def _hear(self) -> None:
        """Take the executor's last word, which comes once, for all that wait."""
        if self._end is not None or self._orphaned:
            return
        try:
            message = self.line.recv(MAX_MESSAGE)
        except ConnectionResetError:
            message = b""
        if message[:1] == ENDED:
            self._end = End(*marshal.loads(message[1:]))  # noqa: S302, our own child
        else:
            self._orphaned = True

    def awaited(self) -> int:
        """The descriptor to wait for: of the line, or without an executor of the process."""
        return self.pidfd if self._orphaned else self.line.fileno()

    def kill(self, number: int) -> None:
        """Send a signal; a process that has ended gets none."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass

    def end(self) -> None:
        """Kill it, wait until it is gone, and let go of it."""
        if self.pidfd >= 0:
            self.kill(signal.SIGKILL)
            self.wait()
            self.close()

    def close(self) -> None:
        """Let go of the descriptors. The process lives on, if it lives."""
        if self.pidfd >= 0:
            posix.close(self.pidfd)
            self.pidfd = -1
            self.line.close()

    def __del__(self) -> None:
        self.close()


def readable(fd: int, timeout: float | None) -> bool:
    """Wait until a descriptor is readable, at most `timeout` seconds; False if it is not then."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    limit = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if limit is None else max(0.0, limit - time.monotonic())
        if poll.poll(None if left is None else left * 1000):
            return True
        if left is not None and left <= 0:
            return False


class Executor:
    """Starts the executor process when it is needed, again if it has died, and talks to it.

    Safe with threads: each container has a line of its own, and a request is one packet.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: _socket.socket | None = None
        self._owner = 0
        self.pid = 0

    def close(self) -> None:
        """End the executor. Its containers live on."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        control, self._control = self._control, None
        if control is None:
            return
        control.close()
        if self._owner == posix.getpid():
            try:
                posix.waitpid(self.pid, 0)
            except ChildProcessError:  # the caller waits for children of all kinds
                pass
        self.pid = 0

    def start(self) -> None:
        """Start the executor now rather than with the first container."""
        self._connect(None)

    def _connect(self, failed: "_socket.socket | None") -> "_socket.socket":
        """The control socket; a new one if there is none, or if it is `failed`."""
        with self._lock:
            if self._control is not None and self._owner != posix.getpid():
                # After a fork: the executor is the parent's.
                self._control.close()
                self._control = None
            if self._control is not None and self._control is failed:
                self._drop()
            if self._control is None:
                self._control = self._launch()
            return self._control

    def _launch(self) -> "_socket.socket":
        mine, theirs = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        # Never 3 itself: a descriptor that is copied onto itself keeps close-on-exec.
        passed = _above(theirs.fileno(), CONTROL + 1)
        here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        program = _START.format(path=[here, *_standard_library()])
        try:
            self.pid = posix.posix_spawn(
                sys.executable,
                [sys.executable, "-ISXutf8", "-c", program],
                {},
                file_actions=[
                    (posix.POSIX_SPAWN_OPEN, 0, os.devnull, posix.O_RDONLY, 0),
                    (posix.POSIX_SPAWN_OPEN, 1, os.devnull, posix.O_WRONLY, 0),
                    (posix.POSIX_SPAWN_OPEN, 2, os.devnull, posix.O_WRONLY, 0),
                    (posix.POSIX_SPAWN_DUP2, passed, CONTROL),
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=_SIGNALS,
            )
        except BaseException:
            mine.close()
            raise
        finally:
            posix.close(passed)
            theirs.close()
        self._owner = posix.getpid()
        return mine

    def cloner(self, stdio: tuple[int, int, int]) -> "Cloner":
        """`clone` for a process with these descriptors as its 0, 1 and 2."""
        return lambda plan, link, sock, into: self.clone(plan, link, sock, into, stdio)

    def clone(
        self,
        plan: Plan,
        link: Link,
        sock: "_socket.socket",
        into: int,
        stdio: tuple[int, int, int],
    ) -> RemoteProcess:
        """Have init cloned. Raises NotBorn, ExecutorDied."""
        named = {"sock": sock.fileno()}
        named |= dict(zip(("stdin", "stdout", "stderr"), stdio, strict=True))
        if link.listener is not None:
            named["listener"] = link.listener.fileno()
        for name, fd in (("into", into), ("creating", link.creating), ("created", link.created)):
            if fd >= 0:
                named[name] = fd
        plain = not (plan.joins or plan.own_time or plan.uid_map or into >= 0)
        plain = plain and is_common(plan)  # what a spare has imported
        encoded: bytes | None = plan.encoded or encode(plan)
        spare = -1
        if encoded is not None and len(encoded) > MAX_REQUEST - 1024:
            spare = named["plan"] = posix.memfd_create("plan", posix.MFD_CLOEXEC)
            left = memoryview(encoded)
            while left:
                left = left[posix.write(spare, left) :]
            encoded = None
        try:
            return self._ask(named, (link.preserved, plan.unshare if plain else 0, encoded))
        finally:
            if spare >= 0:
                posix.close(spare)

    def start_criu(
        self, launch: "Launch", line: "_socket.socket", stdio: tuple[int, int, int]
    ) -> RemoteProcess:
        """Have a process made that becomes CRIU. Raises ExecutorDied."""
        named = {"sock": line.fileno()}
        named |= dict(zip(("stdin", "stdout", "stderr"), stdio, strict=True))
        named |= {f"held{number}": fd for number, fd in enumerate(launch.held)}
        return self._ask(named, (CRIU, launch.facts()))

    def adopt(self, pid: int) -> RemoteProcess:
        """Hold what CRIU has made a child of the executor. Raises NotBorn, ExecutorDied."""
        return self._ask({}, (ADOPTION, pid))

    def _ask(self, named: dict[str, int], facts: tuple[Any, ...]) -> RemoteProcess:
        names = ("line", *named)
        request = marshal.dumps((names, *facts))
        control = None
        for _ in range(2):  # an executor that died while idle is replaced without a word
            control = self._connect(control)
            line, theirs = _socket.socketpair(
                _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
            )
            try:
                fds = (theirs.fileno(), *named.values())
                rights = b"".join(fd.to_bytes(4, "little") for fd in fds)
                control.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
            except (BrokenPipeError, ConnectionResetError):
                line.close()
                continue
            except OSError as error:  # ETOOMANYREFS, ENOBUFS: the executor is well
                line.close()
                raise OcirunError(
                    "cannot reach the executor process",
                    syscall="sendmsg",
                    errno=error.errno or 0,
                    hint="are descriptors or memory short?",
                ) from None
            finally:
                theirs.close()
            return self._answer(line)
        raise ExecutorDied("the executor process cannot be kept alive")

    def _answer(self, line: "_socket.socket") -> RemoteProcess:
        try:
            try:
                message, rights, _, _ = line.recvmsg(MAX_MESSAGE, 64, _socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError:
                message, rights = b"", []
            if message[:1] == BORN and not rights:
                # Init, which nobody tells to go on, ends with our end of its socket.
                raise OcirunError(
                    "too many open files: no descriptor is left for the container's init process",
                    syscall="recvmsg",
                    errno=errno.EMFILE,
                    hint="a container that is held takes two descriptors: raise RLIMIT_NOFILE",
                )
            if message[:1] == BORN:
                pidfd = int.from_bytes(rights[0][2][:4], "little")
                return RemoteProcess(int.from_bytes(message[1:9], "little"), pidfd, line)
            if message:
                raise NotBorn(message)
            raise ExecutorDied(
                "the executor process died while it made the container",
                hint="was it killed, or is memory short? the next container gets a new one",
            )
        except BaseException:
            line.close()
            raise


def _above(fd: int, lowest: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)


def _standard_library() -> list[str]:
    """The parts of sys.path that hold the C modules, without site-packages."""
    import sysconfig

    paths = sysconfig.get_paths()
    stdlib = paths["stdlib"]
    return [stdlib, os.path.join(stdlib, "lib-dynload"), paths["platstdlib"]]
