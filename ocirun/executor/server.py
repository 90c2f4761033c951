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
container gets besides, the namespaces of a spare, plan or None). "line", "sock" and the three
of stdio are always there. A plan that is too long for a packet comes as a memory file, "plan".
CRIU's process is a child of the executor, too (names, CRIU, facts of `executor.criu`), so that
what it restores becomes one; that is asked for by its pid (names, ADOPTION, pid).
Nothing here outlives the caller: at the end of the control socket the executor exits.

When a container has ended, or nothing has happened for a while, the executor makes a
spare: an init in new namespaces that waits for a plan. The next request with the same
namespaces is handed to it, and need not wait for the kernel to make them. A spare has
the host's mounts of its birth, so it is ended when the mount table has changed; and it
cannot be born in a v2 cgroup that is not there yet, so such requests have no use for one.
"""

import _signal
import _socket
import gc
import marshal
import posix
import select
import sys
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

from ocirun.cgroups.files import read
from ocirun.executor.child import Link, init, load_filter, own_systems, prepare
from ocirun.executor.hooks import run_hooks
from ocirun.executor.parent import NotBorn, bear
from ocirun.executor.protocol import BORN, INTERNAL, failed
from ocirun.linux.clone import CLONE_NEWNET, clone3
from ocirun.linux.process import close_range
from ocirun.plan.step import Plan
from ocirun.plan.wire import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ocirun.executor.child import System

    Facts = tuple[tuple[str, ...], int, int, bytes | None]
    Other = tuple[tuple[str, ...], str, Any]

ENDED = b"X"
CRIU, ADOPTION = "criu", "adoption"
CONTROL = 3  # number of the control socket in the executor
MAX_REQUEST = 64 << 10  # bytes of a request in one packet
_MAX_RIGHTS = 64
_LAST_FD = 0xFFFFFFFF
EMFILE = 24
_IDLE = 0.001  # seconds without an event, after which a spare takes no time from a container


class Child:
    """A process that this one is the parent of: its pid, and the line to its owner.

    Attributes:
        sock: of a spare, to give it its plan; None later.
        spaces: of a spare: its CLONE_* flags.
        is_criu: it may leave further children.
    """

    __slots__ = ("is_criu", "line", "pid", "sock", "spaces")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.line: _socket.socket | None = None
        self.sock: _socket.socket | None = None
        self.spaces = 0
        self.is_criu = False


class Server:
    """The executor's state: its children by pidfd, and at most one spare."""

    def __init__(self, control: "_socket.socket") -> None:
        self.control = control
        self.poll = select.epoll(select.EPOLL_CLOEXEC)
        self.poll.register(control.fileno(), select.EPOLLIN)
        self.children: dict[int, Child] = {}
        # A container that is held takes two descriptors.
        self.files = getrlimit(RLIMIT_NOFILE)
        setrlimit(RLIMIT_NOFILE, (self.files[1], self.files[1]))
        self.spare = -1
        self.length = 0  # of the last plan, bytes
        self.systems: tuple[System, ...] = ()  # file systems of it, for the spare to make
        self.wanted = 0  # the namespaces of the spare that should be made
        self.mounts = select.poll()
        # Readable with POLLPRI when the mount table has changed (proc(5), mounts).
        table = posix.open("/proc/self/mountinfo", posix.O_RDONLY | posix.O_CLOEXEC)
        self.mounts.register(table, select.POLLPRI)

    def serve(self) -> None:
        """Serve until the control socket ends."""
        while True:
            waits = self.wanted and self.spare < 0
            events = self.poll.poll(_IDLE if waits else -1)
            for fd, _ in events:
                if fd in self.children:
                    self._bury(fd)
                elif not self._answer():
                    self._discard_spare()
                    return
            if waits and self.control.fileno() not in [fd for fd, _ in events]:
                self._make_spare()

    def _answer(self) -> bool:
        """Answer one request. False at the end of the socket."""
        message, fds = _receive(self.control)
        if not message:
            return False
        facts = marshal.loads(message)  # noqa: S302, from our own parent
        names = facts[0]
        if len(fds) < len(names):  # this process may open no more files
            if fds:
                _tell(_socket.socket(fileno=fds.pop(0)), failed(INTERNAL, EMFILE, "recvmsg"))
            for fd in fds:
                posix.close(fd)
            return True
        line = _socket.socket(fileno=fds[names.index("line")])
        try:
            if facts[1] in (CRIU, ADOPTION):
                self._tell_birth(line, self._do_for_criu(facts, fds))
            else:
                self._make(line, message, facts, fds)
        except NotBorn as error:
            _tell(line, error.message)
        except OSError as error:
            _tell(line, failed(INTERNAL, error.errno or 0, str(error)))
        finally:
            for name, fd in zip(names, fds, strict=True):
                if name != "line":
                    posix.close(fd)
        return True

    def _make(self, line: "_socket.socket", message: bytes, facts: "Facts", fds: list[int]) -> None:
        """Make a container's init, of the spare if that fits."""
        _, _, spaces, encoded = facts
        self.wanted = spaces or self.wanted
        if spaces:
            self._note_systems(encoded)
        if self._fits(spaces):
            self._hand_over(line, message, fds)
        else:
            self._tell_birth(line, self._clone(facts, fds))

    def _do_for_criu(self, request: "Other", fds: list[int]) -> int:
        """Make the process that becomes CRIU, or take over what it has made a child."""
        names, kind, facts = request
        if kind == ADOPTION:
            found = [fd for fd, child in self.children.items() if child.pid == facts]
            return found[0] if found else self._adopt(Child(facts))
        pid = posix.fork()
        if pid == 0:
            _be_criu(dict(zip(names, fds, strict=True)), facts)
        child = Child(pid)
        child.is_criu = True
        return self._adopt(child)

    def _adopt_the_rest(self) -> None:
        """Be ready to wait for what a CRIU has left: nobody has asked for it, or not yet."""
        known = {child.pid for child in self.children.values()}
        task = posix.getpid()
        for pid in map(int, read(f"/proc/self/task/{task}/children").split()):
            if pid not in known:
                self._adopt(Child(pid))

    def _note_systems(self, encoded: bytes | None) -> None:
        """Note what the next spare can make ahead. It is a guess, by plans of the same length."""
        if encoded is not None and len(encoded) != self.length:
            self.length = len(encoded)
            self.systems = own_systems(decode(encoded))

    def _tell_birth(self, line: "_socket.socket", pidfd: int) -> None:
        child = self.children[pidfd]
        child.line = line
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pidfd.to_bytes(4, "little"))
        try:
            line.sendmsg([BORN + child.pid.to_bytes(8, "little")], [rights])
        except OSError:  # the owner is gone; the container is not
            pass

    def _clone(self, facts: "Facts", fds: list[int]) -> int:
        plan, link, sock, into = _unpack(facts, fds, self.files)
        try:
            return self._adopt(Child(bear(plan, link, sock, into, False)))
        finally:
            # Closed with all the others that came with the request.
            sock.detach()
            if link.listener is not None:
                link.listener.detach()

    def _adopt(self, child: Child) -> int:
        pidfd = posix.pidfd_open(child.pid)
        self.children[pidfd] = child
        self.poll.register(pidfd, select.EPOLLIN)
        return pidfd

    def _make_spare(self) -> None:
        """Make an init that waits for its plan; without one the next request takes longer."""
        spaces, self.wanted = self.wanted, 0
        self.mounts.poll(0)  # what has changed before is seen by the clone
        mine, theirs = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        try:
            pid = clone3(spaces)
        except OSError:
            mine.close()
            theirs.close()
            return
        if pid == 0:
            _be_spare(theirs, bool(spaces & CLONE_NEWNET), self.systems, self.files)
        theirs.close()
        child = Child(pid)
        child.sock, child.spaces = mine, spaces
        self.spare = self._adopt(child)

    def _fits(self, spaces: int) -> bool:
        """There is a spare for a request with these namespaces. One that is of no use is ended."""
        if self.spare < 0 or not spaces:
            return False
        spare = self.children[self.spare]
        if spare.spaces == spaces and not self.mounts.poll(0):
            how = posix.WEXITED | posix.WNOHANG | posix.WNOWAIT
            if posix.waitid(posix.P_PID, spare.pid, how) is None:  # it lives
                return True
        self._discard_spare()
        return False

    def _hand_over(self, line: "_socket.socket", message: bytes, fds: list[int]) -> None:
        """Give a request to the spare."""
        child = self.children[self.spare]
        sock, child.sock = child.sock, None
        pidfd, self.spare = self.spare, -1
        assert sock is not None
        # The owner first: the spare is about to take this processor.
        self._tell_birth(line, pidfd)
        rights = b"".join(fd.to_bytes(4, "little") for fd in fds)
        try:
            sock.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        except OSError:  # it was killed a moment ago, which the owner learns as of any init
            pass
        sock.close()

    def _discard_spare(self) -> None:
        if self.spare >= 0:
            pidfd, self.spare = self.spare, -1
            posix.kill(self.children[pidfd].pid, _signal.SIGKILL)
            self._bury(pidfd)

    def _bury(self, pidfd: int) -> None:
        """Wait for a process that has ended, and tell its owner."""
        self.poll.unregister(pidfd)
        posix.close(pidfd)
        if pidfd == self.spare:
            self.spare = -1
        child = self.children.pop(pidfd)
        _, status, usage = posix.wait4(child.pid, 0)
        if child.sock is not None:
            child.sock.close()
        if child.line is not None:
            facts = (status, usage.ru_utime, usage.ru_stime, usage.ru_maxrss)
            _tell(child.line, ENDED + marshal.dumps(facts))
        if child.is_criu:
            self._adopt_the_rest()


