"""`update`: other limits for a container that exists."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.limits import folder, is_v2, limit
from lib.runtime import Runtime

MB = 1 << 20


@pytest.fixture
def pid(runtime: Runtime, bundle: Bundle) -> int:
    """Init of a container that runs and has some limits."""
    return start(runtime, bundle)


def start(runtime: Runtime, bundle: Bundle, **resources: Any) -> int:
    bundle.set("/linux/resources/memory", {"limit": 64 * MB})
    bundle.set("/linux/resources/pids", {"limit": 50})
    for section, value in resources.items():
        bundle.set(f"/linux/resources/{section}", value)
    runtime.create(bundle.sleeper()).ok()
    runtime.start(bundle.id).ok()
    found: int = runtime.state(bundle.id)["pid"]
    return found


def update(runtime: Runtime, bundle: Bundle, *options: str) -> Any:
    return runtime.call("update", *options, bundle.id)


def document(bundle: Bundle, resources: Any) -> Path:
    path = bundle.path / "resources.json"
    path.write_text(resources if isinstance(resources, str) else json.dumps(resources, indent=1))
    return path


OPTIONS = [
    (("--memory", "33554432"), "memory.limit_in_bytes", str(32 * MB)),
    (("--memory-reservation", "16777216"), "memory.soft_limit_in_bytes", str(16 * MB)),
    (("--cpu-quota", "20000"), "cpu.cfs_quota_us", "20000"),
    (("--cpu-quota", "20000", "--cpu-period", "50000"), "cpu.cfs_period_us", "50000"),
    (("--cpuset-cpus", "0"), "cpuset.cpus", "0"),
    (("--cpuset-mems", "0"), "cpuset.mems", "0"),
    (("--pids-limit", "7"), "pids.max", "7"),
]


@pytest.mark.parametrize(
    ("options", "file", "wanted"), OPTIONS, ids=[row[0][0].strip("-") for row in OPTIONS]
)
def test_options(
    runtime: Runtime, bundle: Bundle, pid: int, options: tuple[str, ...], file: str, wanted: str
) -> None:
    before = limit(pid, file)
    assert before != wanted or file == "cpuset.mems"
    update(runtime, bundle, *options).ok()
    assert limit(pid, file) == wanted


def test_cpu_shares(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    update(runtime, bundle, "--cpu-share", "512").ok()
    assert limit(pid, "cpu.shares") == ("59" if is_v2() else "512")


@pytest.mark.only("ocirun", "runc")
@pytest.mark.parametrize(("text", "bytes_"), [("32M", 32), ("32mb", 32), ("33554432", 32)])
def test_sizes(runtime: Runtime, bundle: Bundle, pid: int, text: str, bytes_: int) -> None:
    update(runtime, bundle, "--memory", text).ok()
    assert limit(pid, "memory.limit_in_bytes") == str(bytes_ * MB)


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(("option", "file"), [("burst", "cpu.cfs_burst_us"), ("idle", "cpu.idle")])
def test_younger_options(
    runtime: Runtime, bundle: Bundle, pid: int, option: str, file: str
) -> None:
    """Those that the runc of this distribution does not have."""
    if not (
        folder(pid, "cpu") / ("cpu.max.burst" if is_v2() and option == "burst" else file)
    ).exists():
        pytest.skip(f"this kernel has no {file}")
    more = ("--cpu-quota", "20000") if option == "burst" else ()
    update(runtime, bundle, f"--cpu-{option}", "1", *more).ok()
    assert limit(pid, file) == "1"


def test_memory_and_swap_grow_together(runtime: Runtime, bundle: Bundle) -> None:
    """The kernel compares the two at every moment."""
    pid = start(runtime, bundle, memory={"limit": 32 * MB, "swap": 32 * MB})
    options = ("--memory", str(64 * MB), "--memory-swap", str(96 * MB))
    update(runtime, bundle, *options).ok()
    assert limit(pid, "memory.limit_in_bytes") == str(64 * MB)
    swap = 32 if is_v2() else 96
    assert limit(pid, "memory.memsw.limit_in_bytes") == str(swap * MB)


@pytest.mark.parametrize("how", ["file", "stdin", "short"])
def test_resources(runtime: Runtime, bundle: Bundle, pid: int, how: str) -> None:
    """As Podman and Docker call it."""
    resources = {"memory": {"limit": 32 * MB}, "blockIO": {"weight": 0}, "cpu": {"quota": 30000}}
    path = document(bundle, resources)
    if how == "stdin":
        if runtime.kind == "crun":
            pytest.skip("crun 1.8 reads no standard input")
        argv = runtime.argv("update", "--resources", "-", bundle.id)
        text = path.read_text()
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stderr) == (0, "")
    else:
        option = ("-r", str(path)) if how == "short" else (f"--resources={path}",)
        update(runtime, bundle, *option).ok()
    assert limit(pid, "memory.limit_in_bytes") == str(32 * MB)
    assert limit(pid, "cpu.cfs_quota_us") == "30000"
    assert limit(pid, "pids.max") == "50"


def test_second_update_knows_the_first(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    update(runtime, bundle, "--cpu-quota", "20000").ok()
    update(runtime, bundle, "--cpu-period", "50000").ok()
    assert limit(pid, "cpu.cfs_quota_us") == "20000"
    assert limit(pid, "cpu.cfs_period_us") == "50000"


@pytest.mark.only("ocirun")
def test_record_has_the_new_limits(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    bundle.config["process"]["env"] = []
    update(runtime, bundle, "--memory", "32M", "--pids-limit", "9").ok()
    config = json.loads((runtime.root / bundle.id / "config.json").read_text())
    resources = config["linux"]["resources"]
    assert (resources["memory"], resources["pids"]) == ({"limit": 32 * MB}, {"limit": 9})
    assert resources["devices"] == bundle.config["linux"]["resources"]["devices"]
    assert "quota" not in resources.get("cpu", {})
    runtime.call("exec", bundle.id, "true").ok()


@pytest.mark.only("ocirun")
def test_huge_pages_of_a_controller_that_was_not_in_use(
    runtime: Runtime, bundle: Bundle, pid: int
) -> None:
    """On a hybrid layout a container has of v2 only the controllers that it needs."""
    hierarchy = Path("/sys/fs/cgroup/unified")
    offered = hierarchy / "cgroup.controllers"
    if not offered.exists() or "hugetlb" not in offered.read_text().split():
        pytest.skip("no hybrid layout with hugetlb in v2")
    resources = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MB}]}
    update(runtime, bundle, "--resources", str(document(bundle, resources))).ok()
    own = Path("/proc", str(pid), "cgroup").read_text().split("0::")[1].strip()
    assert Path(f"{hierarchy}{own}", "hugetlb.2MB.max").read_text() == f"{4 * MB}\n"


@pytest.mark.only("ocirun")
def test_device_rules(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    """Others take the place of those that were; the same again change nothing."""
    devices = folder(pid, "devices")
    if is_v2():
        pytest.skip("which rules hold in v2 is tested in tests/root/test_cgroups_v2.py")
    rules = bundle.config["linux"]["resources"]["devices"]
    before = (devices / "devices.list").read_text()
    more = [*rules, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]
    update(runtime, bundle, "-r", str(document(bundle, {"devices": rules}))).ok()
    assert (devices / "devices.list").read_text() == before
    update(runtime, bundle, "-r", str(document(bundle, {"devices": more}))).ok()
    assert "c 10:229 rw" in (devices / "devices.list").read_text()


# What state a container must be in.


def test_created(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle.sleeper()).ok()
    update(runtime, bundle, "--pids-limit", "7").ok()
    assert limit(runtime.state(bundle.id)["pid"], "pids.max") == "7"


def test_paused(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    runtime.call("pause", bundle.id).ok()
    update(runtime, bundle, "--pids-limit", "7", "--memory", str(32 * MB)).ok()
    assert runtime.status(bundle.id) == "paused"
    assert limit(pid, "pids.max") == "7"


@pytest.mark.only("ocirun", "runc")
def test_stopped(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    runtime.kill(bundle.id)
    runtime.wait_status(bundle.id, "stopped")
    update(runtime, bundle, "--pids-limit", "7").failed("not running")


def test_unknown(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    runtime.call("update", "--pids-limit", "7", "nobody").failed("does not exist|No such file")


@pytest.mark.only("ocirun")
def test_without_cgroups(runtime: Runtime, bundle: Bundle) -> None:
    runtime.options = ("--cgroup-manager", "disabled")
    bundle.config["linux"].pop("resources")
    bundle.config["linux"].pop("cgroupsPath")
    runtime.create(bundle.sleeper()).ok()
    update(runtime, bundle, "--pids-limit", "7").failed("no cgroup")


# What is wrong with a request.


@pytest.mark.only("ocirun")
def test_all_or_nothing(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    """The last of three limits is refused by the kernel; the others are taken back."""
    options = ("--memory", "32M", "--memory-reservation", "8M", "--cpu-quota", "1")
    before = {name: limit(pid, name) for _, name, _ in OPTIONS}
    done = update(runtime, bundle, *options, "--pids-limit", "7").failed("cpu", "invalid argument")
    assert "asked by: the command line --cpu-quota\n" in done.err
    assert done.err.endswith("; nothing has changed\n")
    assert {name: limit(pid, name) for _, name, _ in OPTIONS} == before
    config = json.loads((runtime.root / bundle.id / "config.json").read_text())
    assert config["linux"]["resources"]["memory"] == {"limit": 64 * MB}


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"memory": {"limit": "much"}}, "resources.json:3:12 /memory/limit: found the string"),
        ({"cpu": {"quota": 1}}, "asked by: {path}:3:12 /cpu/quota\n"),
        ({"cpu": {"cpus": "700"}}, "asked by: {path}:3:11 /cpu/cpus\n"),
        ({"rdma": {"x": {}}}, "resources.json:3:8 /rdma/x: "),
        ("{", "resources.json:1:2: "),
        ("[]", "resources.json"),
        ("5", "resources.json"),
    ],
)
def test_where_it_is_wrong(
    runtime: Runtime, bundle: Bundle, pid: int, resources: Any, words: str
) -> None:
    limit(pid, "cpuset.cpus")
    path = document(bundle, resources)
    done = update(runtime, bundle, "--resources", str(path)).failed()
    assert words.format(path=path) in done.err
    assert "config.json" not in done.err


def test_no_such_file(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    update(runtime, bundle, "--resources", "/no/such/file").failed("no such file")


@pytest.mark.only("ocirun", "runc")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("memory", "much"),
        ("memory", "1.x"),
        ("memory-swap", "-2"),
        ("cpu-quota", "1.5"),
        ("cpu-period", "-5"),
        ("cpu-share", "x"),
        ("cpu-rt-runtime", ""),
        ("pids-limit", "many"),
    ],
)
def test_bad_value(runtime: Runtime, bundle: Bundle, pid: int, option: str, value: str) -> None:
    done = update(runtime, bundle, f"--{option}={value}")
    if value:
        done.failed("invalid value")
    else:
        done.ok()  # as if it were not there


@pytest.mark.only("ocirun")
def test_limit_above_the_old_one_of_swap(runtime: Runtime, bundle: Bundle) -> None:
    pid = start(runtime, bundle, memory={"limit": 32 * MB, "swap": 32 * MB})
    done = update(runtime, bundle, "--memory", "64M").failed("memory and swap")
    assert "asked by: the command line --memory\n" in done.err
    assert limit(pid, "memory.limit_in_bytes") == str(32 * MB)


@pytest.mark.parametrize("option", ["--l3-cache-schema", "--mem-bw-schema"])
@pytest.mark.only("ocirun", "runc")
def test_no_resctrl(runtime: Runtime, bundle: Bundle, pid: int, option: str) -> None:
    if " - resctrl " in Path("/proc/self/mountinfo").read_text():
        pytest.skip("resctrl is mounted here")
    update(runtime, bundle, option, "L3:0=f").failed("resctrl|not enabled")


@pytest.mark.only("ocirun", "runc")
def test_kernel_memory_is_ignored(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    before = limit(pid, "memory.limit_in_bytes")
    update(runtime, bundle, "--kernel-memory", "5M", "--kernel-memory-tcp", "5M").ok()
    assert limit(pid, "memory.limit_in_bytes") == before


@pytest.mark.only("ocirun")
def test_full_disk(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    """Who cannot note the new limits says so."""
    state = runtime.root / bundle.id
    (state / "config.json.new").mkdir()
    try:
        update(runtime, bundle, "--pids-limit", "7").failed("config.json")
    finally:
        os.rmdir(state / "config.json.new")
