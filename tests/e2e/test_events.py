"""`events`: what a container uses, when it runs out of memory, its end. crun has no such command."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.limits import folder, is_v2, limit
from lib.runtime import Runtime, wait_for
from lib.terminal import Terminal

pytestmark = pytest.mark.only("ocirun", "runc")

MB = 1 << 20
EATER = "tail -c 100000000 /dev/zero > /dev/null"


@pytest.fixture
def pid(runtime: Runtime, bundle: Bundle) -> int:
    """Init of a container that runs and has some limits."""
    bundle.set("/linux/resources/memory", {"limit": 64 * MB})
    bundle.set("/linux/resources/pids", {"limit": 50})
    bundle.sh("i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; exec sleep 1000")
    runtime.create(bundle).ok()
    runtime.start(bundle.id).ok()
    found: int = runtime.state(bundle.id)["pid"]
    wait_for(lambda: Path(f"/proc/{found}/comm").read_text() == "sleep\n", "the work's end")
    return found


def stats(runtime: Runtime, bundle: Bundle) -> Any:
    done = runtime.call("events", "--stats", bundle.id).ok()
    assert done.out.count("\n") == 1
    event = done.json
    assert (event["type"], event["id"]) == ("stats", bundle.id)
    return event["data"]


def test_members(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    """Those that containerd and Docker look for."""
    data = stats(runtime, bundle)
    assert {"cpu", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"} <= set(
        data
    )
    assert {"kernel", "user", "total"} <= set(data["cpu"]["usage"])
    assert {"usage", "swap", "kernel", "kernelTCP", "raw"} <= set(data["memory"])
    for name in ("usage", "swap", "kernel", "kernelTCP"):
        assert {"limit", "failcnt"} <= set(data["memory"][name])
    assert data["network_interfaces"] is None


def test_memory(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    memory = stats(runtime, bundle)["memory"]
    current = "memory.current" if is_v2() else "memory.usage_in_bytes"
    used = int((folder(pid, "memory") / current).read_text())
    assert memory["usage"]["limit"] == 64 * MB
    assert abs(memory["usage"]["usage"] - used) <= MB
    assert memory["raw"]["anon" if is_v2() else "rss"] > 0


def test_cpu(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    usage = stats(runtime, bundle)["cpu"]["usage"]
    ticks = sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    own = ticks * 10**9 // os.sysconf("SC_CLK_TCK")
    assert own > 0
    assert abs(usage["total"] - own) < 10**9
    if not is_v2():
        assert sum(usage["percpu"]) == usage["total"]


def test_pids(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    limit(pid, "pids.max")
    assert stats(runtime, bundle)["pids"] == {"current": 1, "limit": 50}


def test_cpuset(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    if is_v2():
        pytest.skip("of v2 nothing is told")
    limit(pid, "cpuset.cpus")
    cpuset = stats(runtime, bundle)["cpuset"]
    assert cpuset["cpus"] == sorted(os.sched_getaffinity(pid))
    assert cpuset["mems"][0] == 0
    assert cpuset["sched_load_balance"] == 1


def test_throttling(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/resources/cpu", {"quota": 2000, "period": 10000})
    runtime.create(bundle.sh("while :; do :; done")).ok()
    runtime.start(bundle.id).ok()
    limit(runtime.state(bundle.id)["pid"], "cpu.cfs_quota_us")
    throttling = wait_for(lambda: stats(runtime, bundle)["cpu"]["throttling"], "throttling")
    assert throttling["periods"] >= throttling.get("throttledPeriods", 0)
    wait_for(lambda: stats(runtime, bundle)["cpu"]["throttling"].get("throttledTime"), "time")


def test_block_io(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    """Rows of devices, as the kernel's own file has them."""
    blkio = stats(runtime, bundle)["blkio"]
    for rows in blkio.values():
        for row in rows if isinstance(rows, list) else ():
            assert set(row) <= {"major", "minor", "op", "value"}
            assert row.get("op", "Read") in {"Read", "Write", "Sync", "Async", "Discard", "Total"}


@pytest.mark.only("ocirun")
def test_huge_pages(runtime: Runtime, bundle: Bundle) -> None:
    """A controller of v2 beside those of v1."""
    hierarchy = Path("/sys/fs/cgroup/unified")
    offered = hierarchy / "cgroup.controllers"
    if not offered.exists() or "hugetlb" not in offered.read_text().split():
        pytest.skip("no hybrid layout with hugetlb in v2")
    bundle.set("/linux/resources/hugepageLimits", [{"pageSize": "2MB", "limit": 4 * MB}])
    runtime.create(bundle.sleeper()).ok()
    assert stats(runtime, bundle)["hugetlb"]["2MB"] == {"failcnt": 0}


# Events, one a line.


