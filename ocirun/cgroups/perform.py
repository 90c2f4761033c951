"""The steps of a CgroupPlan, done.

Belongs here: one function per operation, and turning a failure into StepFailed
with its step. What to do was decided by `compile`.
"""

import errno
import posix

from ocirun.cgroups.files import CallFailed, mkdir, read, write
from ocirun.errors import StepFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.cgroups.compile import CgroupPlan
    from ocirun.cgroups.devices import Rule
    from ocirun.plan.step import Step

_O_PATH = 0o10000000
_DELEGATED = "/sys/kernel/cgroup/delegate"
"""Lists the files that a cgroup's owner may have (cgroups(7), "Cgroup delegation")."""


def apply(plan: "CgroupPlan") -> list[str]:
    """Do the steps that come before the clone. Returns the directories made, parents first.

    Raises StepFailed, with everything that was made removed again.
    """
    made: list[str] = []
    step = None
    try:
        for step in plan.steps:
            _OPERATIONS[step.op](made, *step.args)
    except OSError as error:
        assert step is not None
        undo(made)
        raise _failure(step, error) from None
    except BaseException:
        undo(made)
        raise
    return made


class Doors:
    """Descriptors by which a new process joins cgroups without the kernel's global lock.

    Moving another process by cgroup.procs takes a lock of all forks and exits of
    the machine, and with it 5-20 ms for an RCU grace period. A process that is
    born in its cgroup (v2), or moves but itself as one thread (v1), needs none.

    Attributes:
        into: the v2 directory for clone3(2)'s CLONE_INTO_CGROUP; -1 without v2.
        tasks: (descriptor, step) per v1 hierarchy: the process itself, while it has
            one thread, writes b"0" to each, before it makes a cgroup namespace.
    """

    __slots__ = ("into", "tasks")

    def __init__(self) -> None:
        self.into = -1
        self.tasks: list[tuple[int, Step]] = []

    def close(self) -> None:
        """Close all descriptors; they are close-on-exec besides."""
        for descriptor, _ in self.tasks:
            posix.close(descriptor)
        if self.into >= 0:
            posix.close(self.into)
        self.into, self.tasks = -1, []


def open_doors(plan: "CgroupPlan") -> Doors:
    """Open the ways into the cgroups of a plan, once they are made. Raises StepFailed.

    A v1 kernel checks who opened the file, not who writes (inherited descriptors
    are no way around it), so the process may have lost its privileges already.
    """
    doors = Doors()
    for step in plan.join:
        directory, version = step.args
        path = str(directory) if version == 2 else f"{directory}/tasks"
        flags = posix.O_CLOEXEC | (_O_PATH | posix.O_DIRECTORY if version == 2 else posix.O_WRONLY)
        try:
            descriptor = posix.open(path, flags)
        except OSError as error:
            doors.close()
            raise _failure(step, error) from None
        if version == 2:
            doors.into = descriptor
        else:
            doors.tasks.append((descriptor, step))
    return doors


def attach(plan: "CgroupPlan", pid: int) -> None:
    """Put another process into the cgroups of a plan; its threads come along. Slow: see Doors.

    Raises StepFailed.
    """
    for step in plan.join:
        try:
            write(f"{step.args[0]}/cgroup.procs", str(pid))
        except OSError as error:
            raise _failure(step, error) from None


def failed_to_join(step: "Step", number: int) -> StepFailed:
    """The error for a process that could not write to the descriptor of `step` in Doors."""
    path = f"{step.args[0]}/{'cgroup.procs' if step.args[1] == 2 else 'tasks'}"
    return _failure(step, CallFailed(f'write("{path}", "0")', OSError(number, ""), path))


def undo(made: list[str]) -> None:
    """Remove the directories that `apply` made, once the processes in them are dead.

    Those that others use by now, or that are gone, are left.
    """
    from ocirun.cgroups.tree import remove_dead

    while made:
        remove_dead(made.pop())


def refuse_used(plan: "CgroupPlan") -> None:
    """See that nobody is in the cgroups of a plan that systemd is to make. Raises StepFailed."""
    assert plan.scope is not None
    for directory in dict.fromkeys(plan.paths.values()):
        try:
            _refuse_used(directory)
        except OSError as error:
            raise _failure(plan.scope, error) from None


def _mkdir(made: list[str], directory: str) -> None:
    if not _make(made, directory):
        _refuse_used(directory)


def _make(made: list[str], directory: str) -> bool:
    """Make a directory and those above it; False if it is there already.

    Another container may make, or give up, the same ones at the same time.
    """
    try:
        mkdir(directory)
    except CallFailed as error:
        if error.errno == errno.EEXIST:
            return False
        if error.errno != errno.ENOENT:
            raise
        _make(made, directory.rpartition("/")[0])
        return _make(made, directory)
    made.append(directory)
    return True


