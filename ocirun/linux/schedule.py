"""When and where a process runs: sched_setattr(2), ioprio_set(2), set_mempolicy(2). Cold."""

import posix

from ocirun.linux.ffi import c_char_p, c_int, c_uint, c_ulong, check, syscall

SCHED_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,  # a number that Linux has kept free (sched.h)
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IOPRIO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
MPOL_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MPOL_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
_IOPRIO_WHO_PROCESS = 1
_ATTR_SIZE = 56  # SCHED_ATTR_SIZE_VER1

_X86 = posix.uname().machine == "x86_64"
_SCHED_SETATTR, _IOPRIO_SET, _SET_MEMPOLICY = (314, 251, 238) if _X86 else (274, 30, 237)
_sched_setattr = syscall(_SCHED_SETATTR, c_int, c_char_p, c_uint)
_ioprio_set = syscall(_IOPRIO_SET, c_int, c_int, c_int)
_set_mempolicy = syscall(_SET_MEMPOLICY, c_int, c_char_p, c_ulong)


def sched_setattr(
    policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    """sched_setattr(2) of this thread; the times are nanoseconds."""
    words = (
        (_ATTR_SIZE, 4), (policy, 4), (flags, 8), (nice & 0xFFFFFFFF, 4), (priority, 4),
        (runtime, 8), (deadline, 8), (period, 8), (0, 4), (0, 4),
    )  # fmt: skip
    attr = b"".join(value.to_bytes(size, "little") for value, size in words)
    check(_sched_setattr(_SCHED_SETATTR, 0, attr, 0), "sched_setattr")


def ioprio_set(kind: int, priority: int) -> None:
    """ioprio_set(2) of this process: an IOPRIO_CLASS and 0 to 7."""
    value = kind << 13 | priority
    check(_ioprio_set(_IOPRIO_SET, _IOPRIO_WHO_PROCESS, 0, value), "ioprio_set")


def set_mempolicy(mode: int, nodes: int) -> None:
    """set_mempolicy(2) of this thread: a mode with its flags, and a bit mask of nodes."""
    words = (nodes.bit_length() + 63) // 64
    mask = nodes.to_bytes(8 * words, "little") if words else None
    # The kernel reads one bit less than it is told (BUGS in get_mempolicy(2)).
    size = 64 * words + 1 if words else 0
    check(_set_mempolicy(_SET_MEMPOLICY, mode, mask, size), "set_mempolicy")
