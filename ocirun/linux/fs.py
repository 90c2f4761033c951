"""Opening and making things below a directory descriptor: openat2(2), mknodat(2) and friends.

The functions of `posix` serve for all that Python can do itself.
"""

import posix

from ocirun.linux.ffi import c_char_p, c_int, c_long, check, syscall

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
O_PATH = 0o10000000

_openat2 = syscall(437, c_int, c_char_p, c_char_p, c_long)


def openat2(fd: int, path: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2), always close-on-exec. Returns a descriptor."""
    how = (
        (flags | posix.O_CLOEXEC).to_bytes(8, "little")
        + mode.to_bytes(8, "little")
        + resolve.to_bytes(8, "little")
    )
    return check(_openat2(437, fd, path, how, 24), "openat2")
