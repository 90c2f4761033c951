"""Namespaces: new ones of all eight kinds, and joining existing ones by path."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for

# name in config.json -> name under /proc/PID/ns
KINDS = {
    "cgroup": "cgroup",
    "ipc": "ipc",
    "mount": "mnt",
    "network": "net",
    "pid": "pid",
    "time": "time",
    "user": "user",
    "uts": "uts",
}


def own(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


def inner(runtime: Runtime, bundle: Bundle) -> dict[str, str]:
    """The namespaces that the container's process sees itself in."""
    found: dict[str, str] = runtime.probe(bundle)["ns"]
    return found


@pytest.mark.parametrize("name", KINDS)
def test_new(runtime: Runtime, bundle: Bundle, name: str) -> None:
    if name == "user":
        bundle.user_namespace()
    else:
        bundle.namespace(name)
    assert inner(runtime, bundle)[KINDS[name]] != own(KINDS[name])


@pytest.mark.parametrize("name", ["cgroup", "ipc", "network", "pid", "time", "user", "uts"])
def test_shared_with_the_host(runtime: Runtime, bundle: Bundle, name: str) -> None:
    bundle.drop_namespace(name)
    if name == "uts":
        bundle.drop("/hostname")
    if name == "ipc":
        bundle.drop_mount("/dev/mqueue")
    assert inner(runtime, bundle)[KINDS[name]] == own(KINDS[name])


def test_all_new_at_once(runtime: Runtime, bundle: Bundle) -> None:
    bundle.user_namespace().namespace("cgroup")
    seen = inner(runtime, bundle)
    assert [k for k in seen if seen[k] == own(k)] == ["time"]


def test_all_eight_new_at_once(runtime: Runtime, bundle: Bundle) -> None:
    bundle.user_namespace().namespace("cgroup").namespace("time")
    seen = inner(runtime, bundle)
    assert [k for k in seen if seen[k] == own(k)] == []


