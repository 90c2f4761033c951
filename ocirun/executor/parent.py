"""The parent's side of a birth: the clone, its part of the set-up, the hooks of the host.

`spawn` makes the init process of a plan. `Birth.finish` sees it through until
it is created (or, for `run`, executed). A failure, wherever it happens, becomes
an exception that names the step; by then init has been ended and reaped.
"""

import _signal
import _socket
import posix

from ocirun.cgroups import CgroupPlan, apply, open_doors, undo
from ocirun.errors import OcirunError
from ocirun.executor.child import Link, init, load
from ocirun.executor.protocol import (
    BORN,
    CONSOLE,
    FAILED,
    GO,
    HOOKS,
    JOINING,
    LISTENER,
    MAX_MESSAGE,
    OFFSETS,
    READY,
    TREE,
    failed,
)
from ocirun.linux.clone import (
    CLONE_NEWTIME,
    CLONE_PARENT,
    clone3,
    setns,
    unshare,
)
from ocirun.linux.ffi import SyscallError
from ocirun.linux.process import PR_SET_DUMPABLE, prctl
from ocirun.plan.namespaces import KINDS
from ocirun.plan.step import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from ocirun.executor.idmap import Mapper
    from ocirun.executor.outside import Undo

EPERM = 1


class NotBorn(Exception):
    """There is no init: the message FAILED that says why."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.message = message


class Process:
    """An init process that is this process's own child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        try:
            posix.kill(self.pid, _signal.SIGKILL)
            posix.waitpid(self.pid, 0)
        except OSError:  # it is gone already
            pass


