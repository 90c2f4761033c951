"""The options of the machine's v2 hierarchy, which CRIU does not know to keep.

A mount of cgroup2 without options takes those away that the machine has set, for all of its
mounts (cgroup-v2.rst, "Mounting"): nsdelegate, memory_recursiveprot and the like.
"""

import posix
from fcntl import LOCK_EX, flock

from ocirun.cgroups.files import read
from ocirun.linux.ffi import SyscallError
from ocirun.linux.mount import fsconfig_flag, fsconfig_reconfigure, fspick


class Hierarchy:
    """Keeps the options while one CRIU runs; others wait, or each would keep what another left."""

    def __init__(self) -> None:
        self._fd = -1
        point, self._options = _options()
        if not point:
            return
        self._fd = posix.open(point, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        flock(self._fd, LOCK_EX)
        self._options = _options()[1]

    def close(self) -> None:
        """Set the options that were there before, if they have changed. Not possible for a user."""
        if self._fd < 0:
            return
        try:
            if _options()[1] != self._options:
                self._put_back()
        except SyscallError:
            pass
        finally:
            posix.close(self._fd)
            self._fd = -1

    def _put_back(self) -> None:
        context = fspick(self._fd)
        try:
            for word in self._options:
                fsconfig_flag(context, word)
            fsconfig_reconfigure(context)
        finally:
            posix.close(context)


def _options() -> tuple[bytes, tuple[bytes, ...]]:
    """(mount point, options) of the v2 hierarchy; (b"", ()) if there is none."""
    for line in read("/proc/self/mountinfo").splitlines():
        own, _, of_all = line.partition(b" - ")
        kind, _, words = of_all.split(b" ", 2)
        if kind == b"cgroup2":
            flags = (word for word in words.split(b",") if word not in (b"rw", b"ro"))
            return own.split(b" ")[4], tuple(flags)
    return b"", ()
