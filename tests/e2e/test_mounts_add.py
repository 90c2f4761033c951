"""`mounts add` on a container that runs.

The runc of this distribution has no such command, nor has crun 1.8; that of crun 1.27 has this
form of the file and of the command line.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lib import mountinfo
from lib.added import Mount, add, bind, inside, points, remove, table, tmpfs
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for

pytestmark = pytest.mark.only("ocirun")

# Adding


OPTIONS = [
    ((), {"rw"}),
    (("ro",), {"ro"}),
    (("nosuid", "nodev", "noexec"), {"nosuid", "nodev", "noexec"}),
    (("noatime",), {"noatime"}),
    (("nosymfollow",), {"nosymfollow"}),
    (("ro", "rw"), {"rw"}),
    (("rro",), {"ro"}),
]


@pytest.mark.contract("`mounts add|remove`")
@pytest.mark.parametrize(
    ("options", "flags"), OPTIONS, ids=["-".join(o) or "none" for o, _ in OPTIONS]
)
def test_bind(
    runtime: Runtime, live: Bundle, source: Path, options: tuple[str, ...], flags: set[str]
) -> None:
    add(runtime, live, bind("/mnt", source, *options)).ok()
    assert flags <= mountinfo.find(table(runtime, live), "/mnt").flags
    assert inside(runtime, live, "cat /mnt/file") == "of the host\n"


TYPES = [
    (tmpfs("/mnt", "size=64k", "mode=700", "nosuid"), "tmpfs", {"nosuid"}, {"size=64k", "mode=700"}),
    ({"destination": "/mnt", "type": "proc", "source": "proc"}, "proc", set(), set()),
    ({"destination": "/mnt", "type": "sysfs", "source": "sysfs", "options": ["ro"]}, "sysfs", {"ro"}, set()),
    ({"destination": "/mnt", "type": "mqueue", "source": "mqueue"}, "mqueue", set(), set()),
    ({"destination": "/mnt", "type": "devpts", "options": ["newinstance"]}, "devpts", set(), set()),
]  # fmt: skip


@pytest.mark.parametrize("users", [False, True], ids=["root", "userns"])
@pytest.mark.parametrize(("mount", "type", "flags", "words"), TYPES, ids=[row[1] for row in TYPES])
def test_types(
    runtime: Runtime, bundle: Bundle, users: bool, mount: Mount, type: str, flags: set[str],
    words: set[str],
) -> None:  # fmt: skip
    if users:
        bundle.user_namespace()
    add(runtime, runtime.started(bundle), mount).ok()
    seen = mountinfo.find(table(runtime, bundle), "/mnt")
    assert seen.type == type
    assert flags <= seen.flags
    assert words <= seen.super


def test_file_systems_are_of_the_containers_namespaces(runtime: Runtime, live: Bundle) -> None:
    add(
        runtime, live,
        {"destination": "/mnt/p", "type": "proc", "source": "proc"},
        {"destination": "/mnt/s", "type": "sysfs", "source": "sysfs"},
    ).ok()  # fmt: skip
    assert inside(runtime, live, "readlink /mnt/p/1/exe; ls /mnt/s/class/net") == "/bin/sh\nlo\n"


def test_cgroups(runtime: Runtime, bundle: Bundle) -> None:
    runtime.started(bundle.namespace("cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup"))
    add(runtime, bundle, {"destination": "/mnt", "type": "cgroup", "options": ["ro"]}).ok()
    assert inside(runtime, bundle, "ls /mnt") == inside(runtime, bundle, "ls /sys/fs/cgroup")
    assert "1" in inside(runtime, bundle, "cat $(find /mnt -name cgroup.procs)").split()


def test_cgroups_of_the_host(runtime: Runtime, bundle: Bundle) -> None:
    """Without a cgroup namespace a view of v1 is put together from the host's folders."""
    runtime.started(bundle.drop_namespace("cgroup"))
    done = add(runtime, bundle, {"destination": "/mnt", "type": "cgroup", "options": ["ro"]})
    if done.status:
        done.failed("cgroup namespace", "/0/type")
    else:
        assert mountinfo.find(table(runtime, bundle), "/mnt").type == "cgroup2"


