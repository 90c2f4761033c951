"""--systemd-cgroup with a real systemd: the unit, its cgroup, what stays after a reload. For the labs."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for

pytestmark = [
    pytest.mark.lab("systemd"),
    pytest.mark.only("ocirun"),
    pytest.mark.spec("/linux/cgroupsPath"),
]

MB = 1 << 20
# (controller of v1, file of v1) of a file of v2
V1 = {
    "memory.max": ("memory", "memory.limit_in_bytes"),
    "pids.max": ("pids", "pids.max"),
}


@pytest.fixture(autouse=True)
def by_systemd(runtime: Runtime) -> Iterator[None]:
    runtime.options = ("--systemd-cgroup",)
    yield
    runtime.clear()
    systemctl("stop", "ocirun.slice")


@pytest.fixture
def scoped(bundle: Bundle) -> Bundle:
    bundle.set("/linux/cgroupsPath", f"ocirun-test.slice:x:{bundle.id}")
    return bundle.sleeper()


def systemctl(*args: str) -> str:
    done = subprocess.run(["systemctl", *args], capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


def shown(bundle: Bundle, name: str) -> str:
    """A property of the container's unit."""
    return systemctl("show", "--value", f"--property={name}", f"x-{bundle.id}.scope")


def own(pid: int) -> dict[str, str]:
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    return {key: path for _, keys, path in lines for key in keys.split(",")}


def read(pid: int, file: str) -> str:
    """A file of the process's cgroup, of v2 or the like of it of v1."""
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return Path(f"/sys/fs/cgroup{own(pid)['']}/{file}").read_text().strip()
    controller, name = V1[file]
    return Path(f"/sys/fs/cgroup/{controller}{own(pid)[controller]}/{name}").read_text().strip()


def is_gone(bundle: Bundle) -> bool:
    return shown(bundle, "LoadState") == "not-found"


def test_life_of_a_container(runtime: Runtime, scoped: Bundle) -> None:
    runtime.create(scoped).ok()
    pid = runtime.state(scoped.id)["pid"]
    inner = f"/ocirun.slice/ocirun-test.slice/x-{scoped.id}.scope"
    assert shown(scoped, "ActiveState") == "active"
    assert shown(scoped, "ControlGroup") == inner
    assert shown(scoped, "Delegate") == "yes"
    assert shown(scoped, "Description") == f"OCI container {scoped.id}"
    assert shown(scoped, "DefaultDependencies") == "no"
    assert set(own(pid).values()) <= {inner, "/"}
    runtime.start(scoped.id).ok()
    runtime.kill(scoped.id).ok()
    runtime.wait_status(scoped.id, "stopped")
    runtime.delete(scoped.id).ok()
    assert is_gone(scoped)


def test_run(runtime: Runtime, scoped: Bundle) -> None:
    result = runtime.run(scoped.sh("echo there; exit 3"))
    assert (result.status, result.out) == (3, "there\n")
    assert is_gone(scoped)


def test_forced_delete(runtime: Runtime, scoped: Bundle) -> None:
    runtime.create(scoped).ok()
    runtime.delete(scoped.id, "--force").ok()
    assert is_gone(scoped)


def test_a_scope_that_ended_by_itself(runtime: Runtime, scoped: Bundle) -> None:
    runtime.create(scoped).ok()
    runtime.kill(scoped.id).ok()
    wait_for(lambda: is_gone(scoped), "systemd to notice the end")
    runtime.delete(scoped.id).ok()


def test_default_path(runtime: Runtime, bundle: Bundle) -> None:
    bundle.drop("/linux/cgroupsPath").sleeper()
    runtime.create(bundle).ok()
    pid = runtime.state(bundle.id)["pid"]
    assert f"/system.slice/ocirun-{bundle.id}.scope" in own(pid).values()
    runtime.delete(bundle.id, "--force").ok()


