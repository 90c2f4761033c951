"""What a process can set about itself: prctl(2), capset(2), prlimit(2), close_range(2), names."""

import posix

from ocirun.linux.ffi import (
    SyscallError,
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

PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
CLOSE_RANGE_CLOEXEC = 4
KEYCTL_JOIN_SESSION_KEYRING = 1
_CAPABILITY_VERSION_3 = 0x20080522

_prctl = libc("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_capset = libc("capset", c_char_p, c_char_p)
_prlimit = libc("prlimit", c_int, c_int, c_char_p, c_void_p)
_personality = libc("personality", c_ulong)
_sethostname = libc("sethostname", c_char_p, c_long)
_setdomainname = libc("setdomainname", c_char_p, c_long)
# keyctl(2) has no function in libc, and a number of its own on x86-64.
_KEYCTL = 250 if posix.uname().machine == "x86_64" else 219
_keyctl = syscall(_KEYCTL, c_int, c_char_p)
_close_range = syscall(436, c_uint, c_uint, c_uint)
_pidfd_getfd = syscall(438, c_int, c_int, c_uint)


def prctl(option: int, arg2: int = 0, arg3: int = 0, call: str = "prctl") -> int:
    """prctl(2); `call` names it in errors."""
    return check(_prctl(option, arg2, arg3, 0, 0), call)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of this process; the sets are bit masks of capability numbers."""
    data = b""
    for shift in (0, 32):
        for mask in (effective, permitted, inheritable):
            data += ((mask >> shift) & 0xFFFFFFFF).to_bytes(4, "little")
    check(_capset(_CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4), data), "capset")


def prlimit(resource: int, soft: int, hard: int) -> None:
    """prlimit(2) of this process; 2**64-1 is RLIM_INFINITY."""
    limits = soft.to_bytes(8, "little") + hard.to_bytes(8, "little")
    check(_prlimit(0, resource, limits, None), "prlimit")


def personality(domain: int) -> None:
    """personality(2)."""
    check(_personality(domain), "personality")


def sethostname(name: bytes) -> None:
    """sethostname(2)."""
    check(_sethostname(name, len(name)), "sethostname")


def setdomainname(name: bytes) -> None:
    """setdomainname(2)."""
    check(_setdomainname(name, len(name)), "setdomainname")


def close_range(first: int, last: int, flags: int = 0) -> None:
    """close_range(2), bounds included."""
    check(_close_range(436, first, last, flags), "close_range")


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """pidfd_getfd(2): a copy of another process's descriptor, close-on-exec."""
    return check(_pidfd_getfd(438, pidfd, fd, 0), "pidfd_getfd")


def join_session_keyring(name: bytes) -> None:
    """keyctl(2), KEYCTL_JOIN_SESSION_KEYRING: a new session keyring of that name.

    A kernel without keys (ENOSYS), or one that refuses more of them to this
    user (EDQUOT, EACCES, EPERM), leaves things as they are, as with runc.
    """
    if _keyctl(_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, name) == -1:
        error = get_errno()
        if error not in (1, 13, 38, 122):
            raise SyscallError("keyctl(KEYCTL_JOIN_SESSION_KEYRING)", error)