def main() -> "NoReturn":
    """Be the executor."""
    gc.disable()
    load_filter()
    posix.chdir("/")  # the caller's directory can be unmounted
    # Init inherits the memory: nothing of what is here now will be garbage.
    gc.freeze()
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    Server(_socket.socket(fileno=CONTROL)).serve()
    posix._exit(0)


def _receive(sock: "_socket.socket") -> tuple[bytes, list[int]]:
    """A packet and its descriptors."""
    space = _socket.CMSG_SPACE(4 * _MAX_RIGHTS)
    message, rights, _, _ = sock.recvmsg(MAX_REQUEST, space, _socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for _, _, data in rights:
        fds += [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data) - 3, 4)]
    return message, fds


def _unpack(
    facts: "Facts", fds: list[int], files: tuple[int, int]
) -> "tuple[Plan, Link, _socket.socket, int]":
    """What init is made of, from a request."""
    names, preserved, _, encoded = facts
    named = dict(zip(names, fds, strict=True))
    if encoded is None:
        encoded = posix.pread(named["plan"], posix.fstat(named["plan"]).st_size, 0)
    plan = decode(encoded)
    link = Link()
    link.preserved = preserved
    link.files = files
    link.stdio = (named["stdin"], named["stdout"], named["stderr"])
    link.creating = named.get("creating", -1)
    link.created = named.get("created", -1)
    if plan.hooks:
        link.run_hooks = run_hooks
    if "listener" in named:
        link.listener = _socket.socket(fileno=named["listener"])
    return plan, link, _socket.socket(fileno=named["sock"]), named.get("into", -1)