class Birth:
    """An init process on its way.

    Attributes:
        process: init; pid: its process id, as the parent sees it.
        console: descriptor of the pseudo terminal's master; -1 without one.
        to_agent: gets the listener of the seccomp filter: a descriptor, or -1 and its number
            in init; None if there is none.
    """

    def __init__(self, plan: Plan, process: Process, sock: "_socket.socket", link: Link) -> None:
        self.plan = plan
        self.process = process
        self.pid = process.pid
        self.sock = sock
        self.link = link
        self.console = -1
        self.undo: list[Undo] = []  # takes back what was done outside for it
        self.to_agent: Callable[[int, int], None] | None = None
        self.cgroups: list[str] = []  # directories that were made for this container
        self.mapper: Mapper | None = None  # made when a mount needs it
        self.late: CgroupPlan | None = None  # the part of plan.cgroup that is still to do
        self.scope: Step | None = None  # what systemd has made
        self.gone = False

    def prepare(self) -> None:
        """Do what only the parent can: id mappings, cgroups, oom score. Then let init go on."""
        plan = self.plan
        doors = None
        try:
            if plan.uid_map:
                self._map_ids()
            if self.late is not None:
                if self.late.scope is not None:
                    from ocirun.cgroups.scopes import start

                    start(self.late, self.pid)
                    self.scope = self.late.scope
                self.cgroups += apply(self.late)
                doors = open_doors(self.late)
            if plan.oom_score_adj is not None:
                score = str(plan.oom_score_adj.args[0]).encode()
                self._write("oom_score_adj", score, plan.oom_score_adj)
            if plan.parent:
                from ocirun.executor.outside import perform

                perform(plan.parent, self.pid, self.undo)
            self._send(GO, [fd for fd, _ in doors.tasks] if doors else [])
        except BaseException:
            self.abort()
            raise
        finally:
            if doors:
                doors.close()

    def finish(self, host_hooks: "Callable[[], None]") -> None:
        """Wait until init is created, or executed if it does not wait for `start`.

        `host_hooks` executes the hooks of the runtime's namespaces when their time
        has come. Raises StepFailed and the like; init is gone then.
        """
        ready = False
        try:
            while True:
                message, rights = self._receive()
                kind = message[:1]
                if kind == READY and self.link.listener is not None:
                    return
                if kind == READY:
                    ready = True
                    continue
                if kind == CONSOLE:
                    self.console = int.from_bytes(rights[0][2][:4], "little")
                elif kind == HOOKS:
                    host_hooks()
                    self._send(GO)
                elif kind == TREE:
                    self._tree(int.from_bytes(message[1:5], "little"), rights)
                elif kind == LISTENER and self.to_agent is not None:
                    received = int.from_bytes(rights[0][2][:4], "little") if rights else -1
                    self.to_agent(received, int.from_bytes(message[1:5], "little"))
                    self._send(GO)
                elif kind == FAILED:
                    raise failure(self.plan, message)
                elif ready and not kind:  # executed; or killed right before, as nobody can tell
                    return
                else:
                    raise _died(self.plan)
        except BaseException:
            self.abort()
            raise
        finally:
            self.sock.close()
            if self.undo:
                from ocirun.executor.outside import let_go

                let_go(self.undo)
            if self.mapper is not None:
                self.mapper.close()

    def _tree(self, number: int, rights: "list[tuple[int, int, bytes]]") -> None:
        """Map the ids of a mount's tree for init, or open it for init."""
        if self.mapper is None:
            from ocirun.executor.idmap import Mapper

            self.mapper = Mapper(self.plan, self.pid)
        tree = int.from_bytes(rights[0][2][:4], "little") if rights else -1
        opened = self.mapper.tree(number, tree)
        try:
            self._send(TREE, [] if rights else [opened])
        finally:
            posix.close(opened)

    def _receive(self) -> "tuple[bytes, list[tuple[int, int, bytes]]]":
        try:
            message, rights, _, _ = self.sock.recvmsg(MAX_MESSAGE, 64, _socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # Init has ended with a message of ours unread. The error is told once,
            # and before what init had to say.
            message, rights, _, _ = self.sock.recvmsg(MAX_MESSAGE, 64, _socket.MSG_CMSG_CLOEXEC)
        return message, rights

    def abort(self) -> None:
        """End init, wait for its end, and remove the cgroups made for it."""
        if self.gone:
            return
        self.gone = True
        while self.undo:  # while init holds its namespaces
            self.undo.pop()[0]()
        self.process.end()
        if self.console >= 0:
            posix.close(self.console)
            self.console = -1
        if self.scope is not None and self.late is not None:
            from ocirun.cgroups.scopes import stop

            stop(str(self.scope.args[0]), str(self.scope.args[2]), self.late.paths)
        undo(self.cgroups)

    def _send(self, message: bytes, descriptors: "list[int] | tuple[()]" = ()) -> None:
        rights = b"".join(fd.to_bytes(4, "little") for fd in descriptors)
        control = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if rights else []
        try:
            self.sock.sendmsg([message], control)
        except OSError:  # init has died; `finish` finds out why
            pass

    def _map_ids(self) -> None:
        plan = self.plan
        if plan.deny_setgroups:
            self._write("setgroups", b"deny", Step("id-map", "/linux/gidMappings", "gid", b"deny"))
        for name, text in (("uid", plan.uid_map), ("gid", plan.gid_map)):
            pointer = f"/linux/{name}Mappings"
            if name in plan.helpers:
                from ocirun.executor.subids import map_by_helper

                map_by_helper(self.pid, Step("id-map", pointer, name, text, True))
            else:
                self._write(f"{name}_map", text, Step("id-map", pointer, name, text))

    def _write(self, name: str, value: bytes, step: Step) -> None:
        path = f"/proc/{self.pid}/{name}"
        try:
            fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
            try:
                posix.write(fd, value)
            finally:
                posix.close(fd)
        except OSError as error:
            raise _step_failed(step, error.errno or 0, f"write({path})") from None


def spawn(plan: Plan, link: Link) -> Birth:
    """Make the init process of a plan, in its new and joined namespaces.

    Raises StepFailed. The caller then calls `prepare` and `finish`.
    """
    early, late = _split(plan.cgroup)
    made = apply(early) if early is not None else []
    mine, theirs = _socket.socketpair(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    )
    doors = None
    try:
        if early is not None:
            doors = open_doors(early)
        into = doors.into if doors else -1
        if link.cloner is not None:
            process = link.cloner(plan, link, theirs, into)
        else:
            process = Process(bear(plan, link, theirs, into, _has_threads()))
    except BaseException as error:
        mine.close()
        undo(made)
        if isinstance(error, NotBorn):
            raise failure(plan, error.message) from None
        raise
    finally:
        theirs.close()
        if doors:
            doors.close()
    birth = Birth(plan, process, mine, link)
    birth.cgroups = made
    birth.late = late
    return birth


def bear(plan: Plan, link: Link, sock: "_socket.socket", into: int, threads: bool) -> int:
    """Clone init as a child of this process; return its pid. Raises NotBorn.

    Args:
        plan, link: what init is made of.
        sock: init's end of the connection to the parent.
        into: descriptor of the v2 cgroup to be born in, or -1.
        threads: this process has other threads.
    """
    load(plan)
    if plan.joins or plan.own_time or threads:
        return _by_go_between(plan, link, sock, into)
    try:
        pid = clone3(plan.unshare, into)
    except OSError as error:
        raise NotBorn(failed(JOINING, error.errno or 0, "clone3")) from None
    if pid == 0:
        init(plan, sock, link)
    return pid


def _split(plan: CgroupPlan | None) -> tuple[CgroupPlan | None, CgroupPlan | None]:
    """What must be done before the clone, and what the parent can do while init mounts.

    Init is born in its v2 cgroup, so that one must be there. A scope of systemd needs init first.
    """
    if plan is None:
        return None, None
    if plan.scope is not None:
        return None, plan
    unified = plan.paths.get("")
    if unified is None:
        return None, plan
    if len(plan.paths) == 1:
        return plan, None
    early = tuple(step for step in plan.steps if step.args[0] == unified)
    late = tuple(step for step in plan.steps if step.args[0] != unified)
    here = tuple(step for step in plan.join if step.args[0] == unified)
    there = tuple(step for step in plan.join if step.args[0] != unified)
    return CgroupPlan(early, here, plan.paths), CgroupPlan(late, there, plan.paths)


def _has_threads() -> bool:
    """This process has more threads than one (proc(5), task).

    Then a bare clone could copy a lock that another thread holds, of malloc for
    instance. fork(2) by way of libc takes care of that, so the go-between does it.
    """
    return posix.stat("/proc/self/task").st_nlink > 3


def _by_go_between(plan: Plan, link: Link, sock: "_socket.socket", into: int) -> int:
    """Join namespaces in a process of its own, which then clones init as its sibling.

    A process that has joined a pid or time namespace cannot take it back, and
    these two only count for children.
    """
    spaces: list[int] = []
    mine, theirs = _socket.socketpair(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    )
    try:
        for number, step in enumerate(plan.joins):
            try:
                spaces.append(posix.open(step.args[1], posix.O_RDONLY | posix.O_CLOEXEC))  # type: ignore[arg-type]
            except OSError as error:
                raise NotBorn(failed(JOINING + number, error.errno or 0, "open")) from None
        pid = posix.fork()
        if pid == 0:
            _go_between(plan, link, sock, theirs, spaces, into)
        theirs.close()
        message = mine.recv(MAX_MESSAGE)
        posix.waitpid(pid, 0)
    finally:
        mine.close()
        theirs.close()
        for fd in spaces:
            posix.close(fd)
    if message[:1] == BORN:
        return int.from_bytes(message[1:9], "little")
    raise NotBorn(message or failed(JOINING + len(plan.joins), 0, "fork"))


def _go_between(
    plan: Plan,
    link: Link,
    sock: "_socket.socket",
    line: "_socket.socket",
    spaces: list[int],
    into: int,
) -> "NoReturn":
    number = JOINING
    try:
        later = [i for i in range(len(spaces)) if plan.joins[i].op == "enter-later"]
        for i in later:
            link.later = spaces[i]
        if into >= 0 and not plan.uid_map:
            # With nsdelegate (cgroups(7)) nobody is born outside of his clone's cgroup namespace.
            # A user namespace to be made would take the right to join from init.
            for i in [i for i in range(len(spaces)) if plan.joins[i].args[0] == "cgroup"]:
                link.view, link.view_number = spaces[i], JOINING + i
                later.append(i)
        todo = [i for i in range(len(spaces)) if i not in later]
        # What needs the privileges of the runtime comes before the user namespace,
        # what needs those of the user namespace after it.
        todo.sort(key=lambda i: plan.joins[i].args[0] == "user")
        again = []
        for i in todo:
            number = JOINING + i
            kind = plan.joins[i].args[0]
            try:
                setns(spaces[i], KINDS[kind])  # type: ignore[index]
            except OSError as error:
                if error.errno != EPERM or kind == "user":
                    raise
                again.append(i)
        for i in again:
            number = JOINING + i
            setns(spaces[i], KINDS[plan.joins[i].args[0]])  # type: ignore[index]
        number = JOINING + len(spaces)
        if plan.own_time:
            unshare(CLONE_NEWTIME)
            if plan.time_offsets:
                fd = posix.open("/proc/self/timens_offsets", posix.O_WRONLY | posix.O_CLOEXEC)
                try:
                    posix.write(fd, plan.time_offsets)
                except OSError as error:
                    raise SyscallError(OFFSETS, error.errno) from None
                posix.close(fd)
        if not plan.uid_map and any(step.args[0] == "pid" for step in plan.joins):
            # Before its birth: who is in the pid namespace must not trace it (CVE-2016-9962).
            # With mappings to be written it is in there with nobody's rights, and its files
            # must be ours.
            prctl(PR_SET_DUMPABLE, 0)
        pid = clone3(plan.unshare | CLONE_PARENT, into)
        if pid == 0:
            init(plan, sock, link)
        line.send(BORN + pid.to_bytes(8, "little"))
        posix._exit(0)
    except OSError as error:
        line.send(failed(number, error.errno or 0, getattr(error, "call", "")))
    finally:
        posix._exit(1)


def failure(plan: Plan, message: bytes) -> OcirunError:
    """The exception for a message FAILED. Cold: words are only needed now."""
    from ocirun.executor.failures import explain

    return explain(plan, message)


def _died(plan: Plan) -> OcirunError:
    from ocirun.executor.failures import died

    return died(plan)


def _step_failed(step: Step, error: int, call: str) -> OcirunError:
    from ocirun.executor.failures import step_failed

    return step_failed(step, error, call)