def test_first_process_of_a_new_pid_namespace(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.probe(bundle)
    assert (report["pid"], report["ppid"]) == (1, 0)


def test_new_network_has_loopback_only(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("ls /sys/class/net; cat /sys/class/net/lo/flags")
    name, flags = runtime.run(bundle).ok().out.split()
    assert name == "lo"
    assert int(flags, 16) & 1, "the loopback interface is down"


def test_mounts_of_the_host_are_out_of_sight(runtime: Runtime, bundle: Bundle) -> None:
    text = runtime.probe(bundle)["mountinfo"]
    assert str(bundle.path) not in " ".join(line.split()[4] for line in text.splitlines())


# Joining


@pytest.fixture
def other() -> Iterator[Callable[[str], int]]:
    """Starts processes with namespaces of their own; gives their pid."""
    started: list[Popen[bytes]] = []

    def start(*flags: str) -> int:
        process = Popen(["unshare", "--kill-child", *flags, "sleep", "1000"])
        started.append(process)
        if "--fork" not in flags:
            wait_for(lambda: comm(process.pid) == "sleep", "unshare")
            return process.pid
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        pid = int(wait_for(children.read_text, "unshare's child"))
        wait_for(lambda: comm(pid) == "sleep", "sleep")
        return pid

    yield start
    for process in started:
        process.kill()
        process.wait()


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@pytest.mark.spec("/linux/namespaces/*/path")
@pytest.mark.parametrize(
    ("name", "flag"),
    [("ipc", "--ipc"), ("network", "--net"), ("uts", "--uts"), ("cgroup", "--cgroup")],
)
def test_join(
    runtime: Runtime, bundle: Bundle, other: Callable[..., int], name: str, flag: str
) -> None:
    kind = KINDS[name]
    path = f"/proc/{other(flag, '--fork')}/ns/{kind}"
    bundle.namespace(name, path)
    if name == "uts":
        bundle.drop("/hostname")
    assert inner(runtime, bundle)[kind] == os.readlink(path)


def test_join_time(runtime: Runtime, bundle: Bundle, other: Callable[..., int]) -> None:
    path = f"/proc/{other('--time', '--fork')}/ns/time"
    bundle.namespace("time", path)
    assert inner(runtime, bundle)["time"] == os.readlink(path)


def test_join_pid(runtime: Runtime, bundle: Bundle, other: Callable[..., int]) -> None:
    path = f"/proc/{other('--pid', '--fork')}/ns/pid"
    report = runtime.probe(bundle.namespace("pid", path))
    assert report["ns"]["pid"] == os.readlink(path)
    assert report["pid"] > 1


def test_join_mount(runtime: Runtime, bundle: Bundle, other: Callable[..., int]) -> None:
    """The container's root is still its own; its mounts are made in the joined namespace."""
    path = f"/proc/{other('--mount', '--fork')}/ns/mnt"
    report = runtime.probe(bundle.namespace("mount", path))
    assert report["ns"]["mnt"] == os.readlink(path)


def test_join_user(runtime: Runtime, bundle: Bundle, make_bundle: Callable[..., Bundle]) -> None:
    first = make_bundle().user_namespace().sleeper()
    runtime.create(first).ok()
    pid = runtime.state(first.id)["pid"]
    bundle.namespace("user", f"/proc/{pid}/ns/user")
    report = runtime.probe(bundle)
    assert report["ns"]["user"] == os.readlink(f"/proc/{pid}/ns/user")
    assert report["uids"] == [0, 0, 0, 0]


def test_join_every_namespace_of_another_container(
    runtime: Runtime, bundle: Bundle, make_bundle: Callable[..., Bundle]
) -> None:
    first = make_bundle().sleeper()
    runtime.create(first).ok()
    pid = runtime.state(first.id)["pid"]
    for name in ("ipc", "network", "uts", "pid"):
        bundle.namespace(name, f"/proc/{pid}/ns/{KINDS[name]}")
    bundle.drop("/hostname")
    report = runtime.probe(bundle)
    for kind in ("ipc", "net", "uts", "pid"):
        assert report["ns"][kind] == os.readlink(f"/proc/{pid}/ns/{kind}")
    assert report["hostname"] == "box"


@pytest.mark.parametrize("where", ["/nonexistent", "/dev/null", "/proc/self/ns/uts"])
def test_join_by_a_wrong_path(runtime: Runtime, bundle: Bundle, where: str) -> None:
    runtime.run(bundle.namespace("network", where)).failed()


# User namespaces


def test_id_mappings(runtime: Runtime, bundle: Bundle) -> None:
    maps = [
        {"containerID": 0, "hostID": 200000, "size": 10},
        {"containerID": 10, "hostID": 300000, "size": 1},
        {"containerID": 1000, "hostID": 400000, "size": 5},
    ]
    bundle.namespace("user").set("/linux/uidMappings", maps).set("/linux/gidMappings", maps[:2])
    bundle.sh("cat /proc/self/uid_map /proc/self/gid_map")
    lines = [list(map(int, line.split())) for line in runtime.run(bundle).ok().out.splitlines()]
    wanted = [[m["containerID"], m["hostID"], m["size"]] for m in maps]
    assert lines == wanted + wanted[:2]


def test_user_of_the_namespace_owns_what_it_makes(runtime: Runtime, bundle: Bundle) -> None:
    shared = bundle.path / "shared"
    shared.mkdir()
    os.chown(shared, 100000, 100000)
    bundle.user_namespace().mount("/mnt", "bind", str(shared), "bind", "rw")
    runtime.run(bundle.sh("echo x > /mnt/file; stat -c %u:%g /mnt/file")).ok()
    made = (shared / "file").stat()
    assert (made.st_uid, made.st_gid) == (100000, 100000)


def test_another_user_inside_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.user_namespace().set("/process/user", {"uid": 1000, "gid": 1000, "additionalGids": [7]})
    report = runtime.probe(bundle)
    assert (report["uids"], report["gids"]) == ([1000] * 4, [1000] * 4)
    assert report["groups"] == [7]


def test_capabilities_inside_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.probe(bundle.user_namespace())
    assert report["cap_effective"] == [5, 10, 29]


def test_user_namespace_from_create_to_delete(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle.user_namespace().sleeper()).ok()
    runtime.start(bundle.id).ok()
    pid = runtime.state(bundle.id)["pid"]
    assert os.stat(f"/proc/{pid}").st_uid == 100000
    runtime.kill(bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")
    runtime.delete(bundle.id).ok()


# Names


def test_hostname(runtime: Runtime, bundle: Bundle) -> None:
    before = os.uname().nodename
    assert runtime.probe(bundle.set("/hostname", "a-name.example"))["hostname"] == "a-name.example"
    assert os.uname().nodename == before


def test_domainname(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.probe(bundle.set("/domainname", "example.org"))["domainname"] == "example.org"


def test_hostname_without_a_uts_namespace(runtime: Runtime, bundle: Bundle) -> None:
    before = os.uname().nodename
    runtime.run(bundle.drop_namespace("uts")).failed("uts")
    assert os.uname().nodename == before


def test_time_offsets(runtime: Runtime, bundle: Bundle) -> None:
    bundle.namespace("time").set("/linux/timeOffsets", {"boottime": {"secs": 1000000}})
    bundle.sh("cut -d. -f1 /proc/uptime")
    assert int(runtime.run(bundle).ok().out) > 1000000
