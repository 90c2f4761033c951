"""The floor under every runtime that forks an init from Python: floor.c, word for word.

A warm, small interpreter makes the system calls of a default container from a list that
was prepared before, and nothing else: no plan, no checks, no messages, no library, no other
process. What it takes more than floor.c is the price of a fork of the interpreter, and
of calling the kernel from it.

Arguments: TIMES RECORD ROOTFS CGROUP COMMAND (`ways.python_floor` starts it)

Prints for each container the nanoseconds, the processor time of the parent and of init in
microseconds, and the page faults of init.
"""

import _socket
import gc
import posix
import sys
import time
from fcntl import ioctl

from ocirun.linux.clone import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    clone3,
)
from ocirun.linux.ffi import SyscallError
from ocirun.linux.mount import (
    MNT_DETACH,
    MS_BIND,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
    mount,
    pivot_root,
    umount2,
)
from ocirun.linux.process import (
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    capset,
    join_session_keyring,
    prctl,
    prlimit,
    sethostname,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    Calls = list[tuple[Callable[..., Any], tuple[Any, ...]]]

HIERARCHIES = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids",
               "systemd")  # fmt: skip
RULES = (b"c *:* m", b"b *:* m", b"c 1:3 rwm", b"c 1:5 rwm", b"c 1:7 rwm", b"c 1:8 rwm",
         b"c 1:9 rwm", b"c 5:0 rwm", b"c 5:1 rwm", b"c 5:2 rwm", b"c 136:* rwm")  # fmt: skip
NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9),
         ("tty", 5, 0))  # fmt: skip
LINKS = (("/proc/self/fd", "fd"), ("/proc/self/fd/0", "stdin"), ("/proc/self/fd/1", "stdout"),
         ("/proc/self/fd/2", "stderr"), ("/proc/kcore", "core"), ("pts/ptmx", "ptmx"))  # fmt: skip
NOSUID, NODEV, NOEXEC, STRICTATIME = 2, 4, 8, 1 << 24
NONE = NOSUID | NODEV | NOEXEC
SPACES = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
KEPT = (5, 10, 29)


def put(path: str, text: bytes) -> None:
    """Write into a file of the kernel's."""
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    posix.write(fd, text)
    posix.close(fd)


def directory(path: bytes) -> None:
    """Make it, if it is not there."""
    try:
        posix.mkdir(path, 0o755)
    except FileExistsError:
        pass


def bind(source: bytes, target: bytes, flags: int) -> None:
    """A bind mount of what is there, and its flags."""
    try:
        mount(source, target, None, MS_BIND | MS_REC)
    except SyscallError:
        return
    if flags:
        mount(None, target, None, MS_REMOUNT | MS_BIND | flags)


def cover(target: bytes) -> None:
    """An empty tmpfs over a directory, if it is there."""
    try:
        mount(b"tmpfs", target, b"tmpfs", MS_RDONLY, b"mode=755")
    except SyscallError:
        pass


