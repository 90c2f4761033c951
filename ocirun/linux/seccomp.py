"""seccomp(2). Programs come as bytes of struct sock_filter; what they say is not decided here."""

import posix
import sys

from ocirun.linux.ffi import SyscallError, address_of, c_char_p, c_uint, get_errno, syscall

SET_MODE_FILTER = 1
EFAULT = 14

# asm-generic has 277; the older architectures have numbers of their own.
_NUMBERS = {"x86_64": 317, "s390x": 348, "ppc64le": 358, "i686": 354, "armv7l": 383}
_NUMBER = _NUMBERS.get(posix.uname().machine, 277)
_POINTER = 8 if sys.maxsize > 2**32 else 4

# Holding: nothing of the interpreter may come between the call and what follows it.
_seccomp = syscall(_NUMBER, c_uint, c_uint, c_char_p, holding=True)


def set_mode_filter(program: bytes, flags: int) -> int:
    """seccomp(2), SECCOMP_SET_MODE_FILTER. Returns the listener with NEW_LISTENER, else 0.

    Raises SyscallError.
    """
    code = bytearray(program)
    # struct sock_fprog { unsigned short len; struct sock_filter *filter; }
    head = (len(code) // 8).to_bytes(2, sys.byteorder).ljust(_POINTER, b"\0")
    filters = head + address_of(code).to_bytes(_POINTER, sys.byteorder)
    result: int = _seccomp(_NUMBER, SET_MODE_FILTER, flags, filters)
    if result < 0:
        raise SyscallError("seccomp(SECCOMP_SET_MODE_FILTER)", get_errno())
    return result


def knows_flags(flags: int) -> bool:
    """The kernel knows these flags: it looks at them before it misses the program."""
    return _seccomp(_NUMBER, SET_MODE_FILTER, flags, None) == -1 and get_errno() == EFAULT
