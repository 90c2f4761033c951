"""Limits on a pure v2 hierarchy that has the controllers: set, enforced, refused. For the labs."""

import errno
import mmap
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cgroup_lab import TOP, controllers_put_back, place, process, read, sleep, spec, status_of

from ocirun import cgroups
from ocirun.errors import StepFailed, Unsupported

pytestmark = [pytest.mark.root, pytest.mark.lab("v2")]

MB = 1 << 20
# Those of user-mode Linux, and of qemu.
DISK, SWAP = ("/dev/ubda", "/dev/ubdb") if os.path.exists("/dev/ubda") else ("/dev/vdc", "/dev/vdd")
KILLED = -signal.SIGKILL


@pytest.fixture
def where() -> Iterator[cgroups.Layout]:
    found = cgroups.layout()
    assert found.mode == "v2"
    with controllers_put_back(found):
        yield found


@pytest.fixture
def path(request: pytest.FixtureRequest, where: cgroups.Layout) -> Iterator[str]:
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    with place(name[:100], where) as found:
        yield found


def made(where: cgroups.Layout, path: str, resources: dict) -> cgroups.CgroupPlan:
    plan = cgroups.compile_cgroup(spec(path, resources), where, "c1")
    cgroups.apply(plan)
    return plan


def values(plan: cgroups.CgroupPlan, names: dict[str, str]) -> dict[str, str]:
    return {name: read(f"{plan.paths['']}/{name}") for name in names}


def fill(size: int) -> None:
    """Touches memory that the kernel cannot take from anything else."""
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size, 4096):
        area[offset : offset + 8] = offset.to_bytes(8, "little")


LIMITS = [
    ({"memory": {"limit": 64 * MB}}, {"memory.max": str(64 * MB)}),
    ({"memory": {"limit": -1}}, {"memory.max": "max", "memory.swap.max": "max"}),
    ({"memory": {"reservation": 32 * MB}}, {"memory.low": str(32 * MB)}),
    (
        {"memory": {"limit": 64 * MB, "swap": 96 * MB}},
        {"memory.max": str(64 * MB), "memory.swap.max": str(32 * MB)},
    ),
    ({"memory": {"limit": 64 * MB, "swap": 64 * MB}}, {"memory.swap.max": "0"}),
    ({"memory": {"limit": 64 * MB, "swap": -1}}, {"memory.swap.max": "max"}),
    ({"cpu": {"shares": 1024}}, {"cpu.weight": "100"}),
    ({"cpu": {"shares": 2}}, {"cpu.weight": "1"}),
    ({"cpu": {"shares": 262144}}, {"cpu.weight": "10000"}),
    ({"cpu": {"quota": 20000, "period": 50000}}, {"cpu.max": "20000 50000"}),
    ({"cpu": {"quota": 20000}}, {"cpu.max": "20000 100000"}),
    ({"cpu": {"quota": -1, "period": 50000}}, {"cpu.max": "max 50000"}),
    ({"cpu": {"quota": 50000, "burst": 1000}}, {"cpu.max.burst": "1000"}),
    ({"cpu": {"idle": 1}}, {"cpu.idle": "1"}),
    ({"pids": {"limit": 7}}, {"pids.max": "7"}),
    ({"pids": {"limit": -1}}, {"pids.max": "max"}),
    (
        {"unified": {"memory.high": str(16 * MB), "cgroup.max.depth": "3"}},
        {"memory.high": str(16 * MB), "cgroup.max.depth": "3"},
    ),
]


@pytest.mark.parametrize(("resources", "expected"), LIMITS)
@pytest.mark.spec(
    "/linux/resources/memory/limit",
    "/linux/resources/memory/swap",
    "/linux/resources/memory/reservation",
    "/linux/resources/cpu/shares",
    "/linux/resources/cpu/quota",
    "/linux/resources/cpu/period",
    "/linux/resources/cpu/burst",
    "/linux/resources/cpu/idle",
    "/linux/resources/pids/limit",
    "/linux/resources/unified",
)
def test_limits_are_set(where, path, resources, expected) -> None:
    plan = made(where, path, resources)
    assert values(plan, expected) == expected
    cgroups.remove(plan.paths)