@pytest.mark.spec("/linux/resources/memory/limit", "/linux/resources/pids/limit")
def test_limits_stay_when_systemd_reloads(runtime: Runtime, scoped: Bundle) -> None:
    scoped.set("/linux/resources/memory", {"limit": 64 * MB, "swap": 64 * MB})
    scoped.set("/linux/resources/pids", {"limit": 77})
    runtime.create(scoped).ok()
    pid = runtime.state(scoped.id)["pid"]
    for _ in range(2):
        assert read(pid, "memory.max") == str(64 * MB)
        assert read(pid, "pids.max") == "77"
        systemctl("daemon-reload")
    assert shown(scoped, "TasksMax") == "77"
    assert str(64 * MB) in (shown(scoped, "MemoryMax"), shown(scoped, "MemoryLimit"))


@pytest.mark.lab("v2", "cpuset")
@pytest.mark.spec(
    "/linux/resources/memory/reservation",
    "/linux/resources/memory/swap",
    "/linux/resources/cpu/shares",
    "/linux/resources/cpu/quota",
    "/linux/resources/cpu/period",
    "/linux/resources/cpu/cpus",
    "/linux/resources/cpu/mems",
    "/linux/resources/hugepageLimits/*/limit",
)
def test_limits_on_v2(runtime: Runtime, scoped: Bundle) -> None:
    scoped.set("/linux/resources/memory", {"limit": 64 * MB, "swap": 80 * MB, "reservation": MB})
    cpu = {"shares": 2000, "quota": 12345, "period": 50000, "cpus": "1", "mems": "0"}
    scoped.set("/linux/resources/cpu", cpu)
    scoped.set("/linux/resources/hugepageLimits", [{"pageSize": "2MB", "limit": 4 * MB}])
    runtime.create(scoped).ok()
    pid = runtime.state(scoped.id)["pid"]
    properties = {
        "MemoryMax": str(64 * MB),
        "MemorySwapMax": str(16 * MB),
        "MemoryLow": str(MB),
        "CPUWeight": "170",
        "CPUQuotaPerSecUSec": "250ms",
        "CPUQuotaPeriodUSec": "50ms",
        "AllowedCPUs": "1",
        "AllowedMemoryNodes": "0",
    }
    assert {name: shown(scoped, name) for name in properties} == properties
    files = {
        "memory.max": str(64 * MB),
        "memory.swap.max": str(16 * MB),
        "memory.low": str(MB),
        "cpu.weight": "170",
        "cpu.max": "12345 50000",
        "cpuset.cpus": "1",
        "cpuset.mems": "0",
        "hugetlb.2MB.max": str(4 * MB),
    }
    assert {name: read(pid, name) for name in files} == files


def test_device_rules(runtime: Runtime, scoped: Bundle) -> None:
    rule = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}  # fuse
    scoped.add("/linux/resources/devices", rule)
    scoped.add("/linux/devices", {"path": "/dev/it", "type": "c", "major": 10, "minor": 229})
    scoped.sh("(exec 3< /dev/it) && echo read; (exec 3> /dev/it) || echo refused")
    assert runtime.run(scoped).out.split() == ["read", "refused"]


def test_a_reload_keeps_the_device_program(runtime: Runtime, scoped: Bundle) -> None:
    """The container tries before the reload and after it; a signal tells it when."""
    scoped.add("/linux/devices", {"path": "/dev/it", "type": "c", "major": 10, "minor": 229})
    tries = "(exec 3< /dev/it) 2>/dev/null && echo open || echo refused; (exec 3< /dev/null) && echo null"
    scoped.sh(f"trap '{tries}' USR1; {tries}; while :; do sleep 0.1; done")
    created = runtime.create(scoped).ok()
    runtime.start(scoped.id).ok()
    wait_for(lambda: created.out.count("null") == 1, "the first try")
    systemctl("daemon-reload")
    runtime.kill(scoped.id, "USR1").ok()
    wait_for(lambda: created.out.count("null") == 2, "the second try")
    assert created.out.split() == ["refused", "null"] * 2


