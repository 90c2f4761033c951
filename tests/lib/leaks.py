"""What a container could leave behind on the host, before and after a test.

The test process is made the reaper of its descendants (PR_SET_CHILD_SUBREAPER),
so that a process that a runtime left running becomes a child of ours and can't
hide. Containers of this session have ids that begin with its own prefix; that
tells their cgroups from those of others.
"""

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

PREFIX = f"e2e-{os.getpid()}-"
PR_SET_CHILD_SUBREAPER = 36
WATCHED_DEVICES = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"]
libc = ctypes.CDLL(None, use_errno=True)


def become_reaper() -> None:
    """Orphaned descendants become children of this process from now on."""
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children() -> set[int]:
    """Pids of this process's children, zombies reaped first."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            try:
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    found.add(pid)
            except ChildProcessError:
                continue
    return found


def command_line(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return "?"


def hierarchies() -> list[str]:
    """Mount points of the cgroup hierarchies, v1 and v2."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [fields[4] for fields in lines if fields[fields.index("-") + 1] in ("cgroup", "cgroup2")]


def cgroups(prefix: str) -> set[str]:
    """Folders of cgroups, in every hierarchy, whose path carries the prefix."""
    found: set[str] = set()
    for hierarchy in hierarchies():
        for folder, names, _files in os.walk(hierarchy):
            found.update(f"{folder}/{name}" for name in names if prefix in f"{folder}/{name}")
    return found


def mounts() -> list[str]:
    """Mount points of this mount namespace with their file systems, in order."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [" ".join(line.split()[3:6] + line.split(" - ")[1].split()) for line in lines]


def devices() -> dict[str, tuple[int, int, int]]:
    """Owner, group and mode of the host's standard devices."""
    found = {}
    for name in WATCHED_DEVICES:
        facts = os.stat(f"/dev/{name}")
        found[f"/dev/{name}"] = (facts.st_uid, facts.st_gid, facts.st_mode)
    return found


@dataclass
class Snapshot:
    """What is there at one moment; `since` says what a later moment has more of it."""

    mounts: list[str]
    cgroups: set[str]
    children: set[int]
    fds: set[str]
    netns: set[str]
    devices: dict[str, tuple[int, int, int]]

    @classmethod
    def take(cls) -> "Snapshot":
        netns = Path("/run/netns")
        return cls(
            mounts=mounts(),
            cgroups=cgroups(PREFIX),
            children=children(),
            fds={
                name
                for name in os.listdir("/proc/self/fd")
                if os.path.exists(f"/proc/self/fd/{name}")
            },
            netns=set(os.listdir(netns)) if netns.is_dir() else set(),
            devices=devices(),
        )

    def since(self, before: "Snapshot") -> list[str]:
        """One line for everything that was not there before, or is gone."""
        leaks = [f"mount: {m}" for m in self.mounts if m not in before.mounts]
        leaks += [f"mount gone: {m}" for m in before.mounts if m not in self.mounts]
        leaks += [f"cgroup: {c}" for c in sorted(self.cgroups - before.cgroups)]
        leaks += [
            f"process: {p} {command_line(p)}" for p in sorted(self.children - before.children)
        ]
        leaks += [f"descriptor: {f}" for f in sorted(self.fds - before.fds)]
        leaks += [f"network namespace: {n}" for n in sorted(self.netns - before.netns)]
        leaks += [
            f"device changed: {d}" for d in before.devices if self.devices[d] != before.devices[d]
        ]
        return leaks


def leaks_since(before: Snapshot, seconds: float = 2) -> list[str]:
    """What is left over; a killed process gets some time to be gone."""
    deadline = time.monotonic() + seconds
    while (leaks := Snapshot.take().since(before)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return leaks


def sweep(before: Snapshot) -> None:
    """Ends and removes what a test leaked, so that it does not fail the tests after it."""
    for pid in children() - before.children:
        end(pid)
    now = Snapshot.take()
    points = [mount.split()[1] for mount in now.mounts]
    known = [mount.split()[1] for mount in before.mounts]
    for point in set(points):  # one whose options have changed is not taken away
        for _ in range(points.count(point) - known.count(point)):
            libc.umount2(point.encode(), 2)
    remove(now.cgroups - before.cgroups)
    for device, (uid, gid, mode) in before.devices.items():
        os.chown(device, uid, gid)
        os.chmod(device, mode & 0o7777)


def end(pid: int) -> None:
    """Kills a process and waits until it is gone; it may be a child or not, or gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    while os.path.exists(f"/proc/{pid}"):
        children()
        time.sleep(0.01)


def remove(folders: set[str]) -> None:
    """Removes cgroups with everything that runs in them."""
    for folder in sorted(folders, key=len, reverse=True):
        try:
            for pid in map(int, Path(folder, "cgroup.procs").read_text().split()):
                end(pid)
            os.rmdir(folder)
        except OSError:
            continue


def remove_parents() -> None:
    """Removes /ocirun-test of each hierarchy where nobody uses it."""
    for hierarchy in hierarchies():
        try:
            Path(hierarchy, "ocirun-test").rmdir()
        except OSError:
            continue
