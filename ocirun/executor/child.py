"""The init process from its birth to the execve.

It performs the steps of the plan and speaks `executor.protocol`. After it has
entered the container it imports nothing (the import system is emptied first:
the image could hold a module of any name), formats nothing, and never returns:
it leaves by execve or `posix._exit`.
"""

import _signal
import _socket
import posix
import sys
from fcntl import ioctl

from ocirun.executor import command, filesystem, identity, places
from ocirun.executor.paths import EPERM, find, make
from ocirun.executor.protocol import (
    CGROUP,
    CONSOLE,
    EXECUTE,
    GO,
    HOOK,
    HOOKS,
    INTERNAL,
    MAX_MESSAGE,
    READY,
    START_HOOK,
    TREE,
    failed,
)
from ocirun.linux.clone import CLONE_NEWCGROUP, setns
from ocirun.linux.ffi import SyscallError
from ocirun.linux.fs import O_PATH
from ocirun.linux.mount import (
    AT_EMPTY_PATH,
    DEVPTS_SUPER_MAGIC,
    OPEN_TREE_CLONE,
    filesystem_magic,
    move_mount,
    open_tree,
)
from ocirun.linux.process import CLOSE_RANGE_CLOEXEC, close_range, prlimit
from ocirun.plan.step import Hook, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from ocirun.executor.parent import Process

    Cloner = Callable[[Plan, "Link", _socket.socket, int], Process]
    RunHooks = Callable[[list[Hook], int], tuple[int, int, bytes] | None]
    System = tuple[bytes, bytes, int, tuple[bytes, ...], filesystem.Data]

_TIOCSPTLCK, _TIOCGPTPEER, _TIOCSWINSZ, _TIOCSCTTY = 0x40045431, 0x5441, 0x5414, 0x540E
_LAST_FD = 0xFFFFFFFF
_RLIMIT_NOFILE = 7


class Child:
    """What the steps share.

    Attributes:
        number: of the step that is being performed.
        root: descriptor of the container's root mount.
        empty: descriptor of the tmpfs that covers masked directories; -1 before.
        proc: descriptor of a procfs that the image has no hand in; -1 before.
        log: the kernel's words on the last failure of a file system context.
        env: environment of the process; path: the executable, once found.
        entered: the working directory has been entered already.
        awaited: the parent has done its part.
        trees: made ahead, in order, for the steps that mount them.
        place: mounts a tree on a place. made: gets the mount points that are made; None: untold.
        undo: what takes back what has been done in a container that runs already.
    """

    def __init__(self, plan: Plan, sock: "_socket.socket", link: "Link") -> None:
        self.plan = plan
        self.sock = sock
        self.link = link
        self.number = 0
        self.root = -1
        self.empty = -1
        self.proc = -1
        self.log = b""
        self.env: dict[bytes, bytes] = {}
        for word in plan.env:
            key, _, value = word.partition(b"=")
            self.env[key] = value
        self.path = b""
        self.entered = True
        self.awaited = False
        self.trees: list[int] = []
        self.place: Callable[[int, int], None] = move_mount
        self.made: list[tuple[int, bytes, bool]] | None = None
        self.undo: list[Callable[[], None]] = []
        self._parent = (b"", -1)

    def parent_of(self, path: bytes) -> tuple[int, bytes]:
        """The directory that `path` lies in, made if need be, and the name: (descriptor, name).

        The descriptor is kept for the next step: many of them follow in one directory.
        """
        above, _, name = path.rstrip(b"/").rpartition(b"/")
        if self._parent[0] != above or self._parent[1] < 0:
            if self._parent[1] >= 0:
                posix.close(self._parent[1])
            self._parent = (above, make(self.root, above or b"/", True))
        return self._parent[1], name

    def replace_root(self, tree: int) -> None:
        """What is mounted over the root is the root."""
        for fd in (self.root, self._parent[1]):
            if fd >= 0:
                posix.close(fd)
        self.root = tree
        self._parent = (b"", -1)

    def ask_for_tree(self, tree: int) -> int:
        """Have the parent map the ids of a mount's tree, or make it (-1). Returns the tree."""
        await_once(self)
        rights = []
        if tree >= 0:
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, tree.to_bytes(4, "little"))]
        self.sock.sendmsg([TREE + self.number.to_bytes(4, "little")], rights)
        message, answer, _, _ = self.sock.recvmsg(MAX_MESSAGE, 64, _socket.MSG_CMSG_CLOEXEC)
        if message != TREE:
            posix._exit(1)
        return tree if tree >= 0 else int.from_bytes(answer[0][2][:4], "little")

    def close(self) -> None:
        """Let go of everything in the container's file system."""
        for fd in (self.root, self.empty, self.proc, self._parent[1], *self.link.ready.values()):
            if fd >= 0:
                posix.close(fd)