def _refuse_used(directory: str) -> None:
    """A cgroup that exists serves if it is empty and not frozen, as with runc since 1.2.

    Limits, freezing and killing are of the cgroup: two containers in one would
    suffer each other's.
    """
    from ocirun.cgroups.tree import is_frozen, processes

    found = len(processes({"": directory}))
    if found:
        raise _Refused(errno.EBUSY, f"the cgroup is not empty: {found} process(es)", directory)
    if is_frozen(directory):
        raise _Refused(errno.EBUSY, "the cgroup is frozen", directory)


def _enable(
    made: list[str], directory: str, needed: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    _make(made, directory)
    file = f"{directory}/cgroup.subtree_control"
    try:
        write(file, " ".join("+" + controller for controller in wanted))
        return
    except CallFailed as error:
        if error.errno == errno.EBUSY:
            # It has processes of its own. Some controllers could be had (cgroups(7) "Thread
            # mode"), but then no process could be in the cgroups below.
            if needed:
                raise
            return
    # All or nothing, says the kernel; so ask for each one.
    enabled = read(file).decode().split()  # by somebody with more rights, maybe
    for controller in wanted:
        if controller in enabled:
            continue
        try:
            write(file, "+" + controller)
        except CallFailed:
            if controller in needed:
                raise


def _inherit_cpuset(made: list[str], directory: str, top: str) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        _inherit(directory, name, top)


def _inherit(directory: str, name: str, top: str) -> str:
    """The file's value; an empty one is first set to that of the parent directory."""
    file = f"{directory}/{name}"
    value = read(file).decode().strip()
    if not value and directory != top:
        value = _inherit(directory.rpartition("/")[0], name, top)
        write(file, value)
    return value


def _write(made: list[str], file: str, value: str, other: str = "", other_value: str = "") -> None:
    try:
        write(file, value)
    except CallFailed as error:
        if not other or error.errno != errno.ENOENT:
            raise
        write(other, other_value)


def _check_usage(made: list[str], file: str, limit: int) -> None:
    usage = int(read(file))
    if usage > limit:
        raise _Refused(errno.EBUSY, f"{usage} bytes are in use, more than the limit", file)


def _attach_devices(made: list[str], directory: str, rules: "tuple[Rule, ...]") -> None:
    from ocirun.cgroups.devicebpf import device_program
    from ocirun.linux import bpf

    cgroup = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    program = -1
    old: list[int] = []
    try:
        # All programs of a cgroup must agree, so those of an earlier user must go: one
        # at a stroke, several after the new one, so that never more is allowed.
        if directory not in made:
            for program_id in bpf.attached(cgroup, bpf.CGROUP_DEVICE):
                old.append(bpf.descriptor_of(program_id))
        program = bpf.load(bpf.PROG_TYPE_CGROUP_DEVICE, device_program(rules))
        if len(old) == 1 and _replace(cgroup, program, old[0]):
            return
        bpf.attach(cgroup, program, bpf.CGROUP_DEVICE)
        for descriptor in old:
            bpf.detach(cgroup, descriptor, bpf.CGROUP_DEVICE)
    finally:
        posix.close(cgroup)
        for descriptor in (*old, program):
            if descriptor >= 0:
                posix.close(descriptor)  # the cgroup holds the new one from here on


def _chown(made: list[str], directory: str, user: int) -> None:
    try:
        names = read(_DELEGATED).decode().split()
    except CallFailed:
        names = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
    posix.chown(directory, user, -1)
    for name in names:
        try:
            posix.chown(f"{directory}/{name}", user, -1)
        except FileNotFoundError:  # the file of a controller that the cgroup does not have
            pass


def _replace(cgroup: int, program: int, old: int) -> bool:
    """Replace a cgroup's only device program; False if the kernel does not know how (< 5.6)."""
    from ocirun.linux import bpf

    try:
        bpf.replace(cgroup, program, old, bpf.CGROUP_DEVICE)
        return True
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise


_OPERATIONS: "dict[str, Callable[..., object]]" = {
    "cgroup-mkdir": _mkdir,
    "cgroup-ensure": _make,
    "cgroup-enable": _enable,
    "cgroup-inherit-cpuset": _inherit_cpuset,
    "cgroup-write": _write,
    "cgroup-check-usage": _check_usage,
    "cgroup-devices-bpf": _attach_devices,
    "cgroup-chown": _chown,
}


class _Refused(OSError):
    """ocirun, not the kernel, says no; `strerror` tells why."""


def _failure(step: "Step", error: OSError) -> StepFailed:
    from ocirun.cgroups.words import describe, hint

    number = error.errno or 0
    path = str(getattr(error, "path", "") or error.filename or step.args[0])
    step_words = describe(step)
    refused = isinstance(error, _Refused)
    return StepFailed(
        str(error.strerror) if refused else f"cannot {step_words}",
        step=step_words,
        pointer=step.pointer,
        syscall="" if refused else str(getattr(error, "call", "")),
        errno=0 if refused else number,
        path=path,
        hint=hint(step, path, number),
    )
