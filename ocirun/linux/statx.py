"""statx(2): which mount a place is on. Needs Linux 5.8, and a libc that has the call."""

from ocirun.linux.ffi import address_of, c_char_p, c_int, c_uint, c_void_p, check, libc
from ocirun.linux.mount import AT_EMPTY_PATH

STATX_MNT_ID = 0x1000
STATX_ATTR_MOUNT_ROOT = 0x2000

_statx = libc("statx", c_int, c_char_p, c_int, c_uint, c_void_p)


def mount_of(fd: int) -> tuple[int, bool]:
    """(id of the mount that a descriptor leads to, whether it leads to the root of that mount)."""
    buffer = bytearray(256)  # struct statx
    check(_statx(fd, b"", AT_EMPTY_PATH, STATX_MNT_ID, address_of(buffer)), "statx")
    attributes = int.from_bytes(buffer[8:16], "little")
    # stx_mnt_id follows four timestamps of 16 bytes and two device numbers of 8.
    return int.from_bytes(buffer[144:152], "little"), bool(attributes & STATX_ATTR_MOUNT_ROOT)
