"""The steps that build the container's file systems. Performed by init, before the pivot.

Every function takes the child's context and the arguments of its step, as the
planners in `ocirun.plan` wrote them. Nothing is decided here that could have
been decided there.
"""

import posix

from ocirun.executor.copyup import copy_up
from ocirun.executor.paths import (
    EACCES,
    EINVAL,
    ENOTDIR,
    EPERM,
    find,
    is_directory,
    make,
    refuse_proc,
)
from ocirun.linux.ffi import SyscallError
from ocirun.linux.fs import (
    O_PATH,
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    openat2,
)
from ocirun.linux.mount import (
    AT_FDCWD,
    AT_RECURSIVE,
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    MS_REC,
    MS_SLAVE,
    OPEN_TREE_CLONE,
    PROC_SUPER_MAGIC,
    context_log,
    filesystem_magic,
    fsconfig_create,
    fsconfig_flag,
    fsconfig_reconfigure,
    fsconfig_string,
    fsmount,
    fsopen,
    fspick,
    mount,
    mount_setattr,
    move_mount,
    open_tree,
    pivot_root,
    umount2,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.executor.child import Child
    from ocirun.plan.step import Plan

Data = tuple[tuple[bytes, bytes | None], ...]
Mapping = tuple[()] | tuple[bool, bytes, bytes]
"""(the whole tree, uid map, gid map) of a bind mount, or nothing."""
PREPARED = frozenset((b"proc", b"sysfs", b"tmpfs", b"devpts", b"mqueue"))
"""File systems that hold nothing but the kernel's, and can be made before their container."""
_DIRECTORY = O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC


def propagation(child: "Child", path: bytes, flags: int) -> None:
    """Set the propagation of a mount point (mount_namespaces(7))."""
    mount(None, path, None, flags)


def rootfs(child: "Child", path: bytes) -> None:
    """Clone the tree at `path` and put it there as a mount of its own."""
    tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | AT_RECURSIVE)
    target = posix.open(path, _DIRECTORY)
    move_mount(tree, target)
    posix.close(target)
    child.root = tree


def overlay(
    child: "Child", mountpoint: bytes, lowers: tuple[bytes, ...], upper: bytes, work: bytes,
    userxattr: bool, context: Data,
) -> None:  # fmt: skip
    """Mount an overlay as the root file system, inside the container's own mount namespace."""
    held: list[int] = []
    if upper == b"tmpfs":
        # The scratch space may come to lie over the lower layers, which are held before.
        held = [posix.open(path, _DIRECTORY) for path in lowers]
        lowers = tuple(b"/proc/self/fd/%d" % fd for fd in held)
        scratch = detached(child, b"tmpfs", b"tmpfs", 0, (), ((b"mode", b"755"), *context))
        target = posix.open(mountpoint, _DIRECTORY)
        move_mount(scratch, target)
        posix.close(target)
        below = posix.stat(lowers[0])
        posix.mkdir(b"work", 0o700, dir_fd=scratch)
        posix.mkdir(b"upper", below.st_mode & 0o7777, dir_fd=scratch)
        posix.chown(b"upper", below.st_uid, below.st_gid, dir_fd=scratch)
        # The overlay looks these up once, now, through the host's procfs.
        base = b"/proc/self/fd/%d/" % scratch
        upper, work = base + b"upper", base + b"work"
    data: list[tuple[bytes, bytes | None]] = [
        (b"lowerdir", b":".join(_escape(path) for path in lowers))
    ]
    if upper:
        data += [(b"upperdir", upper), (b"workdir", work)]
    if userxattr:
        # What overlayfs remembers of a file is in attributes that only root may set (trusted.*),
        # or then in others (overlayfs.rst, "userxattr"; Linux 5.11).
        data.append((b"userxattr", None))
    merged = detached(child, b"overlay", b"overlay", 0, (), (*data, *context))
    for fd in held:
        posix.close(fd)
    target = posix.open(mountpoint, _DIRECTORY)
    move_mount(merged, target)
    posix.close(target)
    child.root = merged


def _escape(path: bytes) -> bytes:
    """A colon separates lower directories (overlayfs.rst)."""
    return path.replace(b"\\", b"\\\\").replace(b":", b"\\:")


def detached(
    child: "Child",
    kind: bytes,
    source: bytes,
    attrs: int,
    superblock: tuple[bytes, ...],
    data: Data,
) -> int:
    """A new file system as a mount that hangs nowhere yet. Returns its descriptor."""
    context = fsopen(kind)
    try:
        fsconfig_string(context, b"source", source)
        _configure(context, superblock, data)
        fsconfig_create(context)
        return fsmount(context, attrs)
    except SyscallError:
        child.log = context_log(context)
        raise
    finally:
        posix.close(context)


def _configure(context: int, superblock: tuple[bytes, ...], data: Data) -> None:
    for flag in superblock:
        fsconfig_flag(context, flag)
    for key, value in data:
        if value is None:
            fsconfig_flag(context, key)
        else:
            fsconfig_string(context, key, value)