def test_later_processes_and_init_see_it(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """Also when it is added before `start`."""
    bundle.sh("test -e /mnt/file; echo $? > /opt/seen; sleep 1000").set("/root/readonly", False)
    runtime.create(bundle).ok()
    add(runtime, bundle, bind("/mnt", source)).ok()
    runtime.start(bundle.id).ok()
    seen = bundle.rootfs / "opt/seen"
    wait_for(lambda: seen.exists() and seen.read_text(), "init's answer")
    assert seen.read_text() == "0\n"
    assert inside(runtime, bundle, "cat /mnt/file") == "of the host\n"


def test_several_on_one_another(runtime: Runtime, live: Bundle, source: Path) -> None:
    add(
        runtime, live, tmpfs("/mnt"), bind("/mnt/a/b", source), tmpfs("/mnt/c"), tmpfs("/mnt/c")
    ).ok()
    assert points(runtime, live)[-4:] == ["/mnt", "/mnt/a/b", "/mnt/c", "/mnt/c"]


@pytest.mark.parametrize("how", ["rbind", "bind"])
def test_what_is_mounted_below(runtime: Runtime, live: Bundle, tree: Path, how: str) -> None:
    add(runtime, live, bind("/mnt", tree, how, "rnodev")).ok()
    seen = {mount.point: mount.flags for mount in mountinfo.parse(table(runtime, live))}
    assert ("/mnt/sub" in seen) == (how == "rbind")
    for point in {"/mnt", "/mnt/sub"} & seen.keys():
        assert "nodev" in seen[point]


@pytest.mark.parametrize(
    ("words", "peers"),
    [
        ((), {"master"}), (("rprivate",), set()), (("private",), set()), (("rslave",), {"master"}),
        (("rshared",), {"shared", "master"}), (("unbindable",), {"unbindable"}),
    ],
)  # fmt: skip
def test_propagation(
    runtime: Runtime, live: Bundle, source: Path, words: tuple[str, ...], peers: set[str]
) -> None:
    """By itself it is the host's slave, as a mount of a new container is."""
    add(runtime, live, bind("/mnt", source, "rbind", *words)).ok()
    assert mountinfo.find(table(runtime, live), "/mnt").peers == peers


@pytest.mark.parametrize("wanted", ["private", "rprivate", "rslave", "rshared", "runbindable"])
def test_propagation_of_the_root(
    runtime: Runtime, bundle: Bundle, make_bundle: Any, source: Path, wanted: str
) -> None:
    """It means to an added mount what it means to one of config.json."""
    bundle.set("/linux/rootfsPropagation", wanted)
    other = make_bundle()
    other.set("/linux/rootfsPropagation", wanted).mount("/mnt", "bind", str(source), "rbind")
    add(runtime, runtime.started(bundle), bind("/mnt", source)).ok()
    expected = mountinfo.find(table(runtime, runtime.started(other)), "/mnt").peers
    assert mountinfo.find(table(runtime, bundle), "/mnt").peers == expected


def test_mounts_of_the_host_come_through(runtime: Runtime, live: Bundle, source: Path) -> None:
    (source / "late").mkdir()
    add(runtime, live, bind("/mnt", source)).ok()
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "late"], check=True)
    try:
        assert points(runtime, live)[-1] == "/mnt/late"
    finally:
        subprocess.run(["umount", source / "late"], check=True)


def test_a_file_a_socket_and_a_device(runtime: Runtime, live: Bundle, source: Path) -> None:
    add(runtime, live, bind("/opt/new/file", source / "file"), bind("/opt/zero", "/dev/zero")).ok()
    assert (
        inside(runtime, live, "cat /opt/new/file; head -c 3 /opt/zero | wc -c").split()[-1] == "3"
    )


def test_sources_relative_to_the_bundle(runtime: Runtime, live: Bundle, source: Path) -> None:
    add(runtime, live, bind("/mnt", source.name)).ok()
    assert inside(runtime, live, "cat /mnt/file") == "of the host\n"


def test_an_informing_file_of_proc(runtime: Runtime, live: Bundle, source: Path) -> None:
    """As lxcfs has them."""
    add(runtime, live, bind("/proc/uptime", source / "file")).ok()
    assert inside(runtime, live, "cat /proc/uptime") == "of the host\n"
    remove(runtime, live, "/proc/uptime").ok()
    assert inside(runtime, live, "cat /proc/uptime") != "of the host\n"


@pytest.mark.parametrize("how", ["stdin", "pipe", "file"])
def test_where_the_mounts_come_from(runtime: Runtime, live: Bundle, source: Path, how: str) -> None:
    text = json.dumps([bind("/mnt", source)])
    argv = runtime.argv("mounts", "add", live.id)
    if how == "file":
        (live.path / "m").write_text(text)
        subprocess.run([*argv, str(live.path / "m")], check=True, timeout=20)
    else:
        name = "-" if how == "stdin" else "/dev/stdin"
        subprocess.run([*argv, name], input=text, text=True, check=True, timeout=20)
    assert "/mnt" in points(runtime, live)


def test_none_at_all(runtime: Runtime, live: Bundle) -> None:
    before = table(runtime, live)
    add(runtime, live).ok()
    remove(runtime, live).ok()
    assert table(runtime, live) == before


# Containers of other kinds


def test_paused(runtime: Runtime, live: Bundle, source: Path) -> None:
    runtime.call("pause", live.id).ok()
    add(runtime, live, bind("/mnt", source)).ok()
    assert "/mnt" in points(runtime, live)
    remove(runtime, live, "/mnt").ok()
    assert "/mnt" not in points(runtime, live)
    assert runtime.status(live.id) == "paused"


