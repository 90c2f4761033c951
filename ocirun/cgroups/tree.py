"""What is done to the cgroups of a container that exists: its processes, its end, its freezing.

All of it works from the paths that the state holds; nothing is looked up again.
Sources: cgroups(7); admin-guide/cgroup-v1/freezer-subsystem.rst and cgroup-v2.rst.
"""

import errno
import posix
import time

from ocirun.cgroups.files import CallFailed, read, rmdir, write
from ocirun.errors import StepFailed

SIGKILL = 9

# Seconds. A killed process leaves its cgroup when the kernel has torn it down;
# only one that hangs in the kernel (a dead network file system) takes long.
_KILL_TIME = 10.0
_REMOVE_TIME = 2.0
_FREEZE_TIME = 2.0
_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.02

_GONE = (errno.ENOENT, errno.ENODEV)


def processes(paths: dict[str, str]) -> list[int]:
    """All pids in the container's cgroup and those below it, ascending; [] if it is gone.

    Every process is in each hierarchy, so one is read; of v2 if there is one.
    """
    directory = _whole(paths)
    return sorted(_pids(directory)) if directory else []


def _whole(paths: dict[str, str]) -> str:
    return paths.get("") or next(iter(paths.values()), "")


def signal(paths: dict[str, str], number: int) -> int:
    """Signal every process of the container once, those of nested cgroups included.

    A frozen container stays frozen, but for SIGKILL, which thaws it. Returns how many
    there were. Raises OSError of kill(2).
    """
    directory = _whole(paths)
    if number == SIGKILL:
        _kill_v2(paths)
    return _signal(paths, [directory] if directory else [], number)


def kill(paths: dict[str, str]) -> None:
    """Kill every process of the container, those of nested cgroups included.

    Returns only when all of them are gone, in whatever hierarchy; a frozen container is
    thawed to die. Raises StepFailed if some stay.
    """
    directories = tuple(dict.fromkeys(paths.values()))
    _kill_v2(paths)
    deadline = time.monotonic() + _KILL_TIME
    pause = _FIRST_PAUSE
    while True:
        left = [directory for directory in directories if _pids(directory)]
        if not left:
            return
        if time.monotonic() > deadline:
            raise StepFailed(
                "processes of the container do not die",
                step="kill all processes of the container",
                path=left[0],
                hint="they hang in the kernel, or this process is one of them: pids "
                + ", ".join(map(str, sorted(_pids(left[0])))),
            )
        _signal(paths, left, SIGKILL)
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def remove(paths: dict[str, str]) -> None:
    """Remove the container's cgroups and all below them. What is gone already is fine.

    Processes that are just dying are waited for. Raises StepFailed if a cgroup stays.
    """
    deadline = time.monotonic() + _REMOVE_TIME
    for directory in dict.fromkeys(paths.values()):
        pause = _FIRST_PAUSE
        while True:
            error = _remove_tree(directory)
            if error is None:
                break
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise _not_removed(directory, error)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def remove_dead(directory: str) -> None:
    """Remove one cgroup, waiting for dying processes; one with cgroups below it is left."""
    deadline = time.monotonic() + _REMOVE_TIME
    while True:
        try:
            rmdir(directory)
            return
        except CallFailed as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                return
        try:
            if _pids(directory) or _children(directory):
                return
        except OSError:  # gone meanwhile
            return
        time.sleep(_FIRST_PAUSE)


def freeze(paths: dict[str, str]) -> None:
    """Stop every process of the container; returns when they are. Raises StepFailed.

    On failure the container is thawed again.
    """
    _set_frozen(paths, True)


def thaw(paths: dict[str, str]) -> None:
    """Let a frozen container go on; one that is not frozen, or gone, is fine. Raises StepFailed."""
    _set_frozen(paths, False)


def is_frozen(directory: str) -> bool:
    """Whether a cgroup is frozen or about to be; False where there is no freezer."""
    return (
        _content(f"{directory}/freezer.state") in (b"FROZEN", b"FREEZING")
        or _content(f"{directory}/cgroup.freeze") == b"1"
    )


def oom_killed(paths: dict[str, str]) -> bool:
    """Whether the kernel killed a process of the container for want of memory.

    memory.events (v2) or memory.oom_control (v1, since Linux 4.13); False if neither tells.
    """
    if "memory" in paths:
        content = _content(f"{paths['memory']}/memory.oom_control")
    else:
        content = _content(f"{paths.get('', '')}/memory.events")
    for line in content.splitlines():
        name, _, value = line.partition(b" ")
        if name == b"oom_kill":
            return int(value) > 0
    return False


def _pids(directory: str) -> set[int]:
    try:
        found = set(map(int, read(f"{directory}/cgroup.procs").split()))
        for child in _children(directory):
            found |= _pids(child)
    except OSError as error:
        # EOPNOTSUPP: a threaded v2 cgroup; its processes are listed by its parent.
        if error.errno in (*_GONE, errno.EOPNOTSUPP):
            return set()
        raise
    found.discard(0)  # a process of another pid namespace
    return found