class Link:
    """What init inherits from the parent.

    Attributes:
        listener: socket on which `start` will connect; None: go straight on (`run`).
        preserved: number of descriptors from 3 on that the container gets.
        creating, created: memory files with the container's state for hooks; -1: none.
        run_hooks: executes a list of hooks; None if the plan has none for init.
        stdio: descriptors that become 0, 1 and 2; None: those of the parent.
        cloner: clones init elsewhere, in the library's executor; None: here.
        ahead: the steps in AHEAD are done already.
        ready: file systems that are made already, by the arguments of `filesystem.detached`.
        files: limits of open files (soft, hard) to go back to; None: those of the parent.
        later: descriptor of a mount namespace that is entered in the middle; -1: none.
        view: descriptor of a cgroup namespace that init joins at once; -1: none.
        view_number: the number of the step for it.
    """

    def __init__(self) -> None:
        self.listener: _socket.socket | None = None
        self.preserved = 0
        self.creating = -1
        self.created = -1
        self.run_hooks: RunHooks | None = None
        self.stdio: tuple[int, int, int] | None = None
        self.cloner: Cloner | None = None
        self.ahead = False
        self.ready: dict[tuple[object, ...], int] = {}
        self.files: tuple[int, int] | None = None
        self.later = -1
        self.view = -1
        self.view_number = INTERNAL


class HookError(Exception):
    """A hook that init ran has failed: (is it startContainer, number, wait status, words)."""


class CgroupError(Exception):
    """Init could not join a cgroup: (number among the descriptors, errno)."""


def init(plan: Plan, sock: "_socket.socket", link: Link) -> "NoReturn":
    """Be the container's init process. Called in the new process; does not return."""
    number = INTERNAL
    child = Child(plan, sock, link)
    try:
        if link.view >= 0:
            number = link.view_number
            setns(link.view, CLONE_NEWCGROUP)
            number = INTERNAL
        _forget_the_host(sock, link)
        for number, step in enumerate(plan.child):
            child.number = number
            if not (link.ahead and step.op in AHEAD):
                _STEPS[step.op](child, *step.args)
        number = INTERNAL
        _wait_for_start(child)
        _hooks(child, "startContainer", link.created)
        number = EXECUTE
        _let_go(child)
        if plan.last:
            assert _prepare_execve is not None
            execute = _prepare_execve(child)
            for number, step in enumerate(plan.last, len(plan.child)):  # noqa: B007
                _STEPS[step.op](child, *step.args)
            number = EXECUTE
            execute()
        posix.execve(child.path, plan.args, child.env)
    except HookError as error:
        late, index, status, words = error.args
        number = (START_HOOK if late else HOOK) + index
        _report(child, failed(number, status, "", words))
    except CgroupError as error:
        _report(child, failed(CGROUP + error.args[0], error.args[1]))
    except SyscallError as error:
        _report(child, failed(number, error.errno or 0, error.call, child.log))
    except OSError as error:
        _report(child, failed(number, error.errno or 0, ""))
    except BaseException as error:  # never a traceback in here
        _report(child, failed(INTERNAL, 0, type(error).__name__))
    finally:
        posix._exit(1)


def _report(child: Child, message: bytes) -> None:
    for undo in reversed(child.undo):
        try:
            undo()
        except OSError:
            pass
    try:
        child.sock.send(message)
    except OSError:  # the parent is gone; there is nobody to tell
        pass


def _forget_imports() -> None:
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


