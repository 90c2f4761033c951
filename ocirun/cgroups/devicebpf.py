"""The eBPF program that carries out device rules on cgroup v2; pure.

The kernel runs it for every open and mknod of a device by a process of the cgroup
(BPF_PROG_TYPE_CGROUP_DEVICE). Its argument is struct bpf_cgroup_dev_ctx: u32
(access << 16 | kind), u32 major, u32 minor; its result 1 allows, 0 denies.
Sources: admin-guide/cgroup-v2.rst "Device controller", linux/bpf.h.

The program walks the rules backwards with a set of accesses that are still to be
decided. A rule for this device that denies one of them ends the walk with 0; one
that allows takes its own out of the set, and an empty set ends the walk with 1.
So each single access is decided by the last rule that speaks of it, and opening
for reading and writing needs both, from one rule or from two.
"""

from _struct import pack
from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocirun.cgroups.devices import Rule

KINDS = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
ACCESSES = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_ALL = 7

# Registers. The first five are the kernel's, the others ours.
_RESULT, _CONTEXT, _KIND, _ACCESS, _MAJOR, _MINOR, _SCRATCH = range(7)

# Operation codes, after linux/bpf.h and linux/bpf_common.h.
_LOAD_U32 = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_MOVE_REGISTER = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
_AND = 0x57  # BPF_ALU64 | BPF_AND | BPF_K
_SHIFT_RIGHT = 0x77  # BPF_ALU64 | BPF_RSH | BPF_K
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_UNEQUAL = 0x55  # BPF_JMP | BPF_JNE | BPF_K
_EXIT = 0x95  # BPF_JMP | BPF_EXIT


def device_program(rules: "Iterable[Rule]") -> bytes:
    """Assemble the program for `rules`, in the byte order of this machine."""
    code = [
        _instruction(_LOAD_U32, _KIND, _CONTEXT),
        _instruction(_LOAD_U32, _MAJOR, _CONTEXT, offset=4),
        _instruction(_LOAD_U32, _MINOR, _CONTEXT, offset=8),
        _instruction(_MOVE_REGISTER, _ACCESS, _KIND),
        _instruction(_SHIFT_RIGHT, _ACCESS, value=16),
        _instruction(_AND, _KIND, value=0xFFFF),
    ]
    for kind, major, minor, access, allow in reversed(tuple(rules)):
        mask = sum(ACCESSES[letter] for letter in access)
        verdict = _verdict(mask, allow)
        conditions = [(_KIND, KINDS[kind])] if kind != "a" else []
        conditions += [(r, n) for r, n in ((_MAJOR, major), (_MINOR, minor)) if n >= 0]
        for index, (register, number) in enumerate(conditions):
            skipped = len(conditions) - index - 1 + len(verdict)
            code.append(_instruction(_JUMP_UNEQUAL, register, offset=skipped, value=number))
        code += verdict
        if not conditions and mask == _ALL:
            # Decides everything; what follows could not be reached, and the
            # kernel's verifier refuses a program with such a part.
            return b"".join(code)
    return b"".join(code + _leave(0))


def _verdict(mask: int, allow: bool) -> list[bytes]:
    """What a rule does once it is known to speak of the device."""
    if mask == _ALL:
        return _leave(int(allow))
    if allow:
        return [
            _instruction(_AND, _ACCESS, value=_ALL & ~mask),
            _instruction(_JUMP_UNEQUAL, _ACCESS, offset=2, value=0),
            *_leave(1),
        ]
    return [
        _instruction(_MOVE_REGISTER, _SCRATCH, _ACCESS),
        _instruction(_AND, _SCRATCH, value=mask),
        _instruction(_JUMP_EQUAL, _SCRATCH, offset=2, value=0),
        *_leave(0),
    ]


def _leave(result: int) -> list[bytes]:
    return [_instruction(_MOVE, _RESULT, value=result), _instruction(_EXIT)]


def _instruction(
    code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    """struct bpf_insn; its two register fields are bit fields, so their order is the machine's."""
    registers = source << 4 | target if byteorder == "little" else target << 4 | source
    return pack("=BBhi", code, registers, offset, value)
