"""bpf(2), as far as programs on cgroups need it; loaded on cgroup v2 only.

Programs come as bytes of struct bpf_insn. What a program says is not decided here.
"""

import posix
from sys import byteorder

from ocirun.linux.ffi import address_of, c_int, c_long, c_void_p, check, syscall

PROG_TYPE_CGROUP_DEVICE = 15
CGROUP_DEVICE = 6
F_ALLOW_MULTI = 2
F_REPLACE = 4  # Linux 5.6

_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_DETACH = 9
_PROG_GET_FD_BY_ID = 13
_PROG_QUERY = 16
_MAX_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS: more cannot be attached to one cgroup

# asm-generic has 280; the older architectures have numbers of their own.
_NUMBERS = {"x86_64": 321, "s390x": 351, "ppc64le": 361, "i686": 357, "armv7l": 386}
_NUMBER = _NUMBERS.get(posix.uname().machine, 280)

# The kernel may write more of the union than was asked for (PROG_QUERY), so every
# call gets this much, zeroed.
_ATTRIBUTES_SIZE = 128

_bpf = syscall(_NUMBER, c_int, c_void_p, c_long)


def load(kind: int, program: bytes) -> int:
    """Load a program. Returns its descriptor, close-on-exec. Raises SyscallError."""
    code = bytearray(program)
    licence = bytearray(b"MIT\0")
    attributes = _fields(
        (kind, 4), (len(code) // 8, 4), (address_of(code), 8), (address_of(licence), 8)
    )
    return _call(_PROG_LOAD, attributes, "BPF_PROG_LOAD")


def attach(cgroup: int, program: int, where: int) -> None:
    """Attach a program to a cgroup besides those it has. Raises SyscallError."""
    attributes = _fields((cgroup, 4), (program, 4), (where, 4), (F_ALLOW_MULTI, 4))
    _call(_PROG_ATTACH, attributes, "BPF_PROG_ATTACH, BPF_F_ALLOW_MULTI")


def replace(cgroup: int, program: int, old: int, where: int) -> None:
    """Put a program in the place of another one, in one step. Raises SyscallError."""
    flags = F_ALLOW_MULTI | F_REPLACE
    attributes = _fields((cgroup, 4), (program, 4), (where, 4), (flags, 4), (old, 4))
    _call(_PROG_ATTACH, attributes, "BPF_PROG_ATTACH, BPF_F_ALLOW_MULTI|BPF_F_REPLACE")


def detach(cgroup: int, program: int, where: int) -> None:
    """Detach a program from a cgroup. Raises SyscallError."""
    _call(_PROG_DETACH, _fields((cgroup, 4), (program, 4), (where, 4)), "BPF_PROG_DETACH")


def attached(cgroup: int, where: int) -> list[int]:
    """Ids of the programs that a cgroup itself has. Raises SyscallError."""
    ids = bytearray(4 * _MAX_PROGRAMS)
    attributes = _fields(
        (cgroup, 4), (where, 4), (0, 4), (0, 4), (address_of(ids), 8), (_MAX_PROGRAMS, 4)
    )
    _call(_PROG_QUERY, attributes, "BPF_PROG_QUERY")
    return list(memoryview(ids).cast("I")[: memoryview(attributes).cast("I")[6]])


def descriptor_of(program_id: int) -> int:
    """A descriptor of a loaded program. Raises SyscallError."""
    return _call(_PROG_GET_FD_BY_ID, _fields((program_id, 4)), "BPF_PROG_GET_FD_BY_ID")


def _fields(*fields: tuple[int, int]) -> bytearray:
    """union bpf_attr from (value, size in bytes) pairs; all sizes here need no padding."""
    attributes = bytearray(_ATTRIBUTES_SIZE)
    offset = 0
    for value, size in fields:
        attributes[offset : offset + size] = value.to_bytes(size, byteorder)
        offset += size
    return attributes


def _call(command: int, attributes: bytearray, words: str) -> int:
    result = _bpf(_NUMBER, command, address_of(attributes), _ATTRIBUTES_SIZE)
    return check(result, f"bpf({words})")
