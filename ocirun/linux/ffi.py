"""The one place that speaks to libc.

It uses `_ctypes`, the C half of ctypes: `import ctypes` costs 3.5 ms at every
start of the interpreter, `_ctypes` 0.7 ms. Every prototype is bound once, with
its argument types, so that no integer is cut to 32 bits by accident.

A call that fails raises `SyscallError`, with the name of the call and errno.
"""

import _ctypes

# Argument types. Integers beyond a type's range are cut by ctypes without a
# word, so callers check ranges first (see plan/process.py).


class c_int(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """int"""

    _type_ = "i"


class c_uint(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """unsigned int"""

    _type_ = "I"


class c_long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """long, also size_t, ssize_t and off_t"""

    _type_ = "l"


class c_ulong(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """unsigned long"""

    _type_ = "L"


class c_char_p(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """const char *: bytes or None. Also for structures: immutable bytes that the kernel reads."""

    _type_ = "z"


class c_void_p(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """void *: an address, or None."""

    _type_ = "P"


class SyscallError(OSError):
    """A system call failed.

    Attributes:
        errno: the kernel's error number.
        call: the name of the call, with the argument that matters, if one does.
    """

    def __init__(self, call: str, error: int | None) -> None:
        super().__init__(error or 0, call)
        self.call = call


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = c_long


class _HoldingFunction(_ctypes.CFuncPtr):
    """Keeps the interpreter's lock during the call: for calls that return twice."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO | _ctypes.FUNCFLAG_PYTHONAPI
    _restype_ = c_long


class _IntFunction(_ctypes.CFuncPtr):
    """For libc functions that return int: the upper half of the register is not theirs."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = c_int


# RTLD_NOW: the interpreter's own libc
_HANDLE = _ctypes.dlopen(None, 2)  # type: ignore[arg-type]
_SYSCALL = _ctypes.dlsym(_HANDLE, "syscall")
get_errno = _ctypes.get_errno


def libc(name: str, *argtypes: type) -> "_IntFunction":
    """Bind a function of libc that returns int. Raises OSError if libc has none of that name."""
    function = _IntFunction(_ctypes.dlsym(_HANDLE, name))
    function.argtypes = argtypes
    return function


def syscall(number: int, *argtypes: type, holding: bool = False) -> "_Function | _HoldingFunction":
    """Bind a system call by number (syscall(2)); the first argument of each call is the number.

    With `holding` the interpreter's lock is kept (needed by calls that return twice).
    """
    function = (_HoldingFunction if holding else _Function)(_SYSCALL)
    function.argtypes = (c_long, *argtypes)
    return function


def check(result: int, call: str) -> int:
    """Return `result`, or raise SyscallError(call, errno) if it is -1."""
    if result == -1:
        raise SyscallError(call, get_errno())
    return result


def address_of(buffer: bytearray) -> int:
    """The address of a writable buffer, for structures that the kernel fills in.

    The buffer must stay alive, and must not be resized, during the call.
    """
    return int(_ctypes.addressof(_Byte.from_buffer(buffer)))


class _Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "B"