def _propagate(fd: int, flags: tuple[int, ...]) -> None:
    for flag in flags:
        mount_setattr(fd, 0, 0, flag & ~MS_REC, bool(flag & MS_REC))


def filesystem(
    child: "Child", path: bytes, kind: bytes, source: bytes, attrs: int,
    superblock: tuple[bytes, ...], data: Data, mount_only: int, tree: tuple[int, int],
    flags: tuple[int, ...],
) -> None:  # fmt: skip
    """Mount a new file system on `path`."""
    strict = kind in (b"proc", b"sysfs")
    target = make(child.root, path, True, strict, made=child.made)
    refuse_proc(target)
    if mount_only:
        _mount_by_name(target, kind, source, mount_only, data)
        new = find(child.root, path)
        mount_setattr(new, attrs, 0, 0, False)
    else:
        new = child.trees.pop(0) if child.trees else -1
        if new < 0:
            new = made_filesystem(child, kind, source, attrs, superblock, data)
        child.place(new, target)
    posix.close(target)
    if tree[0] or tree[1]:
        mount_setattr(new, tree[0], tree[1], 0, True)
    _propagate(new, flags)
    _let_go(child, path, new)


def made_filesystem(
    child: "Child", kind: bytes, source: bytes, attrs: int, superblock: tuple[bytes, ...],
    data: Data,
) -> int:  # fmt: skip
    """A new file system; the parent makes it if init's cgroup may not open the block device."""
    ready = child.link.ready.pop((kind, source, attrs, superblock, data), -1)
    if ready >= 0:
        return ready
    try:
        return detached(child, kind, source, attrs, superblock, data)
    except SyscallError as error:
        if error.errno != EPERM or not source.startswith(b"/") or in_user_namespace(child.plan):
            raise
    return child.ask_for_tree(-1)


def in_user_namespace(plan: "Plan") -> bool:
    """The container's user namespace is not that of the runtime."""
    return bool(plan.uid_map) or any(step.args[0] == "user" for step in plan.joins)


def filesystem_copy(
    child: "Child", path: bytes, kind: bytes, source: bytes, attrs: int,
    superblock: tuple[bytes, ...], data: Data, mount_only: int, tree: tuple[int, int],
    flags: tuple[int, ...],
) -> None:  # fmt: skip
    """Mount a new tmpfs on `path`, filled with what is there."""
    target = make(child.root, path, True)
    refuse_proc(target)
    new = detached(child, kind, source, 0, superblock, data)
    here = posix.open(b".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=target)
    copy_up(here, new)
    posix.close(here)
    move_mount(new, target)
    mount_setattr(new, attrs | tree[0], tree[1], 0, True)
    _propagate(new, flags)
    posix.close(target)
    _let_go(child, path, new)


def _mount_by_name(target: int, kind: bytes, source: bytes, flags: int, data: Data) -> None:
    """mount(2) through the host's procfs, for the flags that fsconfig(2) does not know."""
    words = b",".join(key if value is None else key + b"=" + value for key, value in data)
    mount(source, b"/proc/self/fd/%d" % target, kind, flags, words)


def bind(
    child: "Child", path: bytes, source: bytes, recursive: bool, attr_set: int, attr_clr: int,
    tree_set: int, tree_clr: int, flags: tuple[int, ...], inform: bool, mapping: Mapping,
) -> None:  # fmt: skip
    """Show a file or a tree of the host on `path`."""
    tree = child.trees.pop(0) if child.trees else bind_source(child, source, recursive, mapping)
    target = make(child.root, path, is_directory(tree), made=child.made)
    if path == b"/proc":
        if filesystem_magic(tree) != PROC_SUPER_MAGIC:
            raise SyscallError("fstatfs(PROC_SUPER_MAGIC)", EPERM)
    elif not inform:
        refuse_proc(target)
    if tree_set or tree_clr:
        mount_setattr(tree, tree_set, tree_clr, 0, True)
    if attr_set or attr_clr:
        mount_setattr(tree, attr_set, attr_clr, 0, False)
    try:
        child.place(tree, target)
    except SyscallError as error:
        if error.errno == EINVAL and is_directory(tree) != is_directory(target):
            raise SyscallError("move_mount", ENOTDIR) from None  # as mount(2) has it
        raise
    _propagate(tree, flags)
    posix.close(target)
    _let_go(child, path, tree)


def bind_source(child: "Child", source: bytes, recursive: bool, mapping: Mapping) -> int:
    """A tree of the host. The parent maps its ids, and opens it where init may not.

    Init's own mount namespace has the flags of the host's mounts locked, so it opens
    the tree itself if it can; the parent has the privileges to map it.
    """
    tree = -1
    try:
        tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | (AT_RECURSIVE if recursive else 0))
    except SyscallError as error:
        if error.errno != EACCES or not in_user_namespace(child.plan):
            raise
    return child.ask_for_tree(tree) if mapping or tree < 0 else tree