@pytest.mark.lab("cpuset")
@pytest.mark.spec("/linux/resources/cpu/cpus", "/linux/resources/cpu/mems")
def test_cpuset(where, path) -> None:
    plan = made(where, path, {"cpu": {"cpus": "0", "mems": "0"}})
    assert read(f"{plan.paths['']}/cpuset.cpus.effective") == "0"
    assert read(f"{plan.paths['']}/cpuset.mems.effective") == "0"
    assert len(os.sched_getaffinity(0)) > 1
    assert status_of(lambda: os._exit(len(os.sched_getaffinity(0))), plan) == 1
    cgroups.remove(plan.paths)


@pytest.mark.lab("hugetlb")
@pytest.mark.spec(
    "/linux/resources/hugepageLimits/*/pageSize", "/linux/resources/hugepageLimits/*/limit"
)
def test_huge_pages(where, path) -> None:
    plan = made(where, path, {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MB}]})
    expected = {"hugetlb.2MB.max": str(2 * MB), "hugetlb.2MB.rsvd.max": str(2 * MB)}
    assert values(plan, expected) == expected

    def take(pages: int) -> None:
        huge = 0x40000  # MAP_HUGETLB
        mmap.mmap(-1, pages * 2 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | huge)

    assert status_of(lambda: take(1), plan) == 0
    assert status_of(lambda: take(2), plan) == errno.ENOMEM
    cgroups.remove(plan.paths)


def test_every_controller_that_is_needed_is_handed_down(where, path) -> None:
    resources = {"memory": {"limit": MB}, "pids": {"limit": 1}, "cpu": {"shares": 100}}
    plan = made(where, path + "/deep/er", resources)
    above = Path(plan.paths[""]).parent
    while above != Path(where.mounts[""]).parent:
        given = read(f"{above}/cgroup.subtree_control").split()
        assert {"memory", "pids", "cpu"} <= set(given), above
        above = above.parent
    cgroups.remove({"": where.mounts[""] + path})


def test_a_cgroup_with_processes_hands_nothing_down(where, path) -> None:
    parent = made(where, path, {})
    with process(sleep, parent):
        with pytest.raises(StepFailed) as caught:
            made(where, path + "/child", {"memory": {"limit": 64 * MB}})
        assert caught.value.errno == errno.EBUSY
        assert caught.value.pointer == "/linux/cgroupsPath"
        assert "processes of its own" in caught.value.hint
        assert not os.path.exists(parent.paths[""] + "/child")
        # Without a need for it, it is no failure; and the child is no threaded one.
        assert status_of(lambda: None, made(where, path + "/child", {})) == 0
        assert read(f"{parent.paths['']}/cgroup.subtree_control") == ""
        cgroups.kill(parent.paths)
    cgroups.remove(parent.paths)


# --- enforced


@pytest.mark.spec("/linux/resources/memory/limit")
def test_memory_limit(where, path) -> None:
    plan = made(where, path, {"memory": {"limit": 24 * MB, "swap": 24 * MB}})
    assert status_of(lambda: fill(8 * MB), plan) == 0
    assert not cgroups.oom_killed(plan.paths)
    assert status_of(lambda: fill(64 * MB), plan) == KILLED
    assert cgroups.oom_killed(plan.paths)
    cgroups.remove(plan.paths)


@pytest.mark.lab("swap")
@pytest.mark.spec("/linux/resources/memory/swap")
def test_swap_is_what_comes_on_top_of_memory(where, path) -> None:
    subprocess.run(["swapon", SWAP], check=True)
    try:
        plan = made(where, path, {"memory": {"limit": 16 * MB, "swap": 48 * MB}})
        assert status_of(lambda: fill(32 * MB), plan) == 0
        assert status_of(lambda: fill(80 * MB), plan) == KILLED
        cgroups.remove(plan.paths)
    finally:
        subprocess.run(["swapoff", SWAP], check=True)