def test_read_only_root(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    runtime.started(bundle)
    add(runtime, bundle, bind("/mnt", source)).ok()
    before = table(runtime, bundle)
    done = add(runtime, bundle, bind("/opt/new", source)).failed("read-only file system")
    assert "make it in the image" in done.err
    assert table(runtime, bundle) == before


@pytest.mark.parametrize("source_of", ["open", "closed"])
def test_user_namespace(runtime: Runtime, bundle: Bundle, tree: Path, source_of: str) -> None:
    """Also of a source below a folder that root of the namespace may not enter."""
    if source_of == "closed":
        tree.chmod(0o700)
    runtime.started(bundle.user_namespace())
    place = tree / "sub" if source_of == "closed" else tree
    add(runtime, bundle, bind("/mnt", place)).ok()
    assert "/mnt" in points(runtime, bundle)
    remove(runtime, bundle, "/mnt").ok()
    assert "/mnt" not in points(runtime, bundle)


def test_flags_of_the_hosts_mount_are_locked(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    """Root of a user namespace, even one with all capabilities, cannot take nosuid back."""
    sets = ("bounding", "effective", "permitted")
    bundle.user_namespace().set("/process/capabilities", {name: ["CAP_SYS_ADMIN"] for name in sets})
    runtime.started(bundle)
    add(runtime, bundle, bind("/mnt", tree / "sub")).ok()
    script = "mount -o remount,bind,nosuid,ro /mnt && echo tighter; mount -o remount,bind,suid /mnt"
    done = runtime.call("exec", bundle.id, "sh", "-c", script)
    assert done.status != 0
    assert done.out == "tighter\n"
    assert "nosuid" in mountinfo.find(table(runtime, bundle), "/mnt").flags
    add(runtime, bundle, bind("/opt", tree / "sub", "suid")).failed("operation not permitted")


MAPS = [{"containerID": 0, "hostID": 7, "size": 10}]


@pytest.mark.parametrize("users", [False, True], ids=["root", "userns"])
@pytest.mark.parametrize("own", [False, True], ids=["container", "mount"])
def test_id_mapped(runtime: Runtime, bundle: Bundle, source: Path, users: bool, own: bool) -> None:
    if users:
        bundle.user_namespace(100000, 5000)
    runtime.started(bundle)
    mount = bind("/mnt", source, "bind", "idmap")
    if own:
        mount |= {"uidMappings": MAPS, "gidMappings": MAPS}
    done = add(runtime, bundle, mount)
    if not users and not own:
        done.failed("without mappings", "/0/options")
        return
    done.ok()
    seen = {(False, True): "7:7", (True, True): "65534:65534", (True, False): "0:0"}[users, own]
    assert inside(runtime, bundle, "stat -c %u:%g /mnt/file").strip() == seen


def test_of_an_ordinary_user(runtime: Runtime, box: Bundle, source: Path) -> None:
    runtime.started(box)
    add(runtime, box, bind("/mnt", source, "ro"), tmpfs("/opt")).ok()
    assert inside(runtime, box, "cat /mnt/file; ls /opt") == "of the host\n"
    remove(runtime, box, "/mnt", "/opt").ok()
    assert not {"/mnt", "/opt"} & set(points(runtime, box))
    add(runtime, box, tmpfs("/opt", "uid=5")).failed("not mapped", "/0/options/0")


def test_shared_pid_namespace(runtime: Runtime, bundle: Bundle) -> None:
    runtime.started(bundle.drop_namespace("pid"))
    add(runtime, bundle, tmpfs("/mnt")).ok()
    assert "/mnt" in points(runtime, bundle)


def test_joined_mount_namespace(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """The container's root is below the top of that namespace."""
    holder = subprocess.Popen(["unshare", "--mount", "cat"], stdin=subprocess.PIPE)
    own, place = os.readlink("/proc/self/ns/mnt"), f"/proc/{holder.pid}/ns/mnt"
    try:
        wait_for(lambda: os.readlink(place) != own, "the mount namespace")
        runtime.started(bundle.namespace("mount", place))
        add(runtime, bundle, bind("/mnt", source)).ok()
        root = f"/proc/{runtime.state(bundle.id)['pid']}/root"
        assert Path(root, "mnt/file").read_text() == "of the host\n"
        assert not Path("/mnt/file").exists()
        remove(runtime, bundle, "/mnt").ok()
        assert not Path(root, "mnt/file").exists()
    finally:
        runtime.delete(bundle.id, "--force")
        holder.communicate(timeout=20)


def test_wrong_state(runtime: Runtime, live: Bundle) -> None:
    runtime.kill(live.id)
    runtime.wait_status(live.id, "stopped")
    for what in (add, remove):
        what(runtime, live).failed("not running")
    live.id = "nobody"
    add(runtime, live).failed("does not exist")
