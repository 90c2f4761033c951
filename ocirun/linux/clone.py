"""Making processes and namespaces: clone3(2), unshare(2), setns(2)."""

from ocirun.linux.ffi import c_char_p, c_int, c_long, check, libc, syscall

CLONE_NEWTIME = 0x80
CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000
_SIGCHLD = 17

_clone3 = syscall(435, c_char_p, c_long, holding=True)
_unshare = libc("unshare", c_int)
_setns = libc("setns", c_int, c_int)


def clone3(flags: int, cgroup: int = -1, signal: int = _SIGCHLD) -> int:
    """clone3(2) without shared memory: a fork straight into new namespaces.

    Returns 0 in the child, the child's pid in the parent. The interpreter's
    lock is held across the call, and none of its fork hooks run: the child must
    not use threads, and leaves by execve or posix._exit only.

    `cgroup` is a descriptor of the directory of a v2 cgroup to be born in; -1 for
    the caller's. `signal` is the exit signal; with 0 nobody is told of the child's end, and only
    a wait with __WALL finds it. (With CLONE_PARENT the kernel wants none: the child then has
    its parent's.)
    """
    if flags & CLONE_PARENT:
        signal = 0
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack,
    # stack_size, tls (CLONE_ARGS_SIZE_VER0 = 64 bytes)
    # set_tid, set_tid_size and cgroup follow (CLONE_ARGS_SIZE_VER2 = 88 bytes).
    tail = bytes(24)
    if cgroup >= 0:
        flags |= CLONE_INTO_CGROUP
        tail += bytes(16) + cgroup.to_bytes(8, "little")
    args = flags.to_bytes(8, "little") + bytes(24) + signal.to_bytes(8, "little") + tail
    return check(_clone3(435, args, len(args)), "clone3")


def unshare(flags: int) -> None:
    """unshare(2)."""
    check(_unshare(flags), "unshare")


def setns(fd: int, nstype: int) -> None:
    """setns(2)."""
    check(_setns(fd, nstype), "setns")