@pytest.mark.spec("/linux/resources/pids/limit")
def test_pids_limit(where, path) -> None:
    def fork_five() -> None:
        for _ in range(5):
            if os.fork() == 0:
                sleep()

    plan = made(where, path, {"pids": {"limit": 3}})
    assert status_of(fork_five, plan) == errno.EAGAIN
    assert read(f"{plan.paths['']}/pids.events") == "max 1"
    cgroups.kill(plan.paths)
    cgroups.remove(plan.paths)


@pytest.mark.spec("/linux/resources/cpu/quota")
def test_cpu_limit(where, path) -> None:
    def spin() -> None:
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass

    plan = made(where, path, {"cpu": {"quota": 10000, "period": 100000}})
    assert status_of(spin, plan) == 0
    stat = dict(line.split() for line in read(f"{plan.paths['']}/cpu.stat").splitlines())
    assert int(stat["nr_throttled"]) > 0
    assert int(stat["throttled_usec"]) > 0
    cgroups.remove(plan.paths)


@pytest.mark.lab("disk")
@pytest.mark.parametrize(
    ("name", "key", "flags"),
    [
        ("throttleReadIOPSDevice", "riops", os.O_RDONLY),
        ("throttleWriteIOPSDevice", "wiops", os.O_WRONLY),
        ("throttleReadBpsDevice", "rbps", os.O_RDONLY),
        ("throttleWriteBpsDevice", "wbps", os.O_WRONLY),
    ],
)
@pytest.mark.spec(
    "/linux/resources/blockIO/throttleReadBpsDevice/*/major",
    "/linux/resources/blockIO/throttleReadBpsDevice/*/minor",
    "/linux/resources/blockIO/throttleReadBpsDevice/*/rate",
    "/linux/resources/blockIO/throttleWriteBpsDevice/*/major",
    "/linux/resources/blockIO/throttleWriteBpsDevice/*/minor",
    "/linux/resources/blockIO/throttleWriteBpsDevice/*/rate",
    "/linux/resources/blockIO/throttleReadIOPSDevice/*/major",
    "/linux/resources/blockIO/throttleReadIOPSDevice/*/minor",
    "/linux/resources/blockIO/throttleReadIOPSDevice/*/rate",
    "/linux/resources/blockIO/throttleWriteIOPSDevice/*/major",
    "/linux/resources/blockIO/throttleWriteIOPSDevice/*/minor",
    "/linux/resources/blockIO/throttleWriteIOPSDevice/*/rate",
)
def test_disk_limits(where, path, name, key, flags) -> None:
    device = os.stat(DISK).st_rdev
    numbers = {"major": os.major(device), "minor": os.minor(device)}
    rate = 4 if key.endswith("iops") else 4 * 4096
    allowed = [{"allow": True, "type": "b", "access": "rw", **numbers}]
    limits = {name: [{**numbers, "rate": rate}]}
    plan = made(where, path, {"devices": allowed, "blockIO": limits})
    line = read(f"{plan.paths['']}/io.max").split()
    assert line[0] == "{major}:{minor}".format(**numbers)
    assert f"{key}={rate}" in line

    def transfer() -> None:
        block = mmap.mmap(-1, 4096)  # O_DIRECT wants whole pages
        disk = os.open(DISK, flags | os.O_DIRECT)
        for _ in range(12):
            (os.readv if flags == os.O_RDONLY else os.writev)(disk, [block])

    began = time.monotonic()
    assert status_of(transfer, plan) == 0
    assert time.monotonic() - began > 1.5  # 12 at 4 a second: the limit holds, however slow we are
    cgroups.remove(plan.paths)


