"""Who a process is: its pid and its start time, never the pid alone (pids are used again)."""

import posix


def start_time(pid: int) -> int:
    """Start time of a living process in clock ticks since boot (proc(5), stat, field 22).

    0 if there is no such process, or if it has ended and is only waited for.
    """
    try:
        fd = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return 0
    try:
        text = posix.read(fd, 4096)
    except OSError:  # ESRCH: it ended meanwhile
        return 0
    finally:
        posix.close(fd)
    # The name of the command may hold anything, parentheses too.
    fields = text[text.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X", b"x"):
        return 0
    return int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """The process that was started at `started` still runs."""
    return pid > 0 and started > 0 and start_time(pid) == started


def in_user_namespace() -> bool:
    """This process is in another user namespace than the machine's first (user_namespaces(7))."""
    return _uid_map() != [b"0", b"0", b"4294967295"]


def is_alone() -> bool:
    """No user but this process's own is mapped in its user namespace."""
    return _uid_map()[2:] == [b"1"]


def _uid_map() -> list[bytes]:
    try:
        fd = posix.open("/proc/self/uid_map", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:  # no user namespaces in this kernel
        return [b"0", b"0", b"4294967295"]
    try:
        return posix.read(fd, 4096).split()
    finally:
        posix.close(fd)