def _children(directory: str) -> list[str]:
    if posix.stat(directory).st_nlink == 2:  # "." and its name: no directory below
        return []
    with posix.scandir(directory) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _kill_v2(paths: dict[str, str]) -> None:
    """cgroup.kill (Linux 5.14) reaches nested cgroups, and no fork escapes it."""
    if "" in paths and posix.getpid() not in _pids(paths[""]):
        _try_write(f"{paths['']}/cgroup.kill", "1")  # not there: the signals do it


def _signal(paths: dict[str, str], directories: list[str], signal: int) -> int:
    """Signal what is in `directories`, frozen meanwhile, so that nothing forks or ends.

    A process that cannot end keeps its pid, too: none can be another's by now.
    The container is left as it was found, but thawed after SIGKILL. Returns how many there were.
    """
    freezers = _freezers(paths)
    was_frozen = any(is_frozen(directory) for directory in freezers)
    within = any(posix.getpid() in _pids(directory) for directory in freezers)
    if not was_frozen and not within:  # who freezes itself thaws nobody
        _write_frozen(paths, True)
    found = 0
    try:
        for directory in directories:
            for pid in _pids(directory) - {posix.getpid()}:
                found += 1
                try:
                    posix.kill(pid, signal)
                except ProcessLookupError:
                    pass
        return found
    finally:
        if signal == SIGKILL or not was_frozen:
            _write_frozen(paths, False)


def _freezers(paths: dict[str, str]) -> list[str]:
    """The directory with which to freeze the container: that of v1 if there is one."""
    if "freezer" in paths:
        return [paths["freezer"]]
    return [paths[""]] if "" in paths else []


def _write_frozen(paths: dict[str, str], frozen: bool) -> None:
    """Ask for the state, as well as can be; without waiting for it."""
    for directory in _freezers(paths):
        if "freezer" in paths:
            _try_write(f"{directory}/freezer.state", "FROZEN" if frozen else "THAWED")
        else:
            _try_write(f"{directory}/cgroup.freeze", "1" if frozen else "0")


def _set_frozen(paths: dict[str, str], frozen: bool) -> None:
    words = "freeze the container" if frozen else "thaw the container"
    directory = next(iter(_freezers(paths)), "")
    if not directory:
        if not frozen:
            return
        raise StepFailed(
            f"cannot {words}: it has no cgroup with a freezer",
            step=words,
            hint="the machine needs the freezer controller of cgroup v1, or cgroup v2",
        )
    try:
        if "freezer" in paths:
            write(f"{directory}/freezer.state", "FROZEN" if frozen else "THAWED")
        else:
            write(f"{directory}/cgroup.freeze", str(int(frozen)))
    except CallFailed as error:
        if not frozen and error.errno in _GONE:
            return
        raise StepFailed(
            f"cannot {words}",
            step=words,
            syscall=error.call,
            errno=error.errno or 0,
            path=error.path,
        ) from None
    if not frozen:
        return
    deadline = time.monotonic() + _FREEZE_TIME
    pause = _FIRST_PAUSE
    while not _has_frozen(directory):
        if time.monotonic() > deadline:
            _write_frozen(paths, False)
            raise StepFailed(
                "the container does not freeze",
                step=words,
                path=directory,
                hint="a process of it hangs in the kernel; it was thawed again",
            )
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _has_frozen(directory: str) -> bool:
    return (
        _content(f"{directory}/freezer.state") == b"FROZEN"
        or b"frozen 1" in _content(f"{directory}/cgroup.events").splitlines()
    )


def _remove_tree(directory: str) -> CallFailed | None:
    """Remove depth first. Returns the first failure but "gone already"."""
    try:
        rmdir(directory)
        return None
    except CallFailed as error:
        if error.errno in _GONE:
            return None
        if error.errno != errno.EBUSY:
            return error
    try:
        for child in _children(directory):
            failure = _remove_tree(child)
            if failure is not None:
                return failure
        rmdir(directory)
    except OSError as error:
        if error.errno in _GONE:
            return None
        return CallFailed(f'rmdir("{directory}")', error, directory)
    return None


def _not_removed(directory: str, error: CallFailed) -> StepFailed:
    left = sorted(_pids(directory))
    return StepFailed(
        f"cannot remove the cgroup {directory}",
        step="remove the cgroups of the container",
        syscall=error.call,
        errno=error.errno or 0,
        path=error.path,
        hint=f"processes are in it: {', '.join(map(str, left))}" if left else "",
    )


def _content(file: str) -> bytes:
    """What a file says, without the newline; b"" if it does not exist."""
    try:
        return read(file).rstrip(b"\n")
    except CallFailed:
        return b""


def _try_write(file: str, value: str) -> None:
    try:
        write(file, value)
    except CallFailed:
        pass