def _forget_the_host(sock: "_socket.socket", link: Link) -> None:
    """Close what is not needed, and make sure that nothing can be imported."""
    _forget_imports()
    if link.stdio:
        for number, fd in enumerate(link.stdio):
            posix.dup2(fd, number)
    keep = {sock.fileno(), link.creating, link.created, link.later, -1, *link.ready.values()}
    if link.listener:
        keep.add(link.listener.fileno())
    keep.discard(-1)
    low = 3 + link.preserved
    for fd in sorted(keep):
        if fd >= low:
            if fd > low:
                close_range(low, fd - 1)
            low = fd + 1
    close_range(low, _LAST_FD)
    posix.umask(0)
    if link.files:
        prlimit(_RLIMIT_NOFILE, *link.files)


def own_systems(plan: Plan) -> "tuple[System, ...]":
    """The plan's file systems that hold nothing but the kernel's (arguments of `detached`)."""
    steps = [s for s in plan.child if s.op == "mount" and s.args[1] in filesystem.PREPARED]
    return tuple({step.args[1:6]: None for step in steps if not step.args[6]})  # type: ignore[misc]


def prepare(network: bool, systems: "tuple[System, ...]") -> dict[tuple[object, ...], int]:
    """Do the steps in AHEAD, in an init that waits for its plan. Raises OSError.

    And make these file systems: new ones of this init's namespaces, mounted nowhere. Returns
    what is made (`Link.ready`); what the plan then has no use for is closed.
    """
    identity.STEPS["undumpable"](None)
    identity.STEPS["session"](None)
    if network:
        identity.STEPS["loopback"](None)
    _forget_imports()
    child = Child(Plan("", ""), None, Link())  # type: ignore[arg-type]
    return {system: filesystem.detached(child, *system) for system in systems}


def await_parent(child: Child) -> None:
    """Wait until the parent has done its part; it may have died.

    With the message come the "tasks" files of the v1 cgroups. A process that
    writes itself into one spares the kernel a global lock (see cgroups.perform).
    """
    message, rights, _, _ = child.sock.recvmsg(MAX_MESSAGE, 1024, _socket.MSG_CMSG_CLOEXEC)
    if message != GO:
        posix._exit(1)
    for _, _, data in rights:
        for number in range(len(data) // 4):
            fd = int.from_bytes(data[4 * number : 4 * number + 4], "little")
            try:
                posix.write(fd, b"0")
            except OSError as error:
                raise CgroupError(number, error.errno) from None
            posix.close(fd)


def await_once(child: Child) -> None:
    """The same, at the first step that needs it."""
    if not child.awaited:
        child.awaited = True
        await_parent(child)


def hooks(child: Child) -> None:
    """The parent runs prestart and createRuntime, then init runs createContainer."""
    child.sock.send(HOOKS)
    await_parent(child)
    _hooks(child, "createContainer", child.link.creating)


def _hooks(child: Child, name: str, state: int) -> None:
    wanted = child.plan.hooks.get(name)
    if not wanted or child.link.run_hooks is None:
        return
    if name == "startContainer":
        for hook in wanted:
            command.refuse_magic_links(hook.path)
    failure = child.link.run_hooks(wanted, state)
    if failure:
        raise HookError(name == "startContainer", *failure)


def console(child: Child, size: tuple[int, int] | None) -> None:
    """A pseudo terminal of the container's own devpts, and shown as /dev/console.

    The image may have prepared the place: it is made, never followed (CVE-2025-52565).
    """
    master, slave = _pseudo_terminal(child, size)
    parent, name = child.parent_of(b"/dev/console")
    flags = posix.O_CREAT | posix.O_NOFOLLOW | posix.O_CLOEXEC
    posix.close(posix.open(name, flags, 0o600, dir_fd=parent))
    target = posix.open(name, O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=parent)
    tree = open_tree(slave, b"", AT_EMPTY_PATH | OPEN_TREE_CLONE)
    move_mount(tree, target)
    for fd in (tree, target):
        posix.close(fd)
    _hand_over_terminal(child, master, slave)


def terminal(child: Child, size: tuple[int, int] | None) -> None:
    """A pseudo terminal for one more process of a container."""
    _hand_over_terminal(child, *_pseudo_terminal(child, size))


def _pseudo_terminal(child: Child, size: tuple[int, int] | None) -> tuple[int, int]:
    """(master, slave) of the container's devpts; the image may have put something else there."""
    flags = posix.O_RDWR | posix.O_NOCTTY
    master = find(child.root, b"/dev/pts/ptmx", flags, strict=True)
    if filesystem_magic(master) != DEVPTS_SUPER_MAGIC:
        raise SyscallError("fstatfs(DEVPTS_SUPER_MAGIC)", EPERM)
    ioctl(master, _TIOCSPTLCK, bytes(4))
    slave = ioctl(master, _TIOCGPTPEER, flags | posix.O_CLOEXEC)
    if size:
        height, width = size
        winsize = height.to_bytes(2, "little") + width.to_bytes(2, "little") + bytes(4)
        ioctl(master, _TIOCSWINSZ, winsize)
    return master, slave


def _hand_over_terminal(child: Child, master: int, slave: int) -> None:
    """The parent gets the master; the slave is the controlling terminal and stdio."""
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, master.to_bytes(4, "little"))
    child.sock.sendmsg([CONSOLE], [rights])
    posix.close(master)
    ioctl(slave, _TIOCSCTTY, 0)
    for fd in range(3):
        posix.dup2(slave, fd, True)
    if slave > 2:
        posix.close(slave)