@pytest.mark.lab("disk", "weights")
@pytest.mark.spec(
    "/linux/resources/blockIO/weight",
    "/linux/resources/blockIO/weightDevice/*/major",
    "/linux/resources/blockIO/weightDevice/*/minor",
    "/linux/resources/blockIO/weightDevice/*/weight",
)
def test_disk_weights(where, path) -> None:
    device = os.stat(DISK).st_rdev
    numbers = {"major": os.major(device), "minor": os.minor(device)}
    asked = {"weight": 500, "weightDevice": [{**numbers, "weight": 300}]}
    plan = made(where, path, {"blockIO": asked})
    found = read(f"{plan.paths['']}/io.bfq.weight").splitlines()
    assert found == ["default 500", "{major}:{minor} 300".format(**numbers)]
    cgroups.remove(plan.paths)


# --- refused


REFUSED = [
    ({"cpu": {"period": 1}}, "/cpu/period", "cpu.max", "EINVAL"),
    ({"unified": {"memory.high": "lots"}}, "/unified/memory.high", "memory.high", "EINVAL"),
    ({"unified": {"memory.nothing": "1"}}, "/unified/memory.nothing", "memory.nothing", "ENOENT"),
]


@pytest.mark.parametrize(("resources", "pointer", "file", "number"), REFUSED)
def test_a_refused_value_is_named_and_nothing_stays(
    where, path, resources, pointer, file, number
) -> None:
    with pytest.raises(StepFailed) as caught:
        made(where, path, resources)
    assert caught.value.pointer == f"/linux/resources{pointer}"
    assert errno.errorcode[caught.value.errno] == number
    assert caught.value.path.endswith(f"{path}/{file}")
    assert not os.path.exists(where.mounts[""] + TOP)


V1_ONLY = [
    ({"memory": {"limit": MB, "swappiness": 10}}, "/memory/swappiness"),
    ({"memory": {"disableOOMKiller": True}}, "/memory/disableOOMKiller"),
    ({"memory": {"kernel": MB}}, "/memory/kernel"),
    ({"memory": {"kernelTCP": MB}}, "/memory/kernelTCP"),
    ({"cpu": {"realtimeRuntime": 1000}}, "/cpu/realtimeRuntime"),
    ({"cpu": {"realtimePeriod": 1000}}, "/cpu/realtimePeriod"),
    ({"network": {"classID": 1}}, "/network/classID"),
    ({"network": {"priorities": [{"name": "lo", "priority": 1}]}}, "/network/priorities/0"),
    ({"blockIO": {"leafWeight": 10}}, "/blockIO/leafWeight"),
]


@pytest.mark.parametrize(("resources", "pointer"), V1_ONLY)
@pytest.mark.spec(
    "/linux/resources/memory/swappiness",
    "/linux/resources/memory/disableOOMKiller",
    "/linux/resources/memory/kernel",
    "/linux/resources/memory/kernelTCP",
    "/linux/resources/cpu/realtimeRuntime",
    "/linux/resources/cpu/realtimePeriod",
    "/linux/resources/network/classID",
    "/linux/resources/blockIO/leafWeight",
)
def test_what_v2_does_not_have(where, path, resources, pointer) -> None:
    with pytest.raises(Unsupported) as caught:
        made(where, path, resources)
    assert caught.value.pointer == f"/linux/resources{pointer}"
    assert not os.path.exists(where.mounts[""] + TOP)


@pytest.mark.spec("/linux/resources/memory/checkBeforeUpdate")
def test_check_before_update(where, path) -> None:
    """Pages of a process that is gone stay charged to its cgroup while another one maps them."""
    plan = made(where, path, {})
    shared = mmap.mmap(-1, 8 * MB)

    def touch() -> None:
        for offset in range(0, 8 * MB, 4096):
            shared[offset] = 1

    assert status_of(touch, plan) == 0
    with pytest.raises(StepFailed) as caught:
        made(where, path, {"memory": {"limit": MB, "checkBeforeUpdate": True}})
    assert caught.value.pointer == "/linux/resources/memory/checkBeforeUpdate"
    assert "in use" in caught.value.message
    assert read(f"{plan.paths['']}/memory.max") == "max"
    made(where, path, {"memory": {"limit": 64 * MB, "checkBeforeUpdate": True}})
    assert read(f"{plan.paths['']}/memory.max") == str(64 * MB)
    shared.close()
    cgroups.remove(plan.paths)
