"""--systemd-cgroup: what systemd is asked for, and what becomes of its answers.

On the other end of the bus is `lib.fake_systemd`. What a real systemd makes of the
same calls is tested where one runs.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import BASE, Bundle
from lib.fake_systemd import FakeSystemd, fake_systemd
from lib.leaks import hierarchies
from lib.limits import limit
from lib.runtime import Result, Runtime

SLICES = ("ocirun.slice", "ocirun-test.slice")
pytestmark = [pytest.mark.only("ocirun"), pytest.mark.spec("/linux/cgroupsPath")]


@pytest.fixture
def systemd(folder: Path, runtime: Runtime) -> Iterator[FakeSystemd]:
    if not shutil.which("dbus-daemon"):
        pytest.skip("needs dbus-daemon (Debian: dbus-daemon)")
    for name in ("systemd", "unified"):
        if f"/sys/fs/cgroup/{name}" not in hierarchies():
            pytest.skip(f"needs the hybrid layout of systemd: no /sys/fs/cgroup/{name}")
    with fake_systemd(folder / "systemd") as fake:
        runtime.options = ("--systemd-cgroup",)
        runtime.prefix = ("env", f"DBUS_SYSTEM_BUS_ADDRESS={fake.address}")
        yield fake
        runtime.clear()
    remove_slices()


def remove_slices() -> None:
    """Remove the slices that the fake and ocirun have made, in each hierarchy, if nobody is there."""
    for line in Path("/proc/1/cgroup").read_text().splitlines():
        _, names, own = line.split(":", 2)
        for hierarchy in hierarchies():
            if names.removeprefix("name=").split(",")[0] in hierarchy or not names:
                for slices in (SLICES, SLICES[:1]):
                    try:
                        Path(f"{hierarchy}{own.rstrip('/')}", *slices).rmdir()
                    except OSError:
                        continue


@pytest.fixture(params=["machine", "v2"])
def layout(request: pytest.FixtureRequest, systemd: FakeSystemd, runtime: Runtime) -> str:
    """As the machine has its cgroups, and with nothing but a v2 hierarchy in sight."""
    if request.param == "v2":
        script = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
        runtime.prefix = (*runtime.prefix, "unshare", "--mount", "sh", "-c", script, "sh")
    return str(request.param)


@pytest.fixture
def scoped(bundle: Bundle, systemd: FakeSystemd) -> Bundle:
    bundle.set("/linux/cgroupsPath", f"ocirun-test.slice:x:{bundle.id}")
    return bundle.sleeper()


def own(pid: int) -> dict[str, str]:
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    return {key: path for _, keys, path in lines for key in keys.split(",")}


def test_life_of_a_container(
    runtime: Runtime, systemd: FakeSystemd, scoped: Bundle, layout: str
) -> None:
    unit = f"x-{scoped.id}.scope"
    runtime.create(scoped).ok()
    pid = runtime.state(scoped.id)["pid"]
    properties = systemd.properties()
    called = systemd.calls("StartTransientUnit")
    assert [call[:2] for call in called] == [[unit, "replace"]]
    assert properties["PIDs"] == ["au", [pid]]
    assert properties["Slice"] == ["s", "ocirun-test.slice"]
    assert properties["Description"] == ["s", f"OCI container {scoped.id}"]
    assert properties["Delegate"] == ["b", True]
    assert properties["DefaultDependencies"] == ["b", False]
    assert properties["CollectMode"] == ["s", "inactive-or-failed"]
    inner = f"/ocirun.slice/ocirun-test.slice/{unit}"
    found = own(pid)
    assert found[""] == inner
    if layout == "machine":
        base = own(1)
        expected = {key: base[key].rstrip("/") + inner for key in found}
        assert found == expected
    runtime.start(scoped.id).ok()
    assert runtime.status(scoped.id) == "running"
    runtime.kill(scoped.id).ok()
    runtime.wait_status(scoped.id, "stopped")
    runtime.delete(scoped.id).ok()
    assert [call[0] for call in systemd.calls("StopUnit")] == [unit]
    assert not [h for h in hierarchies() if Path(h + inner).exists()]


def test_run(runtime: Runtime, systemd: FakeSystemd, scoped: Bundle, layout: str) -> None:
    result = runtime.run(scoped.sh("echo there; exit 3"))
    assert (result.status, result.out) == (3, "there\n")
    assert len(systemd.calls("StopUnit")) == 1


def test_forced_delete(runtime: Runtime, systemd: FakeSystemd, scoped: Bundle) -> None:
    runtime.create(scoped).ok()
    runtime.delete(scoped.id, "--force").ok()
    assert len(systemd.calls("StopUnit")) == 1
    assert runtime.containers() == []


def test_delete_of_a_scope_that_has_ended_by_itself(
    runtime: Runtime, systemd: FakeSystemd, scoped: Bundle
) -> None:
    runtime.create(scoped).ok()
    pid = runtime.state(scoped.id)["pid"]
    scope = Path("/sys/fs/cgroup/systemd" + own(pid)["name=systemd"])
    runtime.kill(scoped.id).ok()
    runtime.wait_status(scoped.id, "stopped")
    scope.rmdir()  # as systemd does with an empty one
    runtime.delete(scoped.id).ok()
    assert systemd.calls("StopUnit") == []


def test_delete_without_a_bus(runtime: Runtime, systemd: FakeSystemd, scoped: Bundle) -> None:
    runtime.create(scoped).ok()
    os.rename(systemd.folder / "bus", systemd.folder / "away")
    deleted = runtime.call("--debug", "delete", "--force", scoped.id).ok()
    assert f"cannot stop x-{scoped.id}.scope" in deleted.err
    assert runtime.containers() == []


def test_default_path(runtime: Runtime, systemd: FakeSystemd, bundle: Bundle) -> None:
    bundle.drop("/linux/cgroupsPath").sleeper()
    systemd.behave(error=["org.freedesktop.DBus.Error.AccessDenied", "no"])
    runtime.create(bundle).failed()  # it would be in the machine's own slice
    assert systemd.calls("StartTransientUnit")[0][0] == f"ocirun-{bundle.id}.scope"
    assert systemd.properties()["Slice"] == ["s", "system.slice"]


def test_limits_are_told_and_written(
    runtime: Runtime, systemd: FakeSystemd, scoped: Bundle
) -> None:
    scoped.set("/linux/resources/memory", {"limit": 64 << 20})
    scoped.set("/linux/resources/cpu", {"shares": 512, "quota": 12345, "period": 50000})
    scoped.set("/linux/resources/pids", {"limit": 77})
    runtime.create(scoped).ok()
    properties = systemd.properties()
    assert properties["MemoryLimit"] == ["t", 64 << 20]
    assert properties["CPUShares"] == ["t", 512]
    assert properties["CPUQuotaPerSecUSec"] == ["t", 250000]
    assert properties["CPUQuotaPeriodUSec"] == ["t", 50000]
    assert properties["TasksMax"] == ["t", 77]
    found = own(runtime.state(scoped.id)["pid"])
    for controller, file, value in (
        ("memory", "memory.limit_in_bytes", 64 << 20),
        ("cpu", "cpu.cfs_quota_us", 12345),
        ("pids", "pids.max", 77),
    ):
        assert Path(f"/sys/fs/cgroup/{controller}{found[controller]}/{file}").read_text() == (
            f"{value}\n"
        )


def test_an_old_systemd_is_told_what_it_knows(
    runtime: Runtime, systemd: FakeSystemd, scoped: Bundle
) -> None:
    systemd.behave(version="systemd 232")
    scoped.set("/linux/resources/cpu", {"quota": 10000, "period": 50000})
    runtime.create(scoped).ok()
    names = set(systemd.properties())
    assert names >= {"CPUQuotaPerSecUSec", "Slice", "Delegate"}
    assert not names & {"CPUQuotaPeriodUSec", "CollectMode", "DevicePolicy", "DeviceAllow"}


@pytest.mark.spec("/annotations/*")
def test_annotations_are_properties(runtime: Runtime, systemd: FakeSystemd, scoped: Bundle) -> None:
    prefix = "org.systemd.property."
    annotations = {
        "TimeoutStopUSec": "uint64 5000000",
        "CollectMode": "'inactive'",
        "RuntimeMaxSec": "1.5",
        "After": "['a.service', 'b.service']",
    }
    scoped.set("/annotations", {prefix + name: value for name, value in annotations.items()})
    runtime.create(scoped).ok()
    found = systemd.properties()
    assert found["TimeoutStopUSec"] == ["t", 5000000]
    assert found["CollectMode"] == ["s", "inactive"]
    assert found["RuntimeMaxUSec"] == ["t", 1500000]
    assert found["After"] == ["as", ["a.service", "b.service"]]


def test_device_rules_hold(
    runtime: Runtime, systemd: FakeSystemd, scoped: Bundle, layout: str
) -> None:
    if not Path("/dev/fuse").exists():
        pytest.skip("the kernel has no /dev/fuse")
    rule = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}
    scoped.add("/linux/resources/devices", rule)
    scoped.add("/linux/devices", {"path": "/dev/it", "type": "c", "major": 10, "minor": 229})
    assert runtime.run(scoped.sh("exec 3< /dev/it")).status == 0
    allowed = dict(systemd.properties()["DeviceAllow"][1])
    assert (allowed["/dev/char/10:229"], allowed["char-136"]) == ("r", "rwm")
    assert runtime.run(scoped.sh("exec 3> /dev/it")).status != 0


def test_a_failed_unit_of_that_name_is_cleared_away(
    runtime: Runtime, systemd: FakeSystemd, scoped: Bundle
) -> None:
    systemd.behave(exists=[f"x-{scoped.id}.scope"])
    runtime.create(scoped).ok()
    assert len(systemd.calls("StartTransientUnit")) == 2


def test_a_unit_that_is_in_use(
    runtime: Runtime, systemd: FakeSystemd, scoped: Bundle, make_bundle
) -> None:
    runtime.create(scoped).ok()
    other = make_bundle().sleeper()
    other.set("/linux/cgroupsPath", scoped.config["linux"]["cgroupsPath"])
    runtime.create(other).failed("not empty", "/linux/cgroupsPath")
    assert len(systemd.calls("StartTransientUnit")) == 1
    runtime.start(scoped.id).ok()
    assert runtime.status(scoped.id) == "running"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            {"error": ["org.freedesktop.DBus.Error.AccessDenied", "Permission denied"]},
            ["Permission denied (org.freedesktop.DBus.Error.AccessDenied)", "needs root"],
        ),
        (
            {"error": ["org.freedesktop.systemd1.UnitExists", "was already loaded"]},
            ["already loaded (org.freedesktop.systemd1.UnitExists)", "another container"],
        ),
        (
            {
                "error": [
                    "org.freedesktop.DBus.Error.PropertyReadOnly",
                    "Cannot set property CPUShares, or unknown property.",
                ]
            },
            ["CPUShares", "/linux/resources/cpu/shares", "remove it"],
        ),
        ({"result": "failed"}, ["'failed'"]),
        ({"elsewhere": True}, ["systemd has not put the process into"]),
    ],
    ids=["denied", "exists", "property", "job", "elsewhere"],
)
def test_failures_are_told_and_leave_nothing(
    runtime: Runtime, systemd: FakeSystemd, scoped: Bundle, how: dict, words: list[str]
) -> None:
    systemd.behave(**how)
    scoped.set("/linux/resources/cpu", {"shares": 512})
    runtime.create(scoped).failed(*words)
    assert runtime.containers() == []
    if "elsewhere" in how or "result" in how:  # the fake keeps what systemd would remove
        for hierarchy in ("systemd", "unified"):
            for scope in Path("/sys/fs/cgroup", hierarchy, "ocirun.slice").rglob("*.scope"):
                scope.rmdir()


def test_a_limit_that_fails_leaves_no_scope(
    runtime: Runtime, systemd: FakeSystemd, scoped: Bundle
) -> None:
    scoped.set("/linux/resources/cpu", {"cpus": "999"})
    runtime.create(scoped).failed("/linux/resources/cpu/cpus")
    assert len(systemd.calls("StopUnit")) == 1
    assert runtime.containers() == []


def test_no_bus(runtime: Runtime, systemd: FakeSystemd, scoped: Bundle) -> None:
    runtime.prefix = ("env", f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={systemd.folder}/none")
    runtime.create(scoped).failed("cannot connect to unix:path", "is systemd running?")
    assert runtime.containers() == []


@pytest.mark.parametrize("path", ["/a/b", "a.slice:b", "a:b:c", "a--b.slice:x:y", "a.slice:x:y/z"])
def test_paths_that_are_refused(
    runtime: Runtime, systemd: FakeSystemd, bundle: Bundle, path: str
) -> None:
    runtime.create(bundle.set("/linux/cgroupsPath", path)).failed("/linux/cgroupsPath")
    assert systemd.calls("StartTransientUnit") == []


def test_explain(runtime: Runtime, systemd: FakeSystemd, scoped: Bundle) -> None:
    told = runtime.call("explain", scoped.write()).ok().out
    assert f"have systemd make x-{scoped.id}.scope in ocirun-test.slice" in told
    assert systemd.calls("StartTransientUnit") == []


def test_features(runtime: Runtime, systemd: FakeSystemd) -> None:
    cgroup = json.loads(runtime.call("features").ok().out)["linux"]["cgroup"]
    assert (cgroup["systemd"], cgroup["systemdUser"]) == (True, True)


# `update`: systemd would write the old limits again, and is told.


@pytest.fixture
def unit(runtime: Runtime, scoped: Bundle) -> str:
    """A scope with limits."""
    scoped.set("/linux/resources/pids", {"limit": 50})
    scoped.set("/linux/resources/cpu", {"quota": 50000, "period": 100000})
    runtime.create(scoped).ok()
    runtime.options = ()  # how it was made says the record
    return f"x-{scoped.id}.scope"


def test_update(runtime: Runtime, systemd: FakeSystemd, scoped: Bundle, unit: str) -> None:
    options = ("--pids-limit", "7", "--cpu-quota", "20000")
    runtime.call("update", *options, scoped.id).ok()
    assert systemd.calls("SetUnitProperties") == [
        [
            unit,
            True,
            [
                ["TasksMax", ["t", 7]],
                ["CPUQuotaPeriodUSec", ["t", 100000]],
                ["CPUQuotaPerSecUSec", ["t", 200000]],
            ],
        ]
    ]
    assert limit(runtime.state(scoped.id)["pid"], "pids.max") == "7"


def test_update_that_the_kernel_refuses(
    runtime: Runtime, systemd: FakeSystemd, scoped: Bundle, unit: str
) -> None:
    """What systemd was told is taken back; what had no limit has none again."""
    options = ("--pids-limit", "7", "--memory", "32M", "--cpuset-cpus", "700")
    runtime.call("update", *options, scoped.id).failed("cpuset.cpus", "nothing has changed")
    told, taken_back = (dict(call[2]) for call in systemd.calls("SetUnitProperties"))
    assert told["TasksMax"] == ["t", 7]
    assert taken_back["TasksMax"] == ["t", 50]
    assert taken_back["MemoryLimit"] == ["t", 2**64 - 1]
    assert limit(runtime.state(scoped.id)["pid"], "pids.max") == "50"


def test_update_that_systemd_refuses(
    runtime: Runtime, systemd: FakeSystemd, scoped: Bundle, unit: str
) -> None:
    systemd.behave(refuse=["org.freedesktop.systemd1.InvalidArgs", "TasksMax is no good"])
    done = runtime.call("update", "--pids-limit", "7", scoped.id).failed("TasksMax is no good")
    assert "asked by: the command line --pids-limit\n" in done.err
    assert limit(runtime.state(scoped.id)["pid"], "pids.max") == "50"


# Device rules: systemd forgets what it is not told, and on v1 it writes its own list over ours.

BASE_RULES = json.loads(BASE)["linux"]["resources"]["devices"]
FUSE = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
LOOP = {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "r"}


def devices(runtime: Runtime, bundle: Bundle) -> set[str]:
    """What the container may open, of these two."""
    pid = runtime.state(bundle.id)["pid"]
    lines = Path(f"/sys/fs/cgroup/devices{own(pid)['devices']}/devices.list").read_text()
    return {line for line in lines.splitlines() if line.startswith(("a", "c 10:229", "b 7:0"))}


def ask_for(runtime: Runtime, bundle: Bundle, **resources: Any) -> Result:
    path = bundle.path / "resources.json"
    path.write_text(json.dumps(resources))
    return runtime.call("update", "--resources", path, bundle.id)


@pytest.fixture
def fuse(runtime: Runtime, scoped: Bundle) -> Bundle:
    """A scope in which one more device is allowed, and a part of it is not."""
    rules = scoped.config["linux"]["resources"]["devices"]
    scoped.set("/linux/resources/devices", [*rules, FUSE, {**FUSE, "allow": False, "access": "w"}])
    runtime.create(scoped).ok()
    assert devices(runtime, scoped) == {"c 10:229 r"}
    return scoped


def test_update_of_devices(runtime: Runtime, systemd: FakeSystemd, fuse: Bundle) -> None:
    ask_for(runtime, fuse, devices=[*BASE_RULES, LOOP]).ok()
    (unit, _, properties) = systemd.calls("SetUnitProperties")[-1]
    assert unit == f"x-{fuse.id}.scope"
    assert properties[0] == ["DeviceAllow", ["a(ss)", []]]
    told = dict(properties[1:])
    assert told["DevicePolicy"] == ["s", "strict"]
    assert ["/dev/block/7:0", "r"] in told["DeviceAllow"][1]
    for _ in range(2):
        assert devices(runtime, fuse) == {"b 7:0 r"}
        systemd.reload()


def test_update_of_devices_that_is_taken_back(
    runtime: Runtime, systemd: FakeSystemd, fuse: Bundle
) -> None:
    cpu = {"cpus": "700"}
    asked = ask_for(runtime, fuse, devices=[*BASE_RULES, LOOP], cpu=cpu)
    asked.failed("cpuset.cpus", "nothing has changed")
    for _ in range(2):
        assert devices(runtime, fuse) == {"c 10:229 r"}
        systemd.reload()


def test_update_without_devices_tells_of_none(
    runtime: Runtime, systemd: FakeSystemd, fuse: Bundle
) -> None:
    ask_for(runtime, fuse, pids={"limit": 9}).ok()
    (call,) = systemd.calls("SetUnitProperties")
    assert [name for name, _ in call[2]] == ["TasksMax"]
    assert devices(runtime, fuse) == {"c 10:229 r"}
