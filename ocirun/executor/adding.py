"""The steps of `mounts add` and `mounts remove`: mounts of a container that runs.

Performed by a process of the runtime's own, which is not in the container's cgroup, is seen by
nobody in there, and executes nothing. All that comes from the host is opened and made before it
enters the container's mount namespace; in there it goes by descriptors alone. The mounting itself
is done by the steps of `filesystem`, as for a new container.
"""

import posix

from ocirun.executor import filesystem
from ocirun.executor.paths import EBUSY, EINVAL, ENOENT, ENOTDIR, find
from ocirun.executor.protocol import READY
from ocirun.linux.clone import CLONE_NEWNS, setns
from ocirun.linux.ffi import SyscallError
from ocirun.linux.fs import O_PATH
from ocirun.linux.mount import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    MNT_DETACH,
    OPEN_TREE_CLONE,
    move_mount,
    open_tree,
    umount2,
)
from ocirun.linux.statx import mount_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from ocirun.executor.child import Child


def ahead(child: "Child", number: int) -> None:
    """Open or make, on the host's side, the tree that a later step mounts."""
    child.number = number  # the parent, if it is asked to help, looks that step up
    args = child.plan.child[number].args
    if child.plan.child[number].op == "bind":
        tree = filesystem.bind_source(child, args[1], args[2], args[9])  # type: ignore[arg-type]
    else:
        tree = filesystem.made_filesystem(child, *args[1:6])  # type: ignore[arg-type]
    child.trees.append(tree)


def enter(child: "Child") -> None:
    """Enter the container's mount namespace. From here on what is done can be taken back."""
    # The host's, to name what a descriptor leads to: umount2(2) takes paths alone.
    child.proc = posix.open(b"/proc", O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    setns(child.link.later, CLONE_NEWNS)
    posix.close(child.link.later)
    made: list[tuple[int, bytes, bool]] = []

    def place(tree: int, target: int) -> None:
        move_mount(tree, target)
        held = posix.dup(tree)
        child.undo.append(lambda: _detach(child, held))

    child.made, child.place = made, place
    child.undo.append(lambda: _remove(made))


def _detach(child: "Child", fd: int) -> None:
    """Unmount the very mount that the descriptor leads to, whatever has become of its place."""
    posix.fchdir(child.proc)
    umount2(b"self/fd/%d" % fd, MNT_DETACH)


def _remove(made: list[tuple[int, bytes, bool]]) -> None:
    """Remove the mount points that have been made, unless somebody uses them by now."""
    for parent, name, directory in reversed(made):
        try:
            (posix.rmdir if directory else posix.unlink)(name, dir_fd=parent)
        except OSError:
            pass


def unmount(child: "Child", path: bytes, own: tuple[bytes, ...]) -> None:
    """Unmount what is on `path`, with all below it, unless it is what one of `own` leads to."""
    target = find(child.root, path)
    mount = mount_of(target)
    if not mount[1]:
        raise SyscallError("umount2", EINVAL)
    for place in own:
        if mount == _mount_on(child, place):
            raise SyscallError("umount2", EBUSY)
    try:
        how = AT_EMPTY_PATH | OPEN_TREE_CLONE | AT_RECURSIVE
        copy = open_tree(target, b"", how)
    except SyscallError:  # an unbindable mount: if the next one fails, it is gone
        copy = -1
    _detach(child, target)
    posix.close(target)
    if copy >= 0:
        child.undo.append(lambda: move_mount(copy, find(child.root, path)))


def _mount_on(child: "Child", place: bytes) -> tuple[int, bool]:
    try:
        fd = find(child.root, place)
    except SyscallError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return (0, False)
        raise
    try:
        return mount_of(fd)
    finally:
        posix.close(fd)


def leave(child: "Child") -> "NoReturn":
    """Say that all is done, and end: nothing is executed."""
    child.sock.send(READY)
    posix._exit(0)


STEPS: "dict[str, Callable[..., None]]" = {
    "ahead": ahead,
    "enter": enter,
    "unmount": unmount,
    "leave": leave,
}