def loopback() -> None:
    """Bring "lo" up."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    ioctl(sock.fileno(), 0x8914, b"lo".ljust(16, b"\0") + b"\x41\0" + bytes(22))
    sock.close()


def bounding() -> None:
    """Drop what is not kept from the bounding set."""
    for number in range(64):
        if number not in KEPT:
            try:
                prctl(PR_CAPBSET_DROP, number)
            except SyscallError:
                return


def child_calls(rootfs: str, cgroup: str, command: str) -> "Calls":
    """What init does, in its order."""
    root = rootfs.encode()
    shown = [(f"/sys/fs/cgroup/{name}/{cgroup}", f"/sys/fs/cgroup/{name}") for name in HIERARCHIES]
    calls: Calls = [(posix.setsid, ()), (join_session_keyring, (b"floor",))]
    calls += [(sethostname, (b"floor",)), (loopback, ())]
    calls += [(put, (f"{path}/tasks", b"0")) for path, _ in shown]
    calls += [(mount, (None, b"/", None, MS_SLAVE | MS_REC)),
              (mount, (root, root, None, MS_BIND | MS_REC))]  # fmt: skip
    for kind, path, flags, data in (
        (b"proc", b"/proc", 0, None),
        (b"tmpfs", b"/dev", NOSUID | STRICTATIME, b"mode=755,size=65536k"),
        (b"devpts", b"/dev/pts", NOSUID | NOEXEC, b"newinstance,ptmxmode=0666,mode=0620,gid=5"),
        (b"tmpfs", b"/dev/shm", NONE, b"mode=1777,size=65536k"),
        (b"mqueue", b"/dev/mqueue", NONE, None),
        (b"sysfs", b"/sys", MS_RDONLY | NONE, None),
        (b"tmpfs", b"/sys/fs/cgroup", NONE, b"mode=755"),
    ):
        calls += [(directory, (root + path,)), (mount, (kind, root + path, kind, flags, data))]
    for source, target in shown:
        place = root + target.encode()
        calls += [(directory, (place,)), (bind, (source.encode(), place, MS_RDONLY | NONE))]
    for name, major, minor in NODES:
        node = (f"{rootfs}/dev/{name}", 0o20666, posix.makedev(major, minor))
        calls.append((posix.mknod, node))
    calls += [(posix.symlink, (goal, f"{rootfs}/dev/{name}")) for goal, name in LINKS]
    for path in (b"/proc/bus", b"/proc/fs", b"/proc/irq", b"/proc/sys"):
        calls.append((bind, (root + path, root + path, MS_RDONLY)))
    for path in (b"/proc/kcore", b"/proc/keys", b"/proc/timer_list"):
        calls.append((bind, (b"/dev/null", root + path, 0)))
    calls += [(cover, (root + path,)) for path in (b"/proc/acpi", b"/sys/firmware")]
    calls += [
        (mount, (None, root, None, MS_REMOUNT | MS_BIND | MS_RDONLY)),
        (posix.chdir, (root,)),
        (pivot_root, (b".", b".")),
        (umount2, (b".", MNT_DETACH)),
        (posix.chdir, (b"/",)),
        (prlimit, (7, 1024, 1024)),
        (prctl, (PR_SET_NO_NEW_PRIVS, 1)),
        (bounding, ()),
        (posix.setgroups, ((),)),
        (posix.setresgid, (0, 0, 0)),
        (posix.setresuid, (0, 0, 0)),
        (capset, (sum(1 << n for n in KEPT), sum(1 << n for n in KEPT), 0)),
        (posix.execve, (command.encode(), [command.encode()], {})),
    ]
    return calls


def parent_calls(record: str, cgroup: str) -> tuple["Calls", "Calls", "Calls"]:
    """What the parent does before the clone, after it, and after the end."""
    paths = [f"/sys/fs/cgroup/{name}/{cgroup}" for name in HIERARCHIES]
    before: Calls = [(posix.mkdir, (record, 0o700)), (keep, (record,))]
    before += [(posix.mkdir, (path, 0o755)) for path in paths]
    before += [(inherit, (cgroup, f"cpuset.{name}")) for name in ("cpus", "mems")]
    before.append((put, (f"/sys/fs/cgroup/devices/{cgroup}/devices.deny", b"a")))
    allow = f"/sys/fs/cgroup/devices/{cgroup}/devices.allow"
    before += [(put, (allow, rule)) for rule in RULES]
    after: Calls = [(remove, (path,)) for path in paths]
    after += [(posix.unlink, (f"{record}/state.json",)), (posix.rmdir, (record,))]
    return before, [(keep, (record,))], after


def keep(record: str) -> None:
    """A record as long as ocirun's, written aside and renamed."""
    aside = f"{record}/state.json.new"
    fd = posix.open(aside, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
    posix.write(fd, bytes(1024))
    posix.close(fd)
    posix.rename(aside, f"{record}/state.json")


def inherit(cgroup: str, name: str) -> None:
    """Set a value of cpuset to what the whole machine has."""
    fd = posix.open(f"/sys/fs/cgroup/cpuset/{name}", posix.O_RDONLY | posix.O_CLOEXEC)
    value = posix.read(fd, 64)
    posix.close(fd)
    put(f"/sys/fs/cgroup/cpuset/{cgroup}/{name}", value)


def remove(path: str) -> None:
    """Remove a cgroup as soon as nothing of its processes is left."""
    for _ in range(1000):
        try:
            posix.rmdir(path)
        except OSError:
            time.sleep(0.0001)
        else:
            return


def become(calls: "Calls") -> "NoReturn":
    """Be init."""
    try:
        for function, arguments in calls:
            function(*arguments)
    finally:
        posix._exit(127)


def main() -> None:
    """Make the containers, print the figures."""
    times, record, rootfs, cgroup, command = sys.argv[1:]
    init = child_calls(rootfs, cgroup, command)
    before, between, after = parent_calls(record, cgroup)
    gc.disable()
    gc.freeze()
    lines = []
    for _ in range(int(times)):
        began, used = time.perf_counter_ns(), time.process_time_ns()
        for function, arguments in before:
            function(*arguments)
        pid = clone3(SPACES)
        if pid == 0:
            become(init)
        for function, arguments in between:
            function(*arguments)
        _, status, usage = posix.wait4(pid, 0)
        for function, arguments in after:
            function(*arguments)
        took, used = time.perf_counter_ns() - began, time.process_time_ns() - used
        if status:
            sys.exit(f"floor: wait status {status}")
        inside = (usage.ru_utime + usage.ru_stime) * 1e6
        lines.append(f"{took} {used // 1000} {inside:.0f} {usage.ru_minflt}")
    print("\n".join(lines))
