"""cgroups: where the container's processes are, limits, device rules; v1 and hybrid as the machine has it, v2 alone."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.leaks import PREFIX, hierarchies
from lib.runtime import Runtime

V1 = Path("/sys/fs/cgroup")


def v1(controller: str) -> Path:
    """The mount of a v1 controller; skips the test where there is none."""
    path = V1 / controller
    if str(path) not in hierarchies():
        pytest.skip(f"no v1 hierarchy with {controller}")
    return path


@pytest.fixture
def container(runtime: Runtime, bundle: Bundle) -> str:
    """A container that will be created with a shell that waits."""
    bundle.sleeper()
    return bundle.id


def read(controller: str, container: str, name: str) -> str:
    return (v1(controller) / "ocirun-test" / container / name).read_text().strip()


@pytest.mark.parametrize(
    "controller", ["memory", "cpu", "pids", "devices", "freezer", "cpuset", "blkio", "systemd"]
)
def test_process_is_in_the_cgroup(
    runtime: Runtime, bundle: Bundle, container: str, controller: str
) -> None:
    runtime.create(bundle).ok()
    pid = runtime.state(container)["pid"]
    assert str(pid) in read(controller, container, "cgroup.procs").split()


def test_every_child_is_in_the_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    created = runtime.create(bundle.sh("sleep 1000 & sleep 1000 & echo ready; wait")).ok()
    runtime.start(bundle.id).ok()
    while created.out != "ready\n":
        pass
    assert len(read("pids", bundle.id, "cgroup.procs").split()) == 3


def test_default_path_has_the_id(runtime: Runtime, bundle: Bundle, container: str) -> None:
    v1("memory")
    bundle.drop("/linux/cgroupsPath")
    runtime.create(bundle).ok()
    pid = runtime.state(container)["pid"]
    memory = next(
        line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if "memory" in line
    )
    assert container in memory
    runtime.delete(container, "--force").ok()


@pytest.mark.spec("/linux/cgroupsPath")
def test_nested_path(runtime: Runtime, bundle: Bundle, container: str) -> None:
    v1("memory")
    bundle.set("/linux/cgroupsPath", f"/ocirun-test/{container}/a/b")
    runtime.create(bundle).ok()
    pid = runtime.state(container)["pid"]
    assert f":memory:/ocirun-test/{container}/a/b\n" in Path(f"/proc/{pid}/cgroup").read_text()
    runtime.delete(container, "--force").ok()
    remove_above(container, "a")


def remove_above(*names: str) -> None:
    """Removes nested cgroups of an engine: what is above the container's own is not the runtime's."""
    for hierarchy in hierarchies():
        path = Path(hierarchy, "ocirun-test", *names)
        for folder in (path, *path.parents)[: len(names)]:
            if folder.is_dir():
                folder.rmdir()


def test_parents_are_made_by_several_at_once(
    runtime: Runtime, make_bundle: Callable[..., Bundle]
) -> None:
    """As the first tasks of a service: none fails because another one has made its parents."""
    bundles = [make_bundle("true") for _ in range(6)]
    for turn in range(3):
        names = [f"{bundles[0].id}-{turn}", *"abcdef"]
        for bundle in bundles:
            bundle.set("/linux/cgroupsPath", f"/ocirun-test/{'/'.join(names)}/{bundle.id}")
        started = [
            runtime.popen("run", "--bundle", bundle.write(), bundle.id, stderr=subprocess.PIPE)
            for bundle in bundles
        ]
        words = [process.communicate(timeout=30)[1].decode() for process in started]
        remove_above(*names)
        assert [process.returncode for process in started] == [0] * 6, words


@pytest.mark.parametrize("path", ["/../../escape", "../escape", "/ocirun-test/../../escape"])
def test_path_stays_in_the_hierarchy(
    runtime: Runtime, bundle: Bundle, container: str, path: str
) -> None:
    bundle.set("/linux/cgroupsPath", f"{path}-{container}")
    result = runtime.create(bundle)
    assert not list(V1.glob(f"*escape-{container}"))
    if result.status == 0:
        runtime.delete(container, "--force").ok()


LIMITS = [
    ("memory/limit", 64 << 20, "memory", "memory.limit_in_bytes", str(64 << 20)),
    ("memory/limit", -1, "memory", "memory.limit_in_bytes", "9223372036854771712"),
    ("memory/reservation", 32 << 20, "memory", "memory.soft_limit_in_bytes", str(32 << 20)),
    ("memory/swappiness", 30, "memory", "memory.swappiness", "30"),
    ("memory/disableOOMKiller", True, "memory", "memory.oom_control", "oom_kill_disable 1"),
    ("cpu/shares", 512, "cpu", "cpu.shares", "512"),
    ("cpu/quota", 50000, "cpu", "cpu.cfs_quota_us", "50000"),
    ("cpu/period", 200000, "cpu", "cpu.cfs_period_us", "200000"),
    ("cpu/quota", -1, "cpu", "cpu.cfs_quota_us", "-1"),
    ("cpu/cpus", "0", "cpuset", "cpuset.cpus", "0"),
    ("cpu/mems", "0", "cpuset", "cpuset.mems", "0"),
    ("pids/limit", 10, "pids", "pids.max", "10"),
]


@pytest.mark.parametrize(
    ("pointer", "value", "controller", "file", "wanted"),
    [pytest.param(*row, marks=pytest.mark.spec(f"/linux/resources/{row[0]}")) for row in LIMITS],
)
def test_limits(
    runtime: Runtime,
    bundle: Bundle,
    container: str,
    pointer: str,
    value: object,
    controller: str,
    file: str,
    wanted: str,
) -> None:
    if not (v1(controller) / file).exists() and controller != "pids" and "cfs" not in file:
        pytest.skip(f"the kernel has no {file}")
    runtime.create(bundle.set(f"/linux/resources/{pointer}", value)).ok()
    assert read(controller, container, file).startswith(wanted)


def test_all_limits_at_once(runtime: Runtime, bundle: Bundle, container: str) -> None:
    bundle.set("/linux/resources/memory", {"limit": 100 << 20, "swap": -1, "reservation": 50 << 20})
    bundle.set("/linux/resources/cpu", {"shares": 100, "quota": 20000, "period": 100000})
    bundle.set("/linux/resources/pids", {"limit": 100})
    runtime.create(bundle).ok()
    assert read("memory", container, "memory.limit_in_bytes") == str(100 << 20)
    assert read("cpu", container, "cpu.cfs_quota_us") == "20000"
    assert read("pids", container, "pids.max") == "100"


def test_pids_limit_works(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/resources/pids", {"limit": 3})
    result = runtime.run(bundle.sh("sleep 0.3 & sleep 0.3 & sleep 0.3 & sleep 0.3 & wait"))
    assert "can't fork" in result.err


def test_memory_limit_works(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/resources/memory", {"limit": 16 << 20, "swap": 16 << 20})
    result = runtime.run(
        bundle.sh("head -c 100000000 /dev/zero | tail -c 100000000 > /dev/null; exit $?")
    )
    assert result.status != 0


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("pids/limit", "many"), ("memory/limit", 1.5), ("cpu/cpus", "999"), ("cpu/quota", 1)],
)
def test_impossible_limits(
    runtime: Runtime, bundle: Bundle, container: str, pointer: str, value: object
) -> None:
    runtime.create(bundle.set(f"/linux/resources/{pointer}", value)).failed()
    assert runtime.containers() == []


def test_cgroup_mount_shows_the_containers_own(runtime: Runtime, bundle: Bundle) -> None:
    v1("memory")
    bundle.sh(
        "cat /sys/fs/cgroup/memory/cgroup.procs; mkdir /sys/fs/cgroup/memory/x || echo refused"
    )
    seen = runtime.run(bundle).out.split()
    assert (seen[0], seen[-1]) == ("1", "refused")


def test_cgroup_namespace(runtime: Runtime, bundle: Bundle) -> None:
    v1("memory")
    report = runtime.probe(bundle.namespace("cgroup"))
    assert PREFIX not in report["cgroup"]
    assert ":memory:/\n" in report["cgroup"]


# Device rules. /dev/fuse (c 10:229) is not among the defaults, and opens for anyone.


@pytest.fixture(params=["machine", "v2"])
def layout(request: pytest.FixtureRequest, runtime: Runtime, kind: str) -> Iterator[str]:
    """As the machine has its cgroups, and with nothing but a v2 hierarchy in sight."""
    if not Path("/dev/fuse").exists():
        pytest.skip("the kernel has no /dev/fuse")
    if request.param == "v2":
        if (V1 / "cgroup.controllers").exists():
            pytest.skip("the machine itself has nothing but v2")
        if kind == "crun":
            pytest.skip("crun 1.8 raises RLIMIT_MEMLOCK there, which needs CAP_SYS_RESOURCE")
        script = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
        runtime.prefix = ("unshare", "--mount", "sh", "-c", script, "sh")
    yield request.param
    runtime.clear()
    runtime.prefix = ()


def allow(bundle: Bundle, **rule: object) -> Bundle:
    return bundle.add("/linux/resources/devices", {"allow": True, **rule})


def test_default_devices_may_be_used(runtime: Runtime, bundle: Bundle, layout: str) -> None:
    bundle.sh(
        "for d in null zero full random urandom tty ptmx; do (exec 3< /dev/$d) && echo $d; done"
    )
    seen = runtime.run(bundle).out.split()
    assert set(seen) >= {"null", "zero", "full", "random", "urandom", "ptmx"}


@pytest.mark.parametrize("node", ["c 10 229", "b 7 0", "c 1 11"])
def test_other_devices_may_not_be_opened(
    runtime: Runtime, bundle: Bundle, layout: str, node: str
) -> None:
    name, major, minor = node.split()
    device = {"path": "/dev/it", "type": name, "major": int(major), "minor": int(minor)}
    bundle.add("/linux/devices", device)
    result = runtime.run(bundle.sh("cat /dev/it"))
    assert result.status != 0
    assert "not permitted" in result.err


@pytest.mark.spec(
    "/linux/resources/devices/*/allow",
    "/linux/resources/devices/*/type",
    "/linux/resources/devices/*/major",
    "/linux/resources/devices/*/minor",
    "/linux/resources/devices/*/access",
)
@pytest.mark.parametrize(
    ("rules", "command", "works"),
    [
        ([{"type": "c", "major": 10, "minor": 229, "access": "r"}], "exec 3< /dev/it", True),
        ([{"type": "c", "major": 10, "minor": 229, "access": "w"}], "exec 3< /dev/it", False),
        ([{"type": "c", "major": 10, "minor": 229, "access": "w"}], "exec 3> /dev/it", True),
        ([{"type": "c", "major": 10, "access": "rwm"}], "exec 3<> /dev/it", True),
        ([{"type": "b", "major": 10, "minor": 229, "access": "rwm"}], "exec 3< /dev/it", False),
        ([{"type": "c", "major": 2, "access": "rwm"}], "exec 3< /dev/it", False),
        ([{"access": "rwm"}], "exec 3<> /dev/it", True),
        ([{"type": "a", "access": "rwm"}], "exec 3<> /dev/it", True),
    ],
    ids=["read", "read-not-write", "write", "any-minor", "other-type", "other-major", "all", "a"],
)
def test_rules(
    runtime: Runtime,
    bundle: Bundle,
    layout: str,
    rules: list[dict[str, object]],
    command: str,
    works: bool,
) -> None:
    for rule in rules:
        allow(bundle, **rule)
    bundle.add("/linux/devices", {"path": "/dev/it", "type": "c", "major": 10, "minor": 229})
    assert (runtime.run(bundle.sh(command)).status == 0) == works


def test_later_rule_wins(runtime: Runtime, bundle: Bundle, layout: str) -> None:
    bundle.add("/linux/devices", {"path": "/dev/it", "type": "c", "major": 10, "minor": 229})
    allow(bundle, type="c", major=10, minor=229, access="rwm")
    bundle.add(
        "/linux/resources/devices",
        {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "w"},
    )
    assert runtime.run(bundle.sh("exec 3< /dev/it")).status == 0
    assert runtime.run(bundle.sh("exec 3> /dev/it")).status != 0


def test_lifecycle(runtime: Runtime, bundle: Bundle, layout: str) -> None:
    runtime.create(bundle.sleeper()).ok()
    runtime.start(bundle.id).ok()
    assert runtime.status(bundle.id) == "running"
    pid = runtime.state(bundle.id)["pid"]
    assert f"/ocirun-test/{bundle.id}" in Path(f"/proc/{pid}/cgroup").read_text()
    runtime.kill(bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")
    runtime.delete(bundle.id).ok()


def test_delete_kills_what_is_left_in_the_cgroup(
    runtime: Runtime, bundle: Bundle, layout: str
) -> None:
    bundle.drop_namespace("pid").sh("setsid sleep 1000 & echo $!; exit 0")
    created = runtime.create(bundle).ok()
    runtime.start(bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")
    left = int(created.out)
    assert f"/ocirun-test/{bundle.id}" in Path(f"/proc/{left}/cgroup").read_text()
    runtime.delete(bundle.id, "--force").ok()
    assert os.waitpid(left, 0) == (left, signal.SIGKILL)


def test_v2_path_of_the_own_cgroup_is_not_changed(runtime: Runtime, bundle: Bundle) -> None:
    before = Path("/proc/self/cgroup").read_text()
    runtime.run(bundle.sh("true")).ok()
    assert Path("/proc/self/cgroup").read_text() == before