def inside(child: Child, rootfs: bytes = b"") -> None:
    """After joining a container: the root directory is its root, or has it at `rootfs`."""
    child.root = posix.open("/", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    if rootfs:
        child.replace_root(find(child.root, rootfs, O_PATH | posix.O_DIRECTORY))
        filesystem.chroot(child)


def affinity(child: Child, name: str, text: str, mask: int) -> None:
    """sched_setaffinity(2) of this process."""
    posix.sched_setaffinity(0, [cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1])


def _wait_for_start(child: Child) -> None:
    """Say that the container is created, then wait for `start` to connect."""
    child.close()
    child.sock.send(READY)
    listener = child.link.listener
    if listener is None:
        return
    child.sock.close()
    fd, _ = listener._accept()  # type: ignore[attr-defined]
    child.sock = _socket.socket(fileno=fd)
    listener.close()
    await_parent(child)


def _let_go(child: Child) -> None:
    """Leave everything of Python's behind: the command is about to be executed."""
    preserved = child.link.preserved
    close_range(3 + preserved, _LAST_FD, CLOSE_RANGE_CLOEXEC)
    for fd in range(3, 3 + preserved):
        try:
            posix.set_inheritable(fd, True)
        except OSError:  # a hole in the range
            pass
    # Python ignores SIGPIPE and SIGXFSZ, and a caller may have ignored others.
    for number in range(1, _signal.NSIG):
        if _signal.getsignal(number) == _signal.SIG_IGN:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def load(plan: Plan) -> None:
    """Import the steps that only some plans have: init does not import. Called before the clone."""
    if not is_common(plan):
        from ocirun.executor import rare

        _STEPS.update(rare.STEPS)
    if plan.last or any(step.op == "seccomp" for step in plan.child):
        load_filter()


def load_filter() -> None:
    """Import the steps of a filter of system calls. The library's executor always does."""
    global _prepare_execve
    from ocirun.executor import confine

    _STEPS.update(confine.STEPS)
    _prepare_execve = confine.prepare_execve


def is_common(plan: Plan) -> bool:
    """All of the plan's steps are known without `rare`."""
    return _COMMON.issuperset([step.op for step in plan.child])


AHEAD = frozenset(("undumpable", "session", "loopback"))
"""The same in every container that has these steps: an init can do them before it has a plan."""

_STEPS: "dict[str, Callable[..., None]]" = {
    **filesystem.STEPS,
    **places.STEPS,
    **identity.STEPS,
    **command.STEPS,
    "await": await_once,
    "hooks": hooks,
    "console": console,
    "terminal": terminal,
    "inside": inside,
    "cpu-affinity": affinity,
}
_COMMON = frozenset((*_STEPS, "seccomp", "drop-privilege"))
_prepare_execve: "Callable[[Child], Callable[[], None]] | None" = None