FUSE = {"type": "c", "major": 10, "minor": 229}
FULL = {"type": "c", "major": 1, "minor": 7}


def test_update_holds_when_systemd_reloads(
    runtime: Runtime, scoped: Bundle, tmp_path: Path
) -> None:
    """Limits and device rules, which take the place of all that were, by systemd's own list too."""
    rules = scoped.config["linux"]["resources"]["devices"]
    scoped.set("/linux/resources/devices", [*rules, {"allow": True, **FUSE, "access": "rw"}])
    scoped.set("/linux/resources/pids", {"limit": 77})
    scoped.set("/linux/devices", [{"path": "/dev/it", **FUSE}, {"path": "/dev/other", **FULL}])
    tries = "".join(
        f"(exec 3<{path}) 2>/dev/null && echo open || echo refused; "
        for path in ("/dev/it", "/dev/other", "/dev/null")
    )
    scoped.sh(f"trap '{tries} echo end' USR1; echo ready; while :; do sleep 0.1; done")
    created = runtime.create(scoped).ok()
    runtime.start(scoped.id).ok()
    wait_for(lambda: created.out, "the trap")

    def seen() -> list[str]:
        """What the container may open now."""
        count = created.out.count("end")
        runtime.kill(scoped.id, "USR1").ok()
        wait_for(lambda: created.out.count("end") > count, "its answer")
        return created.out.split("end")[-2].split()[-3:]

    assert seen() == ["open", "open", "open"]
    resources = tmp_path / "resources.json"
    wanted = {"pids": {"limit": 55}, "memory": {"limit": 64 * MB, "swap": 64 * MB}}
    wanted["devices"] = rules  # type: ignore[assignment]
    resources.write_text(json.dumps(wanted))
    runtime.call("update", "--resources", resources, scoped.id).ok()
    pid = runtime.state(scoped.id)["pid"]
    for _ in range(3):
        assert seen() == ["refused", "open", "open"]
        assert read(pid, "memory.max") == str(64 * MB)
        assert read(pid, "pids.max") == "55"
        systemctl("daemon-reload")
    assert shown(scoped, "TasksMax") == "55"
    assert "char/10:229" not in shown(scoped, "DeviceAllow")


def test_annotations_are_properties(runtime: Runtime, scoped: Bundle) -> None:
    prefix = "org.systemd.property."
    scoped.set("/annotations", {prefix + "TimeoutStopSec": "7", prefix + "After": "['a.service']"})
    runtime.create(scoped).ok()
    assert shown(scoped, "TimeoutStopUSec") == "7s"
    assert "a.service" in shown(scoped, "After").split()


@pytest.mark.parametrize(
    ("name", "value"), [("NoSuchThing", "true"), ("TasksMax", "'text'"), ("KillMode", "'never'")]
)
def test_a_property_that_systemd_refuses(
    runtime: Runtime, scoped: Bundle, name: str, value: str
) -> None:
    scoped.set("/annotations", {f"org.systemd.property.{name}": value})
    runtime.create(scoped).failed(
        "systemd does not make", "(org.freedesktop.DBus.Error|(System.Error"
    )
    assert runtime.containers() == []
    assert is_gone(scoped)


def test_a_unit_that_is_in_use(runtime: Runtime, scoped: Bundle) -> None:
    unit = f"x-{scoped.id}"
    other = ["systemd-run", "--quiet", "--scope", f"--unit={unit}", "sleep", "1000"]
    with subprocess.Popen(other) as sleeper:
        try:
            wait_for(lambda: shown(scoped, "ActiveState") == "active", "the other scope")
            runtime.create(scoped).failed("UnitExists", "/linux/cgroupsPath")
            assert sleeper.poll() is None
        finally:
            sleeper.kill()
    wait_for(lambda: is_gone(scoped), "the end of the other scope")
