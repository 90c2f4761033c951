"""Real cgroups of this machine, v1 or hybrid: made, filled, joined, killed, removed."""

import errno
import os
import signal
import stat
import time
from pathlib import Path

import pytest
from cgroup_lab import (
    TOP,
    controllers_put_back,
    ended,
    place,
    process,
    read,
    sleep,
    spec,
    status_of,
    until,
)

from ocirun import cgroups
from ocirun.cgroups import tree
from ocirun.cgroups.files import write
from ocirun.errors import StepFailed

WHERE = cgroups.layout()

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(WHERE.mode not in ("v1", "hybrid"), reason="needs cgroup v1"),
]


def needs(*controllers: str):
    missing = [name for name in controllers if name not in WHERE.mounts]
    return pytest.mark.skipif(bool(missing), reason=f"needs cgroup v1 {', '.join(missing)}")


@pytest.fixture
def path(request):
    with place(request.node.name.replace("/", "_")[:200], WHERE) as found:
        yield found


def planned(path: str, resources: dict | None = None) -> cgroups.CgroupPlan:
    return cgroups.compile_cgroup(spec(path, resources), WHERE, "c1")


def made(path: str, resources: dict | None = None) -> cgroups.CgroupPlan:
    plan = planned(path, resources)
    cgroups.apply(plan)
    return plan


def cgroups_of(pid: int) -> dict[str, str]:
    lines = [line.split(":", 2) for line in read(f"/proc/{pid}/cgroup").splitlines()]
    return {key: path for _, keys, path in lines for key in keys.split(",")}


# --- the whole way


def test_from_nothing_to_nothing(path):
    plan = planned(path)
    directories = set(plan.paths.values())
    found = cgroups.apply(plan)
    assert directories <= set(found)
    with process(sleep, plan) as pid:
        assert {key: cgroups_of(pid)[key] for key in WHERE.mounts} == dict.fromkeys(
            WHERE.mounts, path
        )
        assert cgroups.processes(plan.paths) == [pid]
        cgroups.kill(plan.paths)
        assert cgroups.processes(plan.paths) == []
        cgroups.remove(plan.paths)
    assert not [directory for directory in directories if os.path.exists(directory)]
    cgroups.remove(plan.paths)
    cgroups.kill(plan.paths)
    assert cgroups.processes(plan.paths) == []


def test_a_process_joins_by_doors(path):
    plan = made(path)
    doors = cgroups.open_doors(plan)
    assert (doors.into >= 0) == ("" in WHERE.mounts)

    def join() -> None:
        for descriptor, _ in doors.tasks:
            os.write(descriptor, b"0")
        sleep()

    with process(join) as pid:
        until(
            lambda: pid in map(int, read(plan.join[-1].args[0] + "/cgroup.procs").split() or [pid])
        )
        v1 = {key: path for key in WHERE.mounts if key}
        until(lambda: v1.items() <= cgroups_of(pid).items())
        descriptors = [descriptor for descriptor, _ in doors.tasks]
        doors.close()
        for descriptor in descriptors:
            with pytest.raises(OSError):
                os.fstat(descriptor)
        cgroups.kill(plan.paths)
    cgroups.remove(plan.paths)


def test_doors_to_a_cgroup_that_is_gone(path):
    plan = planned(path)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(StepFailed) as caught:
        cgroups.open_doors(plan)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.step.startswith("put the process into")
    assert len(os.listdir("/proc/self/fd")) == len(before)


@needs("cpuset")
def test_a_new_cpuset_has_what_its_parent_has(path):
    plan = made(path)
    for name in ("cpuset.cpus", "cpuset.mems"):
        assert read(f"{plan.paths['cpuset']}/{name}") == read(f"{WHERE.mounts['cpuset']}/{name}")
    cgroups.remove(plan.paths)


# --- limits

UNLIMITED = "9223372036854771712"
OOM = "oom_kill_disable {}\nunder_oom 0\noom_kill 0"


