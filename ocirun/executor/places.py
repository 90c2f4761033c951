"""The steps that make and cover single places: devices, links, masks, read-only paths.

Performed by init, before the pivot. Nothing is decided here that could have been
decided by the planner.
"""

import posix

from ocirun.executor.filesystem import detached
from ocirun.executor.paths import (
    EEXIST,
    ENOENT,
    ENOTDIR,
    EPERM,
    S_IFMT,
    find,
    is_directory,
    make,
)
from ocirun.linux.ffi import SyscallError
from ocirun.linux.fs import O_PATH
from ocirun.linux.mount import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    OPEN_TREE_CLONE,
    mount_setattr,
    move_mount,
    open_tree,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.executor.child import Child
    from ocirun.executor.filesystem import Data

_S_IFCHR = 0o020000
ENODEV = 19


def device(
    child: "Child", path: bytes, mode: int, major: int, minor: int, uid: int, gid: int, bound: bool
) -> None:
    """Make a device node, or show the host's where mknod(2) is not allowed."""
    parent, name = child.parent_of(path)
    number = posix.makedev(major, minor)
    if bound:
        _bind_device(parent, name, path, mode, number)
        return
    try:
        posix.mknod(name, mode, number, dir_fd=parent)
    except OSError as error:
        if error.errno == EPERM:  # in a nested container
            _bind_device(parent, name, path, mode, number)
            return
        if error.errno == EEXIST:
            there = posix.lstat(name, dir_fd=parent)
            if (there.st_mode & S_IFMT, there.st_rdev) == (mode & S_IFMT, number):
                return
        raise SyscallError("mknodat", error.errno) from None
    if uid or gid:
        posix.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)


def _bind_device(parent: int, name: bytes, source: bytes, mode: int, number: int) -> None:
    tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE)
    there = posix.fstat(tree)
    if (there.st_mode & S_IFMT, there.st_rdev) != (mode & S_IFMT, number):
        raise SyscallError("fstat", ENODEV)
    flags = posix.O_CREAT | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        posix.close(posix.open(name, flags | posix.O_EXCL, 0o666, dir_fd=parent))
    except OSError as error:
        if error.errno != EEXIST:
            raise SyscallError("openat", error.errno) from None
    target = posix.open(name, O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=parent)
    move_mount(tree, target)
    posix.close(tree)
    posix.close(target)


def symlink(child: "Child", target: bytes, path: bytes, replace: bool) -> None:
    """Make a symlink; one that is there already stays, unless it is to be replaced."""
    parent, name = child.parent_of(path)
    try:
        if replace:
            try:
                posix.unlink(name, dir_fd=parent)
            except OSError as error:
                if error.errno != ENOENT:
                    raise SyscallError("unlinkat", error.errno) from None
        posix.symlink(target, name, dir_fd=parent)
    except OSError as error:
        if error.errno != EEXIST:
            raise SyscallError("symlinkat", error.errno) from None


def make_directory(child: "Child", path: bytes) -> None:
    """Make a directory in the container's root, if there is none."""
    posix.close(make(child.root, path, True))


def _find_if_there(child: "Child", path: bytes) -> int:
    """The descriptor of a place in the container, -1 if it is missing."""
    try:
        return find(child.root, path)
    except SyscallError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return -1
        raise


def mask(child: "Child", path: bytes, context: "Data" = ()) -> None:
    """Hide a path behind /dev/null or an empty tmpfs. A missing one is fine, as with runc."""
    target = _find_if_there(child, path)
    if target < 0:
        return
    if is_directory(target):
        cover = _empty_directory(child, context)
    else:
        cover = open_tree(AT_FDCWD, b"/dev/null", OPEN_TREE_CLONE)
        null = posix.fstat(cover)
        if null.st_mode & S_IFMT != _S_IFCHR or null.st_rdev != posix.makedev(1, 3):
            raise SyscallError("fstat(/dev/null)", EPERM)
    move_mount(cover, target)
    posix.close(target)
    if cover != child.empty:
        posix.close(cover)


def _empty_directory(child: "Child", context: "Data") -> int:
    """One read-only tmpfs serves all masks: a mount is cloned from the first."""
    if child.empty < 0:
        attrs = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
        data = ((b"mode", b"755"), *context)
        child.empty = detached(child, b"tmpfs", b"tmpfs", attrs, (), data)
        return child.empty
    return open_tree(child.empty, b"", AT_EMPTY_PATH | OPEN_TREE_CLONE)


def readonly(child: "Child", path: bytes) -> None:
    """Make a path read-only. A missing one is fine, as with runc."""
    target = _find_if_there(child, path)
    if target < 0:
        return
    tree = open_tree(target, b"", AT_EMPTY_PATH | OPEN_TREE_CLONE | AT_RECURSIVE)
    mount_setattr(tree, MOUNT_ATTR_RDONLY, 0, 0, False)
    move_mount(tree, target)
    posix.close(tree)
    posix.close(target)


STEPS: "dict[str, Callable[..., None]]" = {
    "device": device,
    "symlink": symlink,
    "make-directory": make_directory,
    "mask": mask,
    "readonly": readonly,
}
