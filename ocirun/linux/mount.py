"""The mount interfaces: mount(2), umount2(2), pivot_root(2) and the file-descriptor based ones.

fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2)
and fspick(2) have the same numbers on every architecture.
"""

import posix

from ocirun.linux.ffi import (
    SyscallError,
    address_of,
    c_char_p,
    c_int,
    c_long,
    c_uint,
    c_ulong,
    c_void_p,
    check,
    get_errno,
    libc,
    syscall,
)

# mount(2)
MS_RDONLY = 0x1
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MNT_DETACH = 2

# open_tree(2), move_mount(2), fsmount(2), mount_setattr(2), fspick(2)
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSPICK_CLOEXEC = 1
FSPICK_EMPTY_PATH = 8
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

# statfs(2) magic numbers
PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
DEVPTS_SUPER_MAGIC = 0x1CD1

_mount = libc("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = libc("umount2", c_char_p, c_int)
_pivot_root = libc("pivot_root", c_char_p, c_char_p)
_fstatfs = libc("fstatfs", c_int, c_void_p)
_open_tree = syscall(428, c_int, c_char_p, c_uint)
_move_mount = syscall(429, c_int, c_char_p, c_int, c_char_p, c_uint)
_fsopen = syscall(430, c_char_p, c_uint)
_fsconfig = syscall(431, c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = syscall(432, c_int, c_uint, c_uint)
_fspick = syscall(433, c_int, c_char_p, c_uint)
_mount_setattr = syscall(442, c_int, c_char_p, c_uint, c_char_p, c_long)


def mount(
    source: bytes | None,
    target: bytes,
    fstype: bytes | None,
    flags: int,
    data: bytes | None = None,
) -> None:
    """mount(2): for propagation by path, and for flags that fsconfig(2) does not know."""
    check(_mount(source, target, fstype, flags, data), "mount")


def umount2(target: bytes, flags: int) -> None:
    """umount2(2)."""
    check(_umount2(target, flags), "umount2")


def pivot_root(new_root: bytes, put_old: bytes) -> None:
    """pivot_root(2)."""
    check(_pivot_root(new_root, put_old), "pivot_root")


def open_tree(fd: int, path: bytes, flags: int) -> int:
    """open_tree(2), always close-on-exec. Returns a descriptor."""
    return check(_open_tree(428, fd, path, flags | OPEN_TREE_CLOEXEC), "open_tree")


def move_mount(fd: int, target: int, name: bytes = b"") -> None:
    """move_mount(2) from a mount descriptor onto the place that `target` (O_PATH) denotes.

    With `name`: onto that name in the directory.
    """
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if name else MOVE_MOUNT_T_EMPTY_PATH)
    check(_move_mount(429, fd, b"", target, name, flags), "move_mount")


def fsopen(fstype: bytes) -> int:
    """fsopen(2), close-on-exec. Returns a file system context."""
    return check(_fsopen(430, fstype, FSOPEN_CLOEXEC), "fsopen")


def fsconfig_string(fd: int, key: bytes, value: bytes) -> None:
    """fsconfig(2), FSCONFIG_SET_STRING."""
    if _fsconfig(431, fd, FSCONFIG_SET_STRING, key, value, 0) == -1:
        raise SyscallError("fsconfig(" + key.decode("latin-1") + ")", get_errno())


def fsconfig_flag(fd: int, key: bytes) -> None:
    """fsconfig(2), FSCONFIG_SET_FLAG."""
    if _fsconfig(431, fd, FSCONFIG_SET_FLAG, key, None, 0) == -1:
        raise SyscallError("fsconfig(" + key.decode("latin-1") + ")", get_errno())


def fsconfig_create(fd: int) -> None:
    """fsconfig(2), FSCONFIG_CMD_CREATE: make the superblock."""
    check(_fsconfig(431, fd, FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig(FSCONFIG_CMD_CREATE)")


def fsconfig_reconfigure(fd: int) -> None:
    """fsconfig(2), FSCONFIG_CMD_RECONFIGURE."""
    call = "fsconfig(FSCONFIG_CMD_RECONFIGURE)"
    check(_fsconfig(431, fd, FSCONFIG_CMD_RECONFIGURE, None, None, 0), call)


def fsmount(fd: int, attrs: int) -> int:
    """fsmount(2), close-on-exec. Returns the descriptor of a detached mount."""
    return check(_fsmount(432, fd, FSMOUNT_CLOEXEC, attrs), "fsmount")


def fspick(fd: int) -> int:
    """fspick(2) of the mount that `fd` denotes. Returns a file system context."""
    return check(_fspick(433, fd, b"", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH), "fspick")


def mount_setattr(fd: int, attr_set: int, attr_clr: int, propagation: int, recursive: bool) -> None:
    """mount_setattr(2) of the mount that `fd` denotes (struct mount_attr, four 64-bit words)."""
    attr = (
        attr_set.to_bytes(8, "little")
        + attr_clr.to_bytes(8, "little")
        + propagation.to_bytes(8, "little")
        + bytes(8)
    )
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    check(_mount_setattr(442, fd, b"", flags, attr, 32), "mount_setattr")


def mount_idmap(fd: int, userns: int, recursive: bool) -> None:
    """mount_setattr(2), MOUNT_ATTR_IDMAP: a detached mount's ids, as a user namespace maps them."""
    attr = MOUNT_ATTR_IDMAP.to_bytes(8, "little") + bytes(16) + userns.to_bytes(8, "little")
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    check(_mount_setattr(442, fd, b"", flags, attr, 32), "mount_setattr")


def filesystem_magic(fd: int) -> int:
    """f_type of fstatfs(2)."""
    buffer = bytearray(256)  # struct statfs is 120 bytes on 64-bit machines
    check(_fstatfs(fd, address_of(buffer)), "fstatfs")
    return int.from_bytes(buffer[:8], "little")


def context_log(fd: int) -> bytes:
    """What the file system has to say about the last failure: fsopen(2)'s message log.

    Each message begins with its kind and a blank ("e tmpfs: ..."), which are left out.
    """
    words: list[bytes] = []
    try:
        while len(words) < 8:
            words.append(posix.read(fd, 512)[2:].rstrip(b"\n"))
    except OSError:  # ENODATA: the log is empty
        pass
    return b"; ".join(words)