@pytest.mark.parametrize(
    ("resources", "controller", "expected"),
    [
        (
            {"memory": {"limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20}},
            "memory",
            {
                "memory.limit_in_bytes": str(64 << 20),
                "memory.memsw.limit_in_bytes": str(128 << 20),
                "memory.soft_limit_in_bytes": str(32 << 20),
            },
        ),
        (
            {"memory": {"limit": 64 << 20, "swap": 64 << 20, "swappiness": 10}},
            "memory",
            {"memory.memsw.limit_in_bytes": str(64 << 20), "memory.swappiness": "10"},
        ),
        (
            {"cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 1000}},
            "cpu",
            {
                "cpu.shares": "512",
                "cpu.cfs_quota_us": "20000",
                "cpu.cfs_period_us": "50000",
                "cpu.cfs_burst_us": "1000",
            },
        ),
        ({"cpu": {"idle": 1}}, "cpu", {"cpu.idle": "1"}),
        ({"cpu": {"cpus": "0", "mems": "0"}}, "cpuset", {"cpuset.cpus": "0", "cpuset.mems": "0"}),
        ({"cpu": {"idle": 0, "shares": 77}}, "cpu", {"cpu.idle": "0", "cpu.shares": "77"}),
        ({"pids": {"limit": 7}}, "pids", {"pids.max": "7"}),
        ({"pids": {"limit": 0}}, "pids", {"pids.max": "1"}),
        ({"pids": {"limit": -1}}, "pids", {"pids.max": "max"}),
        ({"memory": {"limit": -1}}, "memory", {"memory.memsw.limit_in_bytes": UNLIMITED}),
        (
            {"memory": {"kernelTCP": 8 << 20, "useHierarchy": True}},
            "memory",
            {"memory.kmem.tcp.limit_in_bytes": str(8 << 20), "memory.use_hierarchy": "1"},
        ),
        ({"memory": {"disableOOMKiller": True}}, "memory", {"memory.oom_control": OOM.format(1)}),
        ({"memory": {"disableOOMKiller": False}}, "memory", {"memory.oom_control": OOM.format(0)}),
    ],
)
def test_limits_are_set(path, resources, controller, expected):
    if controller not in WHERE.mounts:
        pytest.skip(f"needs cgroup v1 {controller}")
    plan = made(path, resources)
    found = {file: read(f"{plan.paths[controller]}/{file}") for file in expected}
    assert found == expected
    cgroups.remove(plan.paths)


@needs("blkio")
@pytest.mark.spec(
    "/linux/resources/blockIO/throttleReadBpsDevice/*/rate",
    "/linux/resources/blockIO/throttleWriteBpsDevice/*/rate",
    "/linux/resources/blockIO/throttleReadIOPSDevice/*/rate",
    "/linux/resources/blockIO/throttleWriteIOPSDevice/*/rate",
)
def test_throttling_of_a_block_device(path):
    disks = [d for d in Path("/sys/block").iterdir() if int(read(d / "size")) > 0]
    if not disks:
        pytest.skip("needs a block device")
    major, minor = map(int, read(disks[0] / "dev").split(":"))
    names = {"ReadBps": "read_bps", "WriteBps": "write_bps"}
    names |= {"ReadIOPS": "read_iops", "WriteIOPS": "write_iops"}
    asked = {
        f"throttle{name}Device": [{"major": major, "minor": minor, "rate": 1000 + i}]
        for i, name in enumerate(names)
    }
    plan = made(path, {"blockIO": asked})
    for i, name in enumerate(names.values()):
        file = f"{plan.paths['blkio']}/blkio.throttle.{name}_device"
        assert read(file) == f"{major}:{minor} {1000 + i}"
    cgroups.remove(plan.paths)


@needs("cpu", "memory", "pids")
def test_an_update_can_follow_on_any_limits(path):
    plan = made(path)
    cpu = plan.paths["cpu"]
    for resources in (
        {"cpu": {"quota": 20000, "period": 100000, "burst": 20000}},
        {"cpu": {"quota": 5000, "period": 5000, "burst": 1000}},
        {"cpu": {"quota": 500000, "period": 1000000, "burst": 300000}},
        {"cpu": {"quota": 5000, "period": 5000, "burst": 1000}},
    ):
        cgroups.apply(cgroups.compile_update(resources, WHERE, plan.paths, "1.0.2"))
        found = [read(f"{cpu}/cpu.cfs_{name}_us") for name in ("quota", "period", "burst")]
        assert found == [str(value) for value in resources["cpu"].values()]
    for resources in (
        {"memory": {"limit": 64 << 20, "swap": 64 << 20}},
        {"memory": {"limit": 128 << 20, "swap": 256 << 20}},
        {"memory": {"limit": -1}},
        {"cpu": {"idle": 1}},
        {"cpu": {"idle": 0, "shares": 5}, "pids": {"limit": 9}},
    ):
        cgroups.apply(cgroups.compile_update(resources, WHERE, plan.paths, "1.0.2"))
    assert read(f"{plan.paths['memory']}/memory.limit_in_bytes") == UNLIMITED
    assert read(f"{plan.paths['memory']}/memory.memsw.limit_in_bytes") == UNLIMITED
    assert read(f"{cpu}/cpu.shares") == "5"
    assert read(f"{plan.paths['pids']}/pids.max") == "9"
    cgroups.remove(plan.paths)


@needs("memory")
@pytest.mark.parametrize(("before", "after"), [(32, 128), (128, 32)])
def test_memory_limits_can_follow_on_any_others(path, before, after):
    made(path, {"memory": {"limit": before << 20, "swap": before << 20}})
    plan = made(path, {"memory": {"limit": after << 20, "swap": after << 20}})
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        assert read(f"{plan.paths['memory']}/{name}") == str(after << 20)
    cgroups.remove(plan.paths)


@needs("pids")
def test_the_pids_limit_holds(path):
    def fork_five() -> None:
        for _ in range(5):
            if os.fork() == 0:
                sleep()

    plan = made(path, {"pids": {"limit": 3}})
    assert status_of(fork_five, plan) == errno.EAGAIN
    cgroups.kill(plan.paths)
    cgroups.remove(plan.paths)


@needs("memory")
def test_the_memory_limit_holds(path):
    plan = made(path, {"memory": {"limit": 24 << 20, "swap": 24 << 20}})
    assert not cgroups.oom_killed(plan.paths)
    assert status_of(lambda: bytearray(os.urandom(1) * (96 << 20)) and None, plan) == -9
    assert cgroups.oom_killed(plan.paths)
    cgroups.remove(plan.paths)


# --- devices


@needs("devices")
@pytest.mark.skipif(not os.path.exists("/dev/kmsg"), reason="needs /dev/kmsg")
def test_device_rules_hold(path, tmp_path):
    opened = {"type": "c", "major": 1, "minor": 11, "access": "r", "allow": True}
    for rules, read_status, write_status in (
        ([{"allow": False, "access": "rwm"}], errno.EPERM, errno.EPERM),
        ([{"allow": False, "access": "rwm"}, opened], 0, errno.EPERM),
        ([{"allow": True, "access": "rwm"}], 0, 0),
    ):
        plan = made(path, {"devices": rules})
        assert status_of(lambda: os.close(os.open("/dev/null", os.O_RDWR)), plan) == 0
        assert status_of(lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY)), plan) == read_status
        assert status_of(lambda: os.close(os.open("/dev/kmsg", os.O_WRONLY)), plan) == write_status
        node = tmp_path / f"node{read_status}{write_status}"
        device = os.makedev(1, 11)
        assert status_of(lambda n=node, d=device: os.mknod(n, stat.S_IFCHR | 0o600, d), plan) == 0
        cgroups.remove(plan.paths)


# --- failures leave nothing


@pytest.mark.parametrize(
    ("resources", "controller", "file", "value", "number", "call"),
    [
        (
            {"memory": {"swappiness": 1000}},
            "memory",
            "memory.swappiness",
            "1000",
            "EINVAL",
            "write",
        ),
        ({"cpu": {"cpus": "4000"}}, "cpuset", "cpuset.cpus", "4000", "ERANGE EINVAL", "write"),
        ({"cpu": {"period": 1}}, "cpu", "cpu.cfs_period_us", "1", "EINVAL", "write"),
        (
            {"blockIO": {"leafWeight": 10}},
            "blkio",
            "blkio.bfq.leaf_weight",
            "10",
            "ENOENT",
            "open",
        ),
    ],
)
def test_a_refused_value_is_named_and_nothing_stays(
    path, resources, controller, file, value, number, call
):
    if controller not in WHERE.mounts:
        pytest.skip(f"needs cgroup v1 {controller}")
    plan = planned(path, resources)
    with pytest.raises(StepFailed) as caught:
        cgroups.apply(plan)
    error = caught.value
    full = f"{plan.paths[controller]}/{file}"
    arguments = f'"{full}", "{value}"' if call == "write" else f'"{full}", O_WRONLY'
    section, values = next(iter(resources.items()))
    assert error.pointer == f"/linux/resources/{section}/{next(iter(values))}"
    assert error.syscall == f"{call}({arguments})"
    assert errno.errorcode[error.errno] in number.split()
    assert error.path == full
    assert error.step
    assert error.hint
    top = [point + TOP for point in WHERE.mounts.values()]
    assert not [directory for directory in top if os.path.exists(directory)]


@needs("memory")
def test_a_failure_leaves_what_was_there_before(path):
    plan = made(path)
    with pytest.raises(StepFailed):
        cgroups.apply(planned(path, {"memory": {"swappiness": 1000}}))
    assert all(map(os.path.isdir, plan.paths.values()))
    cgroups.remove(plan.paths)


def test_no_permission(path):
    def body() -> None:
        os.setresuid(65534, 65534, 65534)
        try:
            cgroups.apply(planned(path))
        except StepFailed as error:
            assert error.errno == errno.EACCES
            assert error.syscall.startswith('mkdir("')
            assert "root" in error.hint
            os._exit(42)

    with process(body) as pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def test_a_dead_process_cannot_join(path):
    plan = made(path)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(StepFailed) as caught:
        cgroups.attach(plan, pid)
    assert caught.value.errno == errno.ESRCH
    assert caught.value.pointer == "/linux/cgroupsPath"
    cgroups.remove(plan.paths)


# --- cgroups that exist


def test_a_cgroup_in_use_is_refused_and_left_alone(path):
    plan = made(path)
    with process(sleep, plan) as pid:
        with pytest.raises(StepFailed) as caught:
            cgroups.apply(planned(path))
        assert "not empty: 1 process" in caught.value.message
        assert caught.value.pointer == "/linux/cgroupsPath"
        assert "cgroupsPath" in caught.value.hint
        assert cgroups.processes(plan.paths) == [pid]
        cgroups.kill(plan.paths)
    cgroups.remove(plan.paths)


def test_a_cgroup_with_a_process_below_it_is_in_use(path):
    made(path)
    below = made(path + "/below")
    with process(sleep, below):
        with pytest.raises(StepFailed):
            cgroups.apply(planned(path))
        cgroups.kill(below.paths)
    cgroups.remove(planned(path).paths)


@needs("freezer")
def test_a_frozen_cgroup_is_refused(path):
    plan = made(path)
    cgroups.freeze(plan.paths)
    with pytest.raises(StepFailed) as caught:
        cgroups.apply(planned(path))
    assert "frozen" in caught.value.message
    cgroups.thaw(plan.paths)
    cgroups.apply(planned(path))
    cgroups.remove(plan.paths)


# --- kill and remove


def only_v1(paths: dict[str, str]) -> dict[str, str]:
    """As on a machine without a v2 mount, and so without cgroup.kill."""
    return {key: directory for key, directory in paths.items() if key}


def nested(plan: cgroups.CgroupPlan) -> dict[str, str]:
    """A cgroup below the container's in each hierarchy, as a container may make for itself."""
    paths = {key: directory + "/in/ner" for key, directory in plan.paths.items()}
    inner = planned(TOP + "/unused")
    steps = [step for step in inner.steps if step.op == "cgroup-inherit-cpuset"]
    for directory in paths.values():
        os.makedirs(directory, exist_ok=True)
    for step in steps:
        copy = type(step)(step.op, "", paths["cpuset"], step.args[1])
        cgroups.apply(cgroups.CgroupPlan((copy,), (), {}))
    return paths


@pytest.mark.parametrize("view", [dict, only_v1])
def test_nested_cgroups_are_killed_and_removed(path, view):
    plan = made(path)
    paths = nested(plan)
    with process(sleep, plan) as outer, process(sleep, cgroups_joining(paths)) as inner:
        assert cgroups.processes(view(plan.paths)) == sorted([outer, inner])
        cgroups.kill(view(plan.paths))
        until(lambda: ended(outer) and ended(inner))
    cgroups.remove(plan.paths)


def cgroups_joining(paths: dict[str, str]) -> cgroups.CgroupPlan:
    return cgroups.joining(paths)


@pytest.mark.parametrize("view", [dict, only_v1])
def test_a_fork_bomb_is_killed(path, view):
    def bomb() -> None:
        while True:
            try:
                os.fork()
            except OSError:
                pass

    plan = made(path, {"pids": {"limit": 40}} if "pids" in WHERE.mounts else None)
    with process(bomb, plan):
        until(lambda: len(cgroups.processes(plan.paths)) > 20)
        cgroups.kill(view(plan.paths))
        assert cgroups.processes(plan.paths) == []
    cgroups.remove(plan.paths)


@needs("freezer")
@pytest.mark.parametrize("view", [dict, only_v1])
def test_a_frozen_container_is_killed(path, view):
    plan = made(path)
    with process(sleep, plan) as pid:
        cgroups.freeze(plan.paths)
        cgroups.kill(view(plan.paths))
        assert ended(pid)
    cgroups.remove(plan.paths)


def test_another_signal_reaches_all_and_ends_none_that_handles_it(path):
    def body() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        write(ready, "x")
        signal.pause()
        raise OSError(77, "")

    plan = made(path)
    reader, writer = os.pipe()
    ready = f"/proc/self/fd/{writer}"
    with process(body, plan) as one, process(body, plan) as other:
        os.read(reader, 1)
        os.read(reader, 1)
        time.sleep(0.05)  # from the message to the pause
        cgroups.signal(plan.paths, signal.SIGUSR1)
        for pid in (one, other):
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 77
    os.close(reader)
    os.close(writer)
    cgroups.remove(plan.paths)


@needs("freezer")
def test_freeze_stops_and_thaw_goes_on(path):
    reader, writer = os.pipe()

    def beat() -> None:
        while True:
            os.write(writer, b".")
            time.sleep(0.002)

    os.set_blocking(reader, False)
    plan = made(path)
    with process(beat, plan):

        def beats() -> int:
            total = 0
            try:
                while chunk := os.read(reader, 65536):
                    total += len(chunk)
            except BlockingIOError:
                pass
            return total

        until(lambda: beats() > 0)
        cgroups.freeze(plan.paths)
        beats()
        time.sleep(0.05)
        assert beats() == 0
        cgroups.thaw(plan.paths)
        until(lambda: beats() > 0)
        cgroups.kill(plan.paths)
    os.close(reader)
    os.close(writer)
    cgroups.remove(plan.paths)


def test_freezing_needs_a_freezer():
    with pytest.raises(StepFailed) as caught:
        cgroups.freeze({"memory": "/nowhere"})
    assert "freezer" in caught.value.message
    cgroups.thaw({"memory": "/nowhere"})


def test_freezing_what_is_gone():
    paths = {"freezer": f"{WHERE.mounts.get('freezer', '/nowhere')}{TOP}/gone"}
    with pytest.raises(StepFailed) as caught:
        cgroups.freeze(paths)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.syscall.startswith('open("')
    cgroups.thaw(paths)


def test_a_cgroup_in_use_is_not_removed(path, monkeypatch):
    monkeypatch.setattr(tree, "_REMOVE_TIME", 0.02)
    plan = made(path)
    with process(sleep, plan) as pid:
        with pytest.raises(StepFailed) as caught:
            cgroups.remove(plan.paths)
        assert caught.value.errno == errno.EBUSY
        assert caught.value.syscall.startswith('rmdir("')
        assert str(pid) in caught.value.hint
        assert not ended(pid)
        cgroups.kill(plan.paths)
    cgroups.remove(plan.paths)


def test_a_process_never_kills_or_freezes_itself(path, monkeypatch):
    """The runtime may run inside the very cgroup; then it says so."""
    monkeypatch.setattr(tree, "_KILL_TIME", 0.02)
    plan = made(path)

    def body() -> None:
        try:
            cgroups.kill(plan.paths)
        except StepFailed as error:
            if str(os.getpid()) in error.hint:
                raise OSError(55, "") from None

    assert status_of(body, plan) == 55
    cgroups.remove(plan.paths)


@pytest.mark.skipif("hugetlb" not in WHERE.controllers, reason="needs hugetlb on the v2 mount")
def test_a_hybrid_layout_uses_controllers_of_both(path):
    limit = str(4 << 20)
    with controllers_put_back(WHERE):
        plan = made(path, {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]})
        assert read(f"{plan.paths['']}/hugetlb.2MB.max") == limit
        cgroups.remove(plan.paths)
        cgroups.remove({"": WHERE.mounts[""] + TOP})
