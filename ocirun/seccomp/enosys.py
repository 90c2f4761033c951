"""System calls that are newer than the profile fail with ENOSYS. Cold.

A profile that allows what it names, and has EPERM for the rest, was written before some
system calls were there. A libc that tries such a call falls back to older ones after ENOSYS, but
takes EPERM for an answer. So what has a number above all that a profile names on an
architecture "does not exist". runc does the same, and engines rely on it; crun does not.
"""

import sys

# Codes of struct sock_filter (linux/bpf_common.h).
_LOAD, _JUMP, _EQUAL, _GREATER, _BITS, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x45, 0x06
# Places in struct seccomp_data (seccomp(2)).
_NUMBER, _ARCH = 0, 4
_ENOSYS = 0x00050000 | 38
_X86_64, _X32, _X32_BIT = 0xC000003E, 0x4000003E, 0x40000000
_S390 = (0x00000016, 0x80000016)
_NONE = 0xFFFFFFFF

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


def stub(last: dict[int, int]) -> bytes:
    """A program to put before a filter: ENOSYS for numbers above the last ones, else go on.

    Args:
        last: libseccomp's number of an architecture -> the largest number named.
    """
    blocks: list[list[Instruction]] = []
    for architecture in sorted({_X86_64 if a == _X32 else a for a in last}):
        if architecture == _X86_64:
            # Numbers of x32 are those with a bit set; what an absent one gets, the filter knows.
            body = [
                (_BITS, 3, 0, _X32_BIT),
                *_refuse_above(last.get(_X86_64, _NONE)),
                (_JUMP, 0, 0, 2),
                *_refuse_above(last.get(_X32, _NONE)),
            ]
        elif architecture in _S390:
            # A number that the kernel does not know arrives as 0, which was setup(2) once.
            body = [(_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ENOSYS), *_refuse_above(last[architecture])]
        else:
            body = _refuse_above(last[architecture])
        load: Instruction = (_LOAD, 0, 0, _NUMBER)
        blocks.append([(_EQUAL, 0, len(body) + 2, architecture), load, *body, (_JUMP, 0, 0, 0)])
    program: list[Instruction] = [(_LOAD, 0, 0, _ARCH)]
    left = sum(map(len, blocks))
    for block in blocks:
        left -= len(block)
        program += [*block[:-1], (_JUMP, 0, 0, left)]
    return b"".join(map(_encode, program))


def _refuse_above(number: int) -> list[Instruction]:
    return [(_GREATER, 0, 1, number), (_RETURN, 0, 0, _ENOSYS)]


def _encode(instruction: Instruction) -> bytes:
    code, true, false, value = instruction
    order = sys.byteorder
    return code.to_bytes(2, order) + bytes((true, false)) + value.to_bytes(4, order)