def _be_spare(
    sock: "_socket.socket", network: bool, systems: "tuple[System, ...]", files: tuple[int, int]
) -> "NoReturn":
    """Wait for a plan, then be its init. Runs in the new process; does not return."""
    try:
        number = sock.fileno()
        close_range(3, number - 1)
        close_range(number + 1, _LAST_FD)
        ready = prepare(network, systems)
        message, fds = _receive(sock)
        if message:
            sock.close()
            plan, link, sock, _ = _unpack(marshal.loads(message), fds, files)  # noqa: S302
            link.ahead = True
            link.ready = ready
            init(plan, sock, link)
    finally:
        posix._exit(1)


def _be_criu(named: dict[str, int], facts: "Any") -> "NoReturn":
    """Be CRIU. Runs in the new process; does not return."""
    try:
        from ocirun.executor.criu import become

        held = [fd for name, fd in named.items() if name.startswith("held")]
        streams = (named["stdin"], named["stdout"], named["stderr"])
        become(facts, named["sock"], streams, held)
    finally:
        posix._exit(1)


def _tell(line: "_socket.socket", message: bytes) -> None:
    """The last words on a line."""
    try:
        line.send(message)
    except OSError:  # nobody listens any more
        pass
    line.close()


if __name__ == "__main__":
    sys.exit("the library starts this module; it is no command")
