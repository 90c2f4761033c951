"""When and where the process runs: scheduler, ioPriority, memoryPolicy, execCPUAffinity.

The probe asks the kernel. Labels of security modules are here too, which this kernel may lack.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime

NICE = {"policy": "SCHED_OTHER", "nice": 7}
RT_GROUPS = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")
SCHEDULER = "/process/scheduler"


def scheduled(report: Any) -> list[int]:
    """[policy, flags, nice, priority], and the three times if it is SCHED_DEADLINE."""
    found: list[int] = report["scheduler"]
    return found if found[0] == 6 else found[:4]


def grant_realtime(bundle: Bundle) -> None:
    """In v1 cgroups with groups of real-time processes a cgroup begins without any time."""
    if RT_GROUPS.exists():
        above = RT_GROUPS.parent / "ocirun-test"
        above.mkdir(exist_ok=True)
        (above / RT_GROUPS.name).write_text("100000")
        bundle.set("/linux/resources/cpu", {"realtimeRuntime": 50000})


@pytest.mark.only("ocirun")
@pytest.mark.spec(
    "/process/scheduler",
    "/process/scheduler/policy",
    "/process/scheduler/nice",
    "/process/scheduler/priority",
    "/process/scheduler/flags",
    "/process/scheduler/flags/*",
    "/process/scheduler/runtime",
    "/process/scheduler/deadline",
    "/process/scheduler/period",
)
@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        (NICE, [0, 0, 7, 0]),
        ({"policy": "SCHED_OTHER", "nice": -5}, [0, 0, -5, 0]),
        ({"policy": "SCHED_BATCH", "nice": 19}, [3, 0, 19, 0]),
        ({"policy": "SCHED_IDLE"}, [5, 0, 0, 0]),
        ({"policy": "SCHED_FIFO", "priority": 7}, [1, 0, 0, 7]),
        ({"policy": "SCHED_RR", "priority": 99}, [2, 0, 0, 99]),
        (
            {"policy": "SCHED_RR", "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            [2, 1, 0, 1],
        ),
        ({**NICE, "flags": ["SCHED_FLAG_KEEP_PARAMS"]}, [0, 0, 0, 0]),
        ({"policy": "SCHED_IDLE", "flags": ["SCHED_FLAG_KEEP_POLICY"]}, [0, 0, 0, 0]),
        (
            {
                "policy": "SCHED_DEADLINE",
                "runtime": 1_000_000,
                "deadline": 20_000_000,
                "period": 100_000_000,
                "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"],
            },
            [6, 6, 0, 0, 1_000_000, 20_000_000, 100_000_000],
        ),
        (
            {"policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 20_000_000},
            [6, 0, 0, 0, 2_000_000, 20_000_000, 20_000_000],
        ),
    ],
    ids=lambda value: value["policy"] if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("uid", [0, 1000])
def test_scheduler(
    runtime: Runtime, bundle: Bundle, wanted: dict[str, Any], seen: list[int], uid: int
) -> None:
    if wanted["policy"] in ("SCHED_FIFO", "SCHED_RR"):
        grant_realtime(bundle)
    bundle.set(SCHEDULER, wanted).set("/process/user/uid", uid)
    assert scheduled(runtime.probe(bundle)) == seen


@pytest.mark.only("ocirun")
@pytest.mark.spec("/process/scheduler/policy", "/process/scheduler/flags/*")
@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"policy": "SCHED_ISO"}, ["/process/scheduler/policy", "no SCHED_ISO", "sched(7)"]),
        ({"policy": "SCHED_NONSENSE"}, ["/process/scheduler/policy", "expected one of"]),
        ({"policy": "SCHED_FIFO"}, ["/process/scheduler/priority", "1 to 99"]),
        ({"policy": "SCHED_RR", "priority": 5, "nice": 1}, ["/process/scheduler/nice", "without"]),
        ({"policy": "SCHED_OTHER", "runtime": 5}, ["/process/scheduler/runtime", "without effect"]),
        ({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"]}, ["/process/scheduler/flags/0"]),
        (
            {"policy": "SCHED_DEADLINE", "runtime": 10**18, "deadline": 10**18},
            ["/process/scheduler", "sched_setattr(SCHED_DEADLINE", "EINVAL", "period_max_us"],
        ),
    ],
    ids=lambda value: value["policy"] if isinstance(value, dict) else "",
)
def test_scheduler_that_cannot_be(
    runtime: Runtime, bundle: Bundle, wanted: dict[str, Any], words: list[str]
) -> None:
    runtime.run(bundle.set(SCHEDULER, wanted)).failed(*words)
    assert runtime.containers() == []


@pytest.mark.only("ocirun")
@pytest.mark.spec("/process/scheduler/flags/*")
@pytest.mark.parametrize("flag", ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"])
def test_utilization_clamps(runtime: Runtime, bundle: Bundle, flag: str) -> None:
    """Taken to the kernel; one that is built without them says so."""
    bundle.set(SCHEDULER, {**NICE, "flags": [flag]})
    if Path("/proc/sys/kernel/sched_util_clamp_min").exists():
        assert scheduled(runtime.probe(bundle))[1] & 0x60
    else:
        runtime.run(bundle).failed(flag, "ENOTSUP", "CONFIG_UCLAMP_TASK")


@pytest.mark.only("ocirun")
def test_real_time_without_privilege(runtime: Runtime, bundle: Bundle) -> None:
    """The privilege is the host's: root of a user namespace does not have it."""
    bundle.user_namespace().set(SCHEDULER, {"policy": "SCHED_FIFO", "priority": 1})
    runtime.run(bundle).failed("sched_setattr(SCHED_FIFO", "EPERM", "CAP_SYS_NICE")
    assert runtime.probe(bundle.set(SCHEDULER, NICE))["scheduler"][2] == 7