def _let_go(child: "Child", path: bytes, tree: int) -> None:
    """Close what has been mounted on `path`; over "/" it is the root from here on."""
    if path == b"/":
        child.replace_root(tree)
    else:
        posix.close(tree)


def remount(
    child: "Child", path: bytes, attr_set: int, attr_clr: int, superblock: tuple[bytes, ...],
    data: Data, flags: tuple[int, ...], tree: tuple[int, int],
) -> None:  # fmt: skip
    """Change the options of what is mounted on `path`."""
    target = find(child.root, path)
    if superblock or data:
        context = fspick(target)
        try:
            _configure(context, superblock, data)
            fsconfig_reconfigure(context)
        except SyscallError:
            child.log = context_log(context)
            raise
        finally:
            posix.close(context)
    if tree[0] or tree[1]:
        mount_setattr(target, tree[0], tree[1], 0, True)
    if attr_set or attr_clr:
        mount_setattr(target, attr_set, attr_clr, 0, False)
    _propagate(target, flags)
    posix.close(target)


def attributes(child: "Child", path: bytes, attr_set: int, attr_clr: int, recursive: bool) -> None:
    """Change the attributes of the mount on `path`."""
    target = find(child.root, path)
    mount_setattr(target, attr_set, attr_clr, 0, recursive)
    posix.close(target)


def propagate(child: "Child", path: bytes, flags: tuple[int, ...]) -> None:
    """Change the propagation of the mount on `path` in the container."""
    target = find(child.root, path)
    _propagate(target, flags)
    posix.close(target)


def cgroup_view(
    child: "Child", path: bytes, attrs: int, views: tuple[tuple[bytes, bytes, Data], ...],
    links: tuple[tuple[bytes, bytes], ...], data: Data,
) -> None:  # fmt: skip
    """The container's cgroups of v1: a tmpfs with a directory for each hierarchy.

    A view is (name, directory on the host, or b"" for a fresh mount with the data
    that follows). The tmpfs is new and this process's own, so its names can be trusted.
    """
    top = detached(child, b"tmpfs", b"tmpfs", 0, (), data)
    target = make(child.root, path, True, made=child.made)
    refuse_proc(target)
    child.place(top, target)
    posix.close(target)
    for name, source, words in views:
        if source:
            tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | AT_RECURSIVE)
        else:
            tree = detached(child, b"cgroup", b"cgroup", 0, (), words)
        posix.mkdir(name, 0o755, dir_fd=top)
        move_mount(tree, top, name)
        posix.close(tree)
    for name, goal in links:
        posix.symlink(goal, name, dir_fd=top)
    mount_setattr(top, attrs, 0, 0, True)
    posix.close(top)


def own_proc(child: "Child", path: bytes) -> int:
    """Open a file for writing in a procfs of init's own. Returns its descriptor.

    The container's /proc could be a fake, or be swapped meanwhile (CVE-2025-52881).
    """
    if child.proc < 0:
        child.proc = detached(child, b"proc", b"proc", 0, (), ())
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
    return openat2(child.proc, path, posix.O_WRONLY, resolve)


def sysctl(child: "Child", path: bytes, value: bytes) -> None:
    """Set a kernel parameter."""
    fd = own_proc(child, b"sys/" + path)
    try:
        posix.write(fd, value)
    except OSError as error:
        raise SyscallError("write", error.errno) from None
    finally:
        posix.close(fd)


def root_readonly(child: "Child") -> None:
    """Make the root file system read-only, now that all mount points are there."""
    mount_setattr(child.root, MOUNT_ATTR_RDONLY, 0, 0, False)


def pivot(child: "Child") -> None:
    """Make the root file system the root, and let go of the old one (pivot_root(2), NOTES)."""
    old = posix.open(b"/", _DIRECTORY)
    posix.fchdir(child.root)
    pivot_root(b".", b".")
    posix.fchdir(old)
    # With a shared propagation the host would lose its mounts too.
    mount(None, b".", None, MS_SLAVE | MS_REC)
    umount2(b".", MNT_DETACH)
    posix.chdir(b"/")
    posix.close(old)


def move_root(child: "Child") -> None:
    """For an initial ramfs, where pivot_root(2) is refused: move the root file system over "/"."""
    slash = posix.open(b"/", _DIRECTORY)
    move_mount(child.root, slash)
    posix.close(slash)
    chroot(child)


def chroot(child: "Child") -> None:
    """Enter the root file system without changing the mount namespace's root for others."""
    posix.fchdir(child.root)
    posix.chroot(b".")
    posix.chdir(b"/")


STEPS: "dict[str, Callable[..., None]]" = {
    "propagation": propagation,
    "rootfs": rootfs,
    "overlay": overlay,
    "mount": filesystem,
    "mount-copy": filesystem_copy,
    "bind": bind,
    "remount": remount,
    "attributes": attributes,
    "propagate": propagate,
    "cgroup-view": cgroup_view,
    "sysctl": sysctl,
    "root-readonly": root_readonly,
    "pivot": pivot,
    "move-root": move_root,
    "chroot": chroot,
}
