"""Mounts that init cannot make alone: the parent's share of them. Imported when init asks.

A tree's ids are mapped as a user namespace maps them (mount_setattr(2), MOUNT_ATTR_IDMAP), which
takes the privileges over the file system that init in a user namespace lacks; so does a
source below a folder that the namespace's root may not enter. And a file system on a
block device is made here where the container's cgroup keeps init from opening the device.
"""

import _signal
import posix

from ocirun.executor.filesystem import detached
from ocirun.linux.clone import CLONE_NEWUSER, clone3
from ocirun.linux.ffi import SyscallError
from ocirun.linux.mount import (
    AT_FDCWD,
    AT_RECURSIVE,
    OPEN_TREE_CLONE,
    mount_idmap,
    open_tree,
)
from ocirun.plan.step import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ocirun.errors import OcirunError

_KEPT = 64  # user namespaces at a time
_WALL = 0x40000000  # waitpid(2): children without an exit signal too


class Mapper:
    """Maps the trees of one container. User namespaces are made once for equal maps."""

    def __init__(self, plan: Plan, pid: int) -> None:
        self._plan = plan
        self._pid = pid
        self._spaces: dict[tuple[bytes, bytes], int] = {}

    def close(self) -> None:
        """Let go of the user namespaces; the mounts hold them."""
        for fd in self._spaces.values():
            posix.close(fd)
        self._spaces.clear()

    def tree(self, number: int, tree: int) -> int:
        """The tree for a step that mounts, its ids mapped if that is asked for.

        Args:
            number: of the step.
            tree: init's descriptor of it, or -1: then it is opened here.

        The descriptor returned, `tree` if there is one, is the caller's; after an exception
        (StepFailed) nothing is.
        """
        step = self._plan.child[number]
        try:
            if step.op == "mount":
                return _made(step)
            mapping: tuple[bool, bytes, bytes] = step.args[9]  # type: ignore[assignment]
            if tree < 0:
                recursive = AT_RECURSIVE if step.args[2] else 0
                source: bytes = step.args[1]  # type: ignore[assignment]
                tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | recursive)
            if mapping:
                whole, uids, gids = mapping
                mount_idmap(tree, self._space(step, uids, gids), whole)
        except BaseException as error:
            if tree >= 0:
                posix.close(tree)
            if isinstance(error, SyscallError):
                raise _failed(step, error) from None
            raise
        return tree

    def _space(self, step: Step, uids: bytes, gids: bytes) -> int:
        key = (uids, gids)
        if key not in self._spaces:
            if len(self._spaces) >= _KEPT:
                self.close()
            if uids:
                self._spaces[key] = _user_namespace(step, uids, gids)
            else:
                self._spaces[key] = _open(f"/proc/{self._pid}/ns/user", posix.O_RDONLY)
        return self._spaces[key]


def _made(step: Step) -> int:
    """The file system of a step, mounted nowhere."""
    notes = _Notes()
    try:
        return detached(notes, *step.args[1:6])  # type: ignore[arg-type]
    except SyscallError as error:
        from ocirun.executor.failures import step_failed

        log = notes.log.decode("utf-8", "replace")
        raise step_failed(step, error.errno or 0, error.call, log) from None


class _Notes:
    """Takes the kernel's words, as init's `Child` does."""

    def __init__(self) -> None:
        self.log = b""


def _user_namespace(step: Step, uids: bytes, gids: bytes) -> int:
    """The descriptor of a user namespace with these maps. Raises SyscallError, StepFailed.

    It takes a process to make one, which lives until its namespace is held. It has no exit
    signal: in a library, the caller's handlers and waits see nothing of it.
    """
    reading, writing = posix.pipe2(posix.O_CLOEXEC)
    try:
        pid = clone3(CLONE_NEWUSER, signal=0)
        if pid == 0:
            _hold(reading, writing)
        try:
            if posix.geteuid() != 0:
                _write(f"/proc/{pid}/setgroups", b"deny", _map_step(step, "gid", b"deny"))
            for name, text in (("uid", uids), ("gid", gids)):
                _write(f"/proc/{pid}/{name}_map", text, _map_step(step, name, text))
            return _open(f"/proc/{pid}/ns/user", posix.O_RDONLY)
        finally:
            posix.kill(pid, _signal.SIGKILL)
            posix.waitpid(pid, _WALL)
    finally:
        posix.close(reading)
        posix.close(writing)


def _hold(reading: int, writing: int) -> "NoReturn":
    """Be the process that holds a namespace: until it is killed, or its parent has died."""
    try:
        posix.close(writing)
        posix.read(reading, 1)
    finally:
        posix._exit(0)


def _map_step(step: Step, name: str, text: bytes) -> Step:
    return Step("mount-map", f"{step.pointer}/{name}Mappings", name, step.args[0], text)


def _write(path: str, text: bytes, step: Step) -> None:
    try:
        fd = _open(path, posix.O_WRONLY)
        try:
            posix.write(fd, text)
        finally:
            posix.close(fd)
    except OSError as error:
        from ocirun.executor.failures import step_failed

        raise step_failed(step, error.errno or 0, f"write({path})") from None


def _open(path: str, flags: int) -> int:
    try:
        return posix.open(path, flags | posix.O_CLOEXEC)
    except OSError as error:
        raise SyscallError(f"open({path})", error.errno) from None


def _failed(step: Step, error: SyscallError) -> "OcirunError":
    """The exception for a tree that cannot be had. Cold."""
    import errno

    from ocirun.executor.failures import step_failed

    number = error.errno or 0
    if error.call != "mount_setattr":
        return step_failed(step, number, error.call)
    whole: bool = step.args[9][0]  # type: ignore[index]
    call = "mount_setattr(MOUNT_ATTR_IDMAP" + (", AT_RECURSIVE)" if whole else ")")
    failure = step_failed(step, number, call)
    kinds = ", ".join(_kinds(step.args[1], whole))  # type: ignore[arg-type]
    if number == errno.EINVAL:
        failure.hint = f"this kernel cannot map the ids of this file system ({kinds})"
    elif number == errno.EPERM:
        failure.hint = (
            f"ids can be mapped once, by who is privileged over the file system ({kinds}): "
            "not in a user namespace, nor where the source is an id-mapped mount"
        )
    return failure


def _kinds(source: bytes, whole: bool) -> list[str]:
    """The file systems at, and with `whole` below, a path of the host. Cold."""
    import os

    place = os.path.realpath(source)
    with open("/proc/self/mountinfo", "rb") as file:
        lines = [line.split(b" ") for line in file.read().splitlines()]
    points = [(fields[4], fields[fields.index(b"-", 6) + 1]) for fields in lines]
    here = [
        (len(point), number, kind)
        for number, (point, kind) in enumerate(points)
        if (place + b"/").startswith(point.rstrip(b"/") + b"/")
    ]
    found = [max(here)[2]] if here else []
    if whole:
        found += [kind for point, kind in points if point.startswith(place + b"/")]
    return [kind.decode() for kind in dict.fromkeys(found)]