@pytest.mark.only("ocirun")
def test_hook_of_a_deadline_process(runtime: Runtime, bundle: Bundle) -> None:
    """Such a process cannot fork (sched(7)), so it would fail later, and less clearly."""
    bundle.set("/hooks/startContainer", [{"path": "/bin/true"}])
    wanted = {"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 20_000_000}
    runtime.run(bundle.set(SCHEDULER, wanted)).failed("/hooks/startContainer", "RESET_ON_FORK")
    runtime.run(bundle.set(f"{SCHEDULER}/flags", ["SCHED_FLAG_RESET_ON_FORK"])).ok()


@pytest.mark.only("ocirun")
@pytest.mark.spec(
    "/process/ioPriority", "/process/ioPriority/class", "/process/ioPriority/priority"
)
@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize(
    ("name", "number"), [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)]
)
@pytest.mark.parametrize("priority", [0, 5, 7, None])
def test_io_priority(
    runtime: Runtime, bundle: Bundle, name: str, number: int, priority: int | None, uid: int
) -> None:
    wanted = {"class": name} | ({} if priority is None else {"priority": priority})
    bundle.set("/process/ioPriority", wanted).set("/process/user/uid", uid)
    assert runtime.probe(bundle)["ioprio"] == number << 13 | (priority or 0)


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"class": "IOPRIO_CLASS_BE", "priority": 8}, "/process/ioPriority/priority"),
        ({"class": "IOPRIO_CLASS_BE", "priority": -1}, "/process/ioPriority/priority"),
        ({"class": "IOPRIO_CLASS_NONE"}, "/process/ioPriority/class"),
        ({"priority": 1}, "/process/ioPriority"),
    ],
)
def test_io_priority_that_is_none(
    runtime: Runtime, bundle: Bundle, wanted: dict[str, Any], pointer: str
) -> None:
    runtime.run(bundle.set("/process/ioPriority", wanted)).failed(pointer)


@pytest.mark.only("ocirun")
@pytest.mark.spec(
    "/linux/memoryPolicy",
    "/linux/memoryPolicy/mode",
    "/linux/memoryPolicy/nodes",
    "/linux/memoryPolicy/flags",
    "/linux/memoryPolicy/flags/*",
)
@pytest.mark.parametrize(
    ("mode", "nodes", "flags", "seen"),
    [
        ("MPOL_DEFAULT", None, [], [0, 0]),
        ("MPOL_LOCAL", None, [], [4, 0]),
        ("MPOL_PREFERRED", None, [], [4, 0]),  # an empty set means local (set_mempolicy(2))
        ("MPOL_PREFERRED", "0", [], [1, 1]),
        ("MPOL_BIND", "0", [], [2, 1]),
        ("MPOL_INTERLEAVE", "0", [], [3, 1]),
        ("MPOL_PREFERRED_MANY", "0", [], [5, 1]),
        ("MPOL_WEIGHTED_INTERLEAVE", "0", [], [6, 1]),
        ("MPOL_BIND", "0", ["MPOL_F_STATIC_NODES"], [2 | 1 << 15, 1]),
        ("MPOL_BIND", "0-1", ["MPOL_F_RELATIVE_NODES"], [2 | 1 << 14, 3]),
        ("MPOL_BIND", "0", ["MPOL_F_NUMA_BALANCING"], [2 | 1 << 13, 1]),
    ],
)
def test_memory_policy(
    runtime: Runtime,
    bundle: Bundle,
    mode: str,
    nodes: str | None,
    flags: list[str],
    seen: list[int],
) -> None:
    wanted = {"mode": mode} | ({} if nodes is None else {"nodes": nodes})
    bundle.set("/linux/memoryPolicy", wanted | ({"flags": flags} if flags else {}))
    if not kernel_takes(*seen):
        pytest.skip(f"this kernel does not know {mode} {flags}")
    assert runtime.run(bundle).ok().json["mempolicy"] == seen


