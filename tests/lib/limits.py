"""What the cgroups of a process say, v1, hybrid or v2."""

from pathlib import Path

import pytest

from .leaks import hierarchies

TOP = Path("/sys/fs/cgroup")

# What v1 calls a file -> what v2 does.
V2 = {
    "memory.limit_in_bytes": "memory.max",
    "memory.soft_limit_in_bytes": "memory.low",
    "memory.memsw.limit_in_bytes": "memory.swap.max",
    "cpu.cfs_quota_us": "cpu.max",
    "cpu.cfs_period_us": "cpu.max",
    "cpu.cfs_burst_us": "cpu.max.burst",
    "cpu.shares": "cpu.weight",
}


def is_v2() -> bool:
    """Nothing but v2 is mounted."""
    return (TOP / "cgroup.controllers").exists()


def folder(pid: int, controller: str) -> Path:
    """The process's cgroup that has the controller; skips the test if there is none."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    for _, names, path in lines:
        if controller in names.split(",") or (is_v2() and not names):
            hierarchy = TOP if is_v2() else TOP / controller
            if str(hierarchy) in hierarchies():
                return Path(f"{hierarchy}{path}")
    pytest.skip(f"no cgroup hierarchy with the {controller} controller")


def limit(pid: int, name: str) -> str:
    """What a file of the process's cgroups says, by its name in v1; skips without controller."""
    controller = name.partition(".")[0]
    where = folder(pid, controller)
    if not is_v2():
        return (where / name).read_text().strip()
    if controller not in (where / "cgroup.controllers").read_text().split():
        pytest.skip(f"no {controller} controller in v2")
    words = (where / V2.get(name, name)).read_text().split()
    return words[-1] if name == "cpu.cfs_period_us" else words[0]
