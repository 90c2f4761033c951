"""The options of the machine's v2 hierarchy, which CRIU does not know to keep.

A mount of cgroup2 without options takes those away that the machine has set, for all of its
mounts (cgroup-v2.rst, "Mounting"): nsdelegate, memory_recursiveprot and the like.
"""

import posix

from ocirun.linux.ffi import SyscallError
from ocirun.linux.fs import O_PATH
from ocirun.linux.mount import fsconfig_flag, fsconfig_reconfigure, fspick


def options() -> tuple[bytes, tuple[bytes, ...]]:
    """(mount point, options) of the v2 hierarchy; (b"", ()) if there is none."""
    fd = posix.open("/proc/self/mountinfo", posix.O_RDONLY | posix.O_CLOEXEC)
    data = b""
    try:
        while chunk := posix.read(fd, 1 << 16):
            data += chunk
    finally:
        posix.close(fd)
    for line in data.splitlines():
        own, _, of_all = line.partition(b" - ")
        kind, _, words = of_all.split(b" ", 2)
        if kind == b"cgroup2":
            flags = (word for word in words.split(b",") if word not in (b"rw", b"ro"))
            return own.split(b" ")[4], tuple(flags)
    return b"", ()


def put_back(before: tuple[bytes, tuple[bytes, ...]]) -> None:
    """Set the options that were there before, if they have changed. Not possible for a user."""
    point, wanted = before
    if not point or options() == before:
        return
    fd = posix.open(point, O_PATH | posix.O_CLOEXEC)
    try:
        context = fspick(fd)
        try:
            for word in wanted:
                fsconfig_flag(context, word)
            fsconfig_reconfigure(context)
        finally:
            posix.close(context)
    except SyscallError:
        pass
    finally:
        posix.close(fd)
