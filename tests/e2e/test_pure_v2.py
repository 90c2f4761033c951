"""Containers on a pure v2 hierarchy with all its controllers: what they see, how they end. For the labs."""

import os
from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.leaks import end
from lib.runtime import Runtime

import ocirun

pytestmark = pytest.mark.lab("v2")

TOP = Path("/sys/fs/cgroup")
MB = 1 << 20
EATER = "tail -c 100000000 /dev/zero > /dev/null"


def folder_of(bundle: Bundle) -> Path:
    return TOP / "ocirun-test" / bundle.id


def test_limits_of_a_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/resources/memory", {"limit": 64 * MB, "swap": 80 * MB})
    bundle.set("/linux/resources/cpu", {"shares": 512, "quota": 20000, "period": 100000})
    bundle.set("/linux/resources/pids", {"limit": 50})
    bundle.set("/linux/resources/unified", {"memory.high": str(48 * MB)})
    runtime.create(bundle.sleeper()).ok()
    cgroup = folder_of(bundle)
    assert {
        name: (cgroup / name).read_text().strip()
        for name in ("memory.max", "memory.swap.max", "memory.high", "cpu.max", "pids.max")
    } == {
        "memory.max": str(64 * MB),
        "memory.swap.max": str(16 * MB),
        "memory.high": str(48 * MB),
        "cpu.max": "20000 100000",
        "pids.max": "50",
    }
    assert (cgroup / "cgroup.procs").read_text().split() == [str(runtime.state(bundle.id)["pid"])]
    runtime.delete(bundle.id, "--force").ok()
    assert not cgroup.exists()


def test_out_of_memory(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/resources/memory", {"limit": 16 * MB, "swap": 16 * MB})
    assert runtime.run(bundle.sh(f"exec {EATER}")).status == 137


@pytest.mark.only("ocirun")
def test_the_library_says_out_of_memory(tmp_path: Path, bundle: Bundle) -> None:
    bundle.set("/linux/resources/memory", {"limit": 16 * MB, "swap": 16 * MB})
    with ocirun.Runtime(tmp_path / "state") as rt:
        done = rt.run(bundle.sh(f"{EATER}; exit 3").write())
        assert (done.exit_status, done.oom_killed) == (3, True)
        done = rt.run(bundle.sh("exit 4").write())
        assert (done.exit_status, done.oom_killed) == (4, False)


def test_too_many_processes(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/resources/pids", {"limit": 3})
    result = runtime.run(bundle.sh("for i in 1 2 3 4; do sleep 0.3 & done; wait"))
    assert "can't fork" in result.err


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (None, "/{id}"),
        ("some/{id}", "/some/{id}"),
        ("/ocirun-test/{id}/a/b", "/ocirun-test/{id}/a/b"),
    ],
    ids=["none", "relative", "nested"],
)
def test_path(runtime: Runtime, bundle: Bundle, path: str | None, wanted: str) -> None:
    if path:
        bundle.set("/linux/cgroupsPath", path.format(id=bundle.id))
    else:
        bundle.drop("/linux/cgroupsPath")
    runtime.create(bundle.sleeper()).ok()
    pid = runtime.state(bundle.id)["pid"]
    own = Path("/proc/self/cgroup").read_text().strip().removeprefix("0::")
    above_own = own.rpartition("/")[0] if path != "/" and not (path or "").startswith("/") else ""
    wanted = above_own + wanted.format(id=bundle.id)
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::{wanted}\n"
    runtime.delete(bundle.id, "--force").ok()
    cgroup = Path(f"{TOP}{wanted}")
    assert not cgroup.exists()
    for above in cgroup.parents:  # those are not the container's
        if bundle.id in str(above) or above.name == "some":
            above.rmdir()