def kernel_takes(mode: int, nodes: int) -> bool:
    """Whether the kernel knows a memory policy, which is of a newer Linux perhaps."""
    number = {"x86_64": 238, "aarch64": 237}[platform.machine()]
    code = "import ctypes, sys; n = ctypes.c_ulong(int(sys.argv[3])); sys.exit(-ctypes.CDLL(None)"
    code += ".syscall(int(sys.argv[1]), int(sys.argv[2]), ctypes.byref(n) if n else None, 65))"
    argv = [sys.executable, "-c", code, str(number), str(mode), str(nodes)]
    return subprocess.run(argv, timeout=20).returncode == 0


@pytest.mark.only("ocirun")
@pytest.mark.spec("/linux/memoryPolicy/nodes", "/linux/memoryPolicy/flags/*")
@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"mode": "MPOL_BIND"}, ["/linux/memoryPolicy/nodes", "missing"]),
        ({"mode": "MPOL_BIND", "nodes": "0-"}, ["/linux/memoryPolicy/nodes", "neither"]),
        ({"mode": "MPOL_BIND", "nodes": "99999"}, ["/linux/memoryPolicy/nodes", "1023"]),
        ({"mode": "MPOL_LOCAL", "nodes": "0"}, ["/linux/memoryPolicy/nodes", "refuses"]),
        ({"nodes": "0"}, ["/linux/memoryPolicy/mode", "missing"]),
        ({"mode": "MPOL_X"}, ["/linux/memoryPolicy/mode", "expected one of"]),
        ({"mode": "MPOL_LOCAL", "flags": ["MPOL_F_X"]}, ["/linux/memoryPolicy/flags/0"]),
        (
            {"mode": "MPOL_INTERLEAVE", "nodes": "1000"},
            ["set_mempolicy(MPOL_INTERLEAVE", "EINVAL", "/linux/memoryPolicy", "node/online"],
        ),
    ],
)
def test_memory_policy_that_cannot_be(
    runtime: Runtime, bundle: Bundle, wanted: dict[str, Any], words: list[str]
) -> None:
    runtime.run(bundle.set("/linux/memoryPolicy", wanted)).failed(*words)
    assert runtime.containers() == []


@pytest.mark.only("ocirun")
@pytest.mark.spec(
    "/process/execCPUAffinity", "/process/execCPUAffinity/initial", "/process/execCPUAffinity/final"
)
@pytest.mark.parametrize("uid", [0, 1000])
def test_affinity_is_for_exec(runtime: Runtime, bundle: Bundle, uid: int) -> None:
    """Not for init: its CPUs are those of its cgroup. `explain` says so."""
    every = len(os.sched_getaffinity(0))
    bundle.set("/process/execCPUAffinity", {"initial": f"0-{every - 1}", "final": "0"})
    bundle.set("/process/user/uid", uid)
    assert runtime.probe(bundle)["cpus"] == every
    runtime.create(bundle.sleeper()).ok()
    runtime.start(bundle.id).ok()
    assert runtime.call("exec", bundle.id, "/bin/probe").ok().json["cpus"] == 1
    said = runtime.call("explain", bundle.path).ok().out
    assert "ocirun exec" in said
    assert "/process/execCPUAffinity/initial" in said
    assert "/process/execCPUAffinity/final" in said


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("text", ["0-", "x", "2-1", "0,,1", "99999", "0;1"])
def test_affinity_that_is_no_list(runtime: Runtime, bundle: Bundle, text: str) -> None:
    bundle.set("/process/execCPUAffinity", {"final": text})
    runtime.run(bundle).failed("/process/execCPUAffinity/final")


def module_is_active(name: str) -> bool:
    paths = {
        "apparmor": "/sys/module/apparmor/parameters/enabled",
        "selinux": "/sys/fs/selinux/enforce",
    }
    return Path(paths[name]).exists()


@pytest.mark.spec("/process/apparmorProfile", "/process/selinuxLabel")
@pytest.mark.parametrize(
    ("name", "value", "module"),
    [
        ("apparmorProfile", "some-profile", "apparmor"),
        ("apparmorProfile", "unconfined", "apparmor"),
        ("selinuxLabel", "system_u:system_r:container_t:s0", "selinux"),
    ],
)
def test_label_of_a_module_that_is_not_there(
    runtime: Runtime, bundle: Bundle, name: str, value: str, module: str
) -> None:
    if module_is_active(module):
        pytest.skip(f"needs a kernel without {module}")
    runtime.run(bundle.set(f"/process/{name}", value)).failed()
    assert runtime.containers() == []
    if runtime.kind == "ocirun":
        runtime.run(bundle).failed(f"/process/{name}", "not enabled on this machine", "hint:")


@pytest.mark.parametrize("name", ["apparmorProfile", "selinuxLabel"])
def test_empty_label_is_none(runtime: Runtime, bundle: Bundle, name: str) -> None:
    bundle.sh("cat /proc/self/attr/current 2>&1; echo $?")
    without = runtime.run(bundle).ok().out
    assert runtime.run(bundle.set(f"/process/{name}", "")).ok().out == without
