"""The first process of the box: namespaces and cgroups in which the engines live.

    unshare --mount --net --ipc --uts --pid --fork --kill-child box.py FOLDER NAME

What an engine mounts, starts or configures in here is gone when the box is: processes by the
pid namespace, mounts and interfaces by theirs. Cgroups stay below one named NAME in each
hierarchy, which `engine.py` removes. FOLDER is bound to /run/box; the rest of /run is new.
Prints a line when all is there, and then only reaps.
"""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

CLONE_NEWCGROUP = 0x2000000
GROUPS = Path("/sys/fs/cgroup")


def mount(*args: str | Path) -> None:
    subprocess.run(["mount", *map(str, args)], check=True)


def hierarchies() -> list[tuple[str, str, str]]:
    """Mount point, type and options of each cgroup hierarchy."""
    rows = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found = ((row[4], row[row.index("-") + 1], row[-1]) for row in rows)
    return [row for row in found if row[1] in ("cgroup", "cgroup2")]


def v1_data(superblock: str) -> str:
    """The controllers or the name among the options of a v1 mount."""
    return ",".join(word for word in superblock.split(",") if word not in ("rw", "ro"))


def join_cgroups(name: str) -> None:
    """Go into a cgroup of that name in each hierarchy, with all that its parent has."""
    for point, kind, _ in hierarchies():
        folder = Path(point, name)
        folder.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems") if kind == "cgroup" else ():
            if (folder / file).exists() and not (folder / file).read_text().strip():
                (folder / file).write_text(Path(point, file).read_text())
        (folder / "cgroup.procs").write_text("0")


def own_cgroups() -> None:
    """Make these cgroups the roots of all hierarchies that are seen from here."""
    before = hierarchies()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWCGROUP):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWCGROUP)")
    for point, kind, superblock in before:
        subprocess.run(["umount", point], check=True)
        data = v1_data(superblock) if kind == "cgroup" else "rw"
        mount("-t", kind, "-o", data, kind, point)
        if kind == "cgroup2":  # no processes beside children that have controllers
            leaf = Path(point, "init")
            leaf.mkdir()
            (leaf / "cgroup.procs").write_text("0")
            for controller in Path(point, "cgroup.controllers").read_text().split():
                Path(point, "cgroup.subtree_control").write_text(f"+{controller}")


def reap() -> None:
    """Wait for whoever is left to the first process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        signal.sigtimedwait({signal.SIGCHLD}, 0.5)


def main(folder: str, name: str) -> None:
    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    mount("-t", "sysfs", "sysfs", "/mnt")  # of this network namespace
    mount("--move", GROUPS, "/mnt/fs/cgroup")
    subprocess.run(["umount", "--recursive", "--lazy", "/sys"], check=True)
    mount("--move", "/mnt", "/sys")
    join_cgroups(name)
    own_cgroups()
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for path in ("/run/box", "/run/user"):
        Path(path).mkdir(mode=0o755)
    mount("--bind", folder, "/run/box")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print("ready", flush=True)
    reap()


if __name__ == "__main__":
    main(*sys.argv[1:])