@pytest.mark.parametrize("user", [False, True], ids=["host-user", "user-namespace"])
@pytest.mark.parametrize("namespace", [True, False], ids=["cgroup-namespace", "shared"])
def test_view(runtime: Runtime, bundle: Bundle, namespace: bool, user: bool) -> None:
    """The leak check sees besides that the host's own mount keeps its options."""
    if user:
        bundle.user_namespace()
    if namespace:
        bundle.namespace("cgroup")
    name = "" if namespace else f"/ocirun-test/{bundle.id}"
    own = "" if user else name  # without namespaces, all is seen, as with runc
    bundle.set("/linux/resources/pids", {"limit": 77})
    bundle.sh(
        "cat /proc/self/cgroup; grep ' /sys/fs/cgroup ' /proc/mounts;"
        f"cat /sys/fs/cgroup{own}/pids.max; mkdir /sys/fs/cgroup{own}/x || echo refused"
    )
    lines = runtime.run(bundle).out.splitlines()
    assert lines[0] == f"0::{name or '/'}"
    assert lines[1].split()[2] == "cgroup2"
    assert "ro" in lines[1].split()[3].split(",")
    assert lines[2:] == ["77", "refused"]


@pytest.mark.parametrize("user", [False, True], ids=["host-user", "user-namespace"])
def test_exec_has_the_view(runtime: Runtime, bundle: Bundle, user: bool) -> None:
    """With nsdelegate, as systemd mounts it, nobody moves from outside of a cgroup namespace into it."""
    bundle.namespace("cgroup")
    if user:
        bundle.user_namespace()
    runtime.create(bundle.sleeper()).ok()
    runtime.start(bundle.id).ok()
    done = runtime.call("exec", bundle.id, "cat", "/proc/self/cgroup").ok()
    assert done.out == "0::/\n"
    runtime.delete(bundle.id, "--force").ok()


def test_cgroups_that_the_container_made_go_with_it(runtime: Runtime, bundle: Bundle) -> None:
    bundle.namespace("cgroup")
    next(m for m in bundle.config["mounts"] if m["type"] == "cgroup")["options"].remove("ro")
    bundle.sh(
        "mkdir -p /sys/fs/cgroup/a/b /sys/fs/cgroup/c && echo $$ > /sys/fs/cgroup/c/cgroup.procs &&"
        "echo +pids > /sys/fs/cgroup/cgroup.subtree_control && echo ready && exec sleep 1000"
    )
    created = runtime.create(bundle).ok()
    runtime.start(bundle.id).ok()
    while created.out != "ready\n":
        assert runtime.status(bundle.id) == "running", created.err
    assert (folder_of(bundle) / "c/pids.max").exists()
    runtime.delete(bundle.id, "--force").ok()
    assert not folder_of(bundle).exists()


def test_one_that_is_there_and_empty(runtime: Runtime, bundle: Bundle) -> None:
    folder_of(bundle).mkdir(parents=True)
    bundle.set("/linux/resources/pids", {"limit": 9})
    runtime.create(bundle.sleeper()).ok()
    assert (folder_of(bundle) / "pids.max").read_text() == "9\n"
    runtime.delete(bundle.id, "--force").ok()
    assert not folder_of(bundle).exists()


@pytest.mark.only("ocirun")
def test_one_with_processes(runtime: Runtime, bundle: Bundle) -> None:
    cgroup = folder_of(bundle)
    cgroup.mkdir(parents=True)
    pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    (cgroup / "cgroup.procs").write_text(str(pid))
    runtime.create(bundle.sleeper()).failed("not empty")
    assert (cgroup / "cgroup.procs").read_text() == f"{pid}\n"
    assert runtime.containers() == []
    end(pid)
    cgroup.rmdir()


def test_all_of_its_processes_are_killed(runtime: Runtime, bundle: Bundle) -> None:
    bundle.drop_namespace("pid").sh("(setsid sleep 1000 &); (setsid sleep 1000 &); exec sleep 1000")
    runtime.create(bundle).ok()
    runtime.start(bundle.id).ok()
    procs = folder_of(bundle) / "cgroup.procs"
    while len(procs.read_text().split()) < 3:
        assert runtime.status(bundle.id) == "running"
    runtime.delete(bundle.id, "--force").ok()
    assert not folder_of(bundle).exists()


def test_devices(runtime: Runtime, bundle: Bundle) -> None:
    """c 1:11 is /dev/kmsg."""
    bundle.add("/linux/devices", {"path": "/dev/it", "type": "c", "major": 1, "minor": 11})
    bundle.sh("(exec 3< /dev/it) && echo read; (exec 3> /dev/it) && echo written; : > /dev/null")
    assert runtime.run(bundle).out.split() == []
    rule = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}
    bundle.add("/linux/resources/devices", rule)
    assert runtime.run(bundle).out.split() == ["written"]