def follow(runtime: Runtime, bundle: Bundle, interval: str) -> subprocess.Popen[bytes]:
    return runtime.popen("events", "--interval", interval, bundle.id, stdout=subprocess.PIPE)


@pytest.fixture
def following(runtime: Runtime, bundle: Bundle, pid: int) -> Iterator[subprocess.Popen[bytes]]:
    process = follow(runtime, bundle, "50ms")
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_interval(runtime: Runtime, bundle: Bundle, following: subprocess.Popen[bytes]) -> None:
    """Statistics until the container is deleted, and then the end."""
    assert following.stdout is not None
    first, second = (json.loads(following.stdout.readline()) for _ in range(2))
    assert (first["type"], first["id"]) == (second["type"], second["id"]) == ("stats", bundle.id)
    runtime.delete(bundle.id, "--force").ok()
    assert following.wait(10) == 0
    assert all(json.loads(line)["type"] in ("stats", "oom") for line in following.stdout)


def test_out_of_memory(runtime: Runtime, bundle: Bundle) -> None:
    """Once for each time, while the container goes on."""
    bundle.set("/linux/resources/memory", {"limit": 16 * MB, "swap": 16 * MB})
    bundle.mount("/tmp", "tmpfs", "tmpfs")
    bundle.sh(f"while :; do [ -e /tmp/eat ] && {{ rm /tmp/eat; {EATER}; }}; sleep 0.05; done")
    runtime.create(bundle).ok()
    runtime.start(bundle.id).ok()
    pid = runtime.state(bundle.id)["pid"]
    folder(pid, "memory")
    eat = Path(f"/proc/{pid}/root/tmp/eat")
    wait_for(eat.parent.is_dir, "the container's root")
    process = follow(runtime, bundle, "1h")
    assert process.stdout is not None
    try:
        opened = Path(f"/proc/{process.pid}/fd")
        files = ("memory.oom_control", "memory.events", "inotify")
        wait_for(lambda: any(name in links(opened) for name in files), "the watch")
        for _ in range(2):
            eat.touch()
            event = json.loads(process.stdout.readline())
            assert (event["type"], event["id"]) == ("oom", bundle.id)
            assert "data" not in event
        assert runtime.status(bundle.id) == "running"
        runtime.delete(bundle.id, "--force").ok()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def links(folder_of_descriptors: Path) -> str:
    """What the descriptors of a process are, in one text."""
    found = []
    for path in folder_of_descriptors.iterdir():
        try:
            found.append(os.readlink(path))
        except OSError:
            continue
    return " ".join(found)


@pytest.mark.only("ocirun")
def test_the_end_is_enough(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    """Nobody needs to delete the container. runc waits for the end of its cgroup."""
    process = follow(runtime, bundle, "1h")
    assert process.stdout is not None
    wait_for(lambda: "pidfd" in links(Path(f"/proc/{process.pid}/fd")), "the watch")
    runtime.kill(bundle.id)
    assert process.wait(10) == 0
    assert process.stdout.read() == b""
    process.stdout.close()


@pytest.mark.parametrize("interval", ["0s", "-1s", "soon", "5", "", "1x", "s"])
def test_bad_interval(runtime: Runtime, bundle: Bundle, pid: int, interval: str) -> None:
    runtime.call("events", f"--interval={interval}", bundle.id).failed("duration|invalid")


@pytest.mark.only("ocirun")
def test_nobody_reads(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    process = follow(runtime, bundle, "10ms")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(10) == 141


def test_stopped(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    runtime.kill(bundle.id)
    runtime.wait_status(bundle.id, "stopped")
    runtime.call("events", "--stats", bundle.id).failed("not running")
    runtime.call("events", bundle.id).failed("not running")


def test_unknown(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    runtime.call("events", "--stats", "nobody").failed("does not exist")


@pytest.mark.only("ocirun")
def test_without_cgroups(runtime: Runtime, bundle: Bundle) -> None:
    runtime.options = ("--cgroup-manager", "disabled")
    bundle.config["linux"].pop("resources")
    bundle.config["linux"].pop("cgroupsPath")
    runtime.create(bundle.sleeper()).ok()
    data = stats(runtime, bundle)
    assert (data["pids"], data["blkio"], data["hugetlb"]) == ({}, {}, {})
    assert data["memory"]["usage"] == {"limit": 0, "failcnt": 0}


@pytest.mark.only("ocirun")
def test_table_on_a_terminal(runtime: Runtime, bundle: Bundle, pid: int) -> None:
    with Terminal() as terminal:
        terminal.resize(24, 120)
        terminal.spawn(runtime.argv("events", "--interval", "50ms", bundle.id))
        terminal.read_until(b"0.0 %")
        runtime.delete(bundle.id, "--force").ok()
        assert terminal.wait() == 0
        for word in (b"MEMORY", b"OUT OF MEMORY", b"64.0 MiB", bundle.id.encode()):
            assert word in terminal.seen
