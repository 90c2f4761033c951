"""An ordinary user's containers: mappings, what a user cannot have, cgroups, state, root's view."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.leaks import PREFIX
from lib.rootfs import RootfsSource
from lib.runtime import Runtime
from lib.terminal import Terminal
from lib.user import GID, UID, Installation, User, give, mapping, rootless

MS_BIND = 0x1000
UNIFIED = Path("/sys/fs/cgroup/unified")
FIRST, COUNT = 700000, 65536
"""The range that /etc/subuid and /etc/subgid grant where a test wants one."""

libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def cover(folder: Path, mount_namespace: None) -> Iterator[Callable[[str, str], None]]:
    """Shows other contents in place of a file of the host, in the tests' mount namespace."""
    covered: list[str] = []

    def bind(path: str, text: str) -> None:
        if not os.path.exists(path):
            pytest.skip(f"{path} is missing (Debian: uidmap)")
        source = folder / path.replace("/", "-")
        source.write_text(text)
        if libc.mount(bytes(source), path.encode(), None, MS_BIND, None):
            raise OSError(ctypes.get_errno(), f"bind on {path}")
        covered.append(path)

    yield bind
    for path in reversed(covered):
        libc.umount2(path.encode(), 2)


@pytest.fixture
def account(cover: Callable[[str, str], None]) -> Callable[..., None]:
    """Gives the user an account, and a line in /etc/subuid and /etc/subgid."""

    def make(line: str = f"someone:{FIRST}:{COUNT}\n") -> None:
        passwd = Path("/etc/passwd").read_text()
        cover("/etc/passwd", f"{passwd}someone:x:{UID}:{GID}::/:/bin/sh\n")
        for path in ("/etc/subuid", "/etc/subgid"):
            cover(path, line)

    return make


def ranges(bundle: Bundle) -> Bundle:
    """The user is root inside, and a range of subordinate ids is mapped from 1 on."""
    bundle.set("/linux/uidMappings", mapping((0, UID, 1), (1, FIRST, COUNT)))
    return bundle.set("/linux/gidMappings", mapping((0, GID, 1), (1, FIRST, COUNT)))


def lines(text: str) -> list[list[int]]:
    return [list(map(int, line.split())) for line in text.splitlines()]


# The life of a container


def test_from_create_to_delete(runtime: Runtime, box: Bundle) -> None:
    runtime.create(box.sleeper()).ok()
    assert runtime.status(box.id) == "created"
    assert (runtime.root / box.id).stat().st_uid == UID
    runtime.start(box.id).ok()
    assert runtime.status(box.id) == "running"
    assert box.id in runtime.call("list").ok().out
    runtime.kill(box.id, "TERM").ok()
    runtime.wait_status(box.id, "stopped")
    runtime.delete(box.id).ok()
    runtime.call("state", box.id).failed("does not exist|no such file")


@pytest.mark.only("ocirun")
def test_owner(runtime: Runtime, box: Bundle) -> None:
    runtime.create(box.sleeper()).ok()
    assert runtime.state(box.id)["owner"] == str(UID)


def test_exit_status_through_a_pipe(runtime: Runtime, box: Bundle) -> None:
    argv = runtime.argv("run", "--bundle", box.sh("cat; exit 7").write(), box.id)
    done = subprocess.run(argv, input=b"words", capture_output=True, timeout=20)
    assert (done.stdout, done.returncode) == (b"words", 7)


def test_terminal(runtime: Runtime, box: Bundle) -> None:
    box.set("/process/terminal", True).sh("test -t 0 && tty && echo y > /dev/console")
    with Terminal() as terminal:
        terminal.spawn(runtime.argv("run", "--bundle", box.write(), box.id))
        assert terminal.wait() == 0
        assert terminal.seen == b"/dev/pts/0\r\ny\r\n"


@pytest.mark.only("ocirun")
def test_spec_as_it_is_written(runtime: Runtime, user: User, bundle: Bundle) -> None:
    """`spec --rootless`, then `run` on a terminal, without a state folder that was chosen."""
    rootless(bundle)
    assert user.call(runtime.path, "spec", "--rootless", "--bundle", bundle.path).returncode == 0
    with Terminal() as terminal:
        argv = [str(runtime.path), "run", "--bundle", str(bundle.path), bundle.id]
        terminal.spawn([*user.prefix(), *argv])
        os.write(terminal.master, b"echo $((6*7)); id -u; exit 3\n")
        assert terminal.wait() == 3
        assert b"42\r\n0\r\n" in terminal.seen


# Mappings


@pytest.mark.spec(
    "/linux/uidMappings",
    "/linux/uidMappings/*/containerID",
    "/linux/uidMappings/*/hostID",
    "/linux/uidMappings/*/size",
    "/linux/gidMappings",
    "/linux/gidMappings/*/containerID",
    "/linux/gidMappings/*/hostID",
    "/linux/gidMappings/*/size",
)
def test_own_id(runtime: Runtime, box: Bundle) -> None:
    box.sh("cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; cat /proc/self/setgroups")
    *maps, uid, gid, setgroups = runtime.run(box).ok().out.splitlines()
    assert lines("\n".join(maps)) == [[0, UID, 1], [0, GID, 1]]
    assert (uid, gid, setgroups) == ("0", "0", "deny")


@pytest.mark.only("ocirun", "crun")
@pytest.mark.spec("/linux/uidMappings/*/containerID", "/linux/gidMappings/*/containerID")
def test_own_id_as_another(runtime: Runtime, box: Bundle) -> None:
    """Root is not mapped at all."""
    box.set("/linux/uidMappings", mapping((1000, UID, 1)))
    box.set("/linux/gidMappings", mapping((100, GID, 1)))
    box.set("/process/user", {"uid": 1000, "gid": 100})
    report = runtime.probe(box)
    assert (report["uids"], report["gids"]) == ([1000] * 4, [100] * 4)


@pytest.mark.spec(
    "/linux/uidMappings/*/containerID",
    "/linux/uidMappings/*/hostID",
    "/linux/uidMappings/*/size",
    "/linux/gidMappings/*/containerID",
    "/linux/gidMappings/*/hostID",
    "/linux/gidMappings/*/size",
)
def test_ranges(runtime: Runtime, box: Bundle, account: Callable[..., None]) -> None:
    account()
    ranges(box).sh("cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; id -G")
    box.set("/process/user", {"uid": 1000, "gid": 1001, "additionalGids": [7, 8]})
    *maps, uid, gid, groups = runtime.run(box).ok().out.splitlines()
    wanted = [[0, UID, 1], [1, FIRST, COUNT], [0, GID, 1], [1, FIRST, COUNT]]
    assert lines("\n".join(maps)) == wanted
    assert (uid, gid, groups) == ("1000", "1001", "1001 7 8")


def test_ranges_from_create_to_delete(
    runtime: Runtime, box: Bundle, account: Callable[..., None]
) -> None:
    """Its processes are other users, whom the caller ends all the same."""
    account()
    ranges(box).set("/process/user", {"uid": 1000, "gid": 1000})
    runtime.create(box.sleeper()).ok()
    runtime.start(box.id).ok()
    status = Path(f"/proc/{runtime.state(box.id)['pid']}/status").read_text()
    assert f"Uid:\t{FIRST + 999}\t" in status
    runtime.kill(box.id, "KILL").ok()
    runtime.wait_status(box.id, "stopped")
    runtime.delete(box.id).ok()


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("line", [f"someone:{FIRST}:10\n", ""], ids=["too small", "none"])
def test_range_that_is_not_granted(
    runtime: Runtime, box: Bundle, account: Callable[..., None], line: str
) -> None:
    account(line)
    words = ("newuidmap: uid range", "not allowed", "/linux/uidMappings", "/etc/subuid")
    runtime.run(ranges(box)).failed(*words)


@pytest.mark.only("ocirun")
def test_user_without_an_account(runtime: Runtime, box: Bundle, cover: Callable[..., None]) -> None:
    cover("/etc/subuid", "")
    runtime.run(ranges(box)).failed("newuidmap: cannot determine your user name")


@pytest.mark.only("ocirun")
def test_no_newuidmap(runtime: Runtime, box: Bundle, cover: Callable[..., None]) -> None:
    for path in {os.path.realpath(f"{folder}/newuidmap") for folder in ("/usr/bin", "/bin")}:
        cover(path, "not executable")
    runtime.run(ranges(box)).failed("needs newuidmap", "uidmap", "/linux/uidMappings")


@pytest.mark.only("ocirun")
def test_newuidmap_without_privileges(
    runtime: Runtime, box: Bundle, account: Callable[..., None]
) -> None:
    account()
    runtime.prefix = ("setpriv", "--no-new-privs", *runtime.prefix)
    runtime.run(ranges(box)).failed("newuidmap: ", "uid_map failed", "no_new_privs")


@pytest.mark.only("ocirun")
def test_what_newuidmap_gets(
    runtime: Runtime, box: Bundle, user: User, account: Callable[..., None], folder: Path
) -> None:
    """Numbers, no environment, and no descriptor of the caller's; never from a relative folder."""
    account()
    report = user.home / "report"
    for place in (folder / "tools", folder / "relative"):
        place.mkdir(mode=0o755)
        helper = place / "newuidmap"
        helper.write_text(
            f"#!/bin/sh\necho $0 $* > {report}; ls /proc/self/fd >> {report}\n"
            f"tr '\\0' ' ' < /proc/$$/environ >> {report}; exec /usr/bin/newuidmap $*\n"
        )
        helper.chmod(0o755)
    user.env["PATH"] = f"relative:{folder}/tools:{user.env['PATH']}"
    runtime.prefix = user.prefix()
    with open("/dev/null") as extra:
        os.set_inheritable(extra.fileno(), True)
        runtime.run(ranges(box).sh(":"), cwd=folder, pass_fds=[extra.fileno()]).ok()
    call, *descriptors = report.read_text().splitlines()
    tool, pid, *numbers = call.split()
    assert tool == f"{folder}/tools/newuidmap"
    assert pid.isdigit()
    assert numbers == ["0", str(UID), "1", "1", str(FIRST), str(COUNT)]
    assert descriptors == ["0", "1", "2", "3"], "3 is ls's own, and the environment is empty"


# What a user cannot have


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        pytest.param(
            lambda b: (
                b.drop_namespace("user").drop("/linux/uidMappings").drop("/linux/gidMappings")
            ),
            ("/linux/namespaces", "user namespace", "spec --rootless"),
            id="no user namespace",
        ),
        pytest.param(
            lambda b: b.set("/process/user/additionalGids", [0]),
            ("/process/user/additionalGids", "additional groups"),
            id="additional groups",
        ),
        pytest.param(
            lambda b: b.set("/process/user/uid", 1), ("/process/user/uid", "mapped"), id="unmapped"
        ),
        pytest.param(
            lambda b: b.mount("/mnt", "tmpfs", "tmpfs", "mode=755", "gid=5"),
            ("/mounts/7/options/1", "gid=5", "not mapped"),
            id="owner of a tmpfs",
        ),
        pytest.param(
            lambda b: b.set("/linux/uidMappings/0/hostID", 0),
            ("/linux/uidMappings", "newuidmap"),
            id="map of root",
        ),
        pytest.param(
            lambda b: b.mount("/mnt", "sysfs", "sysfs"),
            ("/mounts/7", "network namespace", "rbind"),
            id="sysfs",
        ),
        pytest.param(
            lambda b: b.drop_namespace("pid"), ("/mounts/0", "pid namespace"), id="procfs"
        ),
        pytest.param(
            lambda b: b.add(
                "/linux/devices", {"path": "/dev/absent", "type": "c", "major": 9, "minor": 9}
            ),
            ("/linux/devices/0", "host", "has none"),
            id="device that is not there",
        ),
        pytest.param(
            lambda b: b.add(
                "/linux/devices", {"path": "/dev/null", "type": "c", "major": 1, "minor": 5}
            ),
            ("/linux/devices/0", "host", "another"),
            id="device that is another",
        ),
        pytest.param(
            lambda b: b.set("/process/rlimits/0/hard", 2**40),
            ("/process/rlimits/0", "CAP_SYS_RESOURCE"),
            id="rlimit",
        ),
    ],
)
@pytest.mark.only("ocirun")
def test_refused(
    runtime: Runtime, box: Bundle, edit: Callable[[Bundle], object], words: tuple[str, ...]
) -> None:
    edit(box)
    runtime.run(box).failed(*words)


def test_network_of_its_own(runtime: Runtime, box: Bundle) -> None:
    box.namespace("network").drop_mount("/sys").drop_mount("/sys/fs/cgroup")
    box.mount("/sys", "sysfs", "sysfs", "ro").sh("ls /sys/class/net; hostname")
    assert runtime.run(box).ok().out.split() == ["lo", "box"]


@pytest.mark.only("ocirun")
def test_devices_are_the_hosts(runtime: Runtime, box: Bundle) -> None:
    box.add("/linux/devices", {"path": "/dev/pipe", "type": "p", "fileMode": 0o600})
    box.sh("stat -c '%t:%T %a' /dev/null /dev/zero; stat -c %F /dev/pipe; mknod /dev/x c 1 3")
    said = runtime.run(box).failed("not permitted").out
    assert said == "1:3 666\n1:5 666\nfifo\n"


@pytest.mark.only("ocirun")
def test_overlay(runtime: Runtime, box: Bundle) -> None:
    """What overlayfs keeps in attributes of files works too: a directory made anew is empty."""
    note = "run.ocirun.overlay."
    lower = box.path / "lower"
    shutil.copytree(box.rootfs, lower, symlinks=True)
    box.set("/annotations", {note + "lowerdir": str(lower), note + "upperdir": "tmpfs"})
    (lower / "opt/old").touch()
    give(path for path in [*lower.rglob("*"), lower] if not path.is_symlink())
    box.set("/root/readonly", False)
    box.sh("rm -r /opt && mkdir /opt && touch /opt/new && ls /opt && rm /etc/group && ls /etc")
    assert runtime.run(box).ok().out.split() == ["new", "passwd"]


@pytest.mark.spec("/process/oomScoreAdj")
def test_oom_score(runtime: Runtime, box: Bundle) -> None:
    """A user may raise it, and not lower it."""
    box.set("/process/oomScoreAdj", 500).sh("cat /proc/self/oom_score_adj")
    runtime.prefix = ("choom", "-n", "7", "--", *runtime.prefix)
    assert runtime.run(box).ok().out == "500\n"
    box.set("/process/oomScoreAdj", -5)
    runtime.run(box).failed("permission denied")


# cgroups


LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"pids": {"limit": 50}}, "/linux/resources/pids/limit"),
    ({"memory": {"limit": 1 << 28}}, "/linux/resources/memory/limit"),
    ({"cpu": {"quota": 10000, "period": 100000}}, "/linux/resources/cpu/"),
]


@pytest.mark.parametrize(("limits", "pointer"), LIMITS, ids=["pids", "memory", "cpu"])
@pytest.mark.only("ocirun")
def test_limits_without_a_cgroup(
    runtime: Runtime, box: Bundle, limits: dict[str, Any], pointer: str
) -> None:
    box.set("/linux/resources", limits)
    runtime.run(box).failed(pointer, "cgroup", "Delegate=yes")
    runtime.call("--cgroup-manager", "disabled", "run", "-b", box.write(), box.id).ok()


@pytest.mark.only("ocirun", "runc")
def test_chosen_cgroup_without_permission(runtime: Runtime, box: Bundle) -> None:
    box.set("/linux/cgroupsPath", f"/ocirun-test/{box.id}")
    runtime.run(box).failed("permission|may not")


@pytest.mark.only("ocirun")
def test_rules_for_devices_without_a_cgroup(runtime: Runtime, box: Bundle) -> None:
    """Every engine has them; without privileges there is nothing that they could forbid."""
    box.set("/linux/resources", {"devices": [{"allow": False, "access": "rwm"}]})
    runtime.run(box.sh(":")).ok()
    debug = runtime.call("--debug", "run", "-b", box.write(), box.id).ok().err
    assert "devices is not enforced" in debug


@pytest.fixture
def delegated(user: User, runtime: Runtime) -> Iterator[Path]:
    """A v2 cgroup that is the user's, in which the runtime runs, as systemd delegates one."""
    if not (UNIFIED / "cgroup.procs").exists():
        pytest.skip("needs a cgroup v2 mount at /sys/fs/cgroup/unified")
    top = UNIFIED / f"ocirun-test/{PREFIX}user"
    (top / "session").mkdir(parents=True)
    for path in (UNIFIED, top.parent):
        if "hugetlb" in (path / "cgroup.controllers").read_text():
            (path / "cgroup.subtree_control").write_text("+hugetlb")
    give([top, top / "session"])
    for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        give([top / name, top / "session" / name])
    enter = f'echo $$ > {top}/session/cgroup.procs && exec "$@"'
    runtime.prefix = ("sh", "-c", enter, "sh", *runtime.prefix)
    yield top
    runtime.clear()
    for path in (top / "session", top):
        path.rmdir()


@pytest.mark.only("ocirun")
def test_delegated_cgroup(runtime: Runtime, box: Bundle, delegated: Path) -> None:
    if "hugetlb" not in (delegated / "cgroup.controllers").read_text():
        pytest.skip("needs the hugetlb controller on cgroup v2")
    size = next(delegated.glob("hugetlb.*.max")).name.split(".")[1]
    box.set("/linux/cgroupsPath", f"/ocirun-test/{delegated.name}/{box.id}")
    box.set("/linux/resources", {"hugepageLimits": [{"pageSize": size, "limit": 1 << 21}]})
    runtime.create(box.sleeper()).ok()
    made = delegated / box.id
    assert made.stat().st_uid == UID
    assert (made / f"hugetlb.{size}.max").read_text() == f"{1 << 21}\n"
    pid = runtime.state(box.id)["pid"]
    assert f"0::/ocirun-test/{delegated.name}/{box.id}\n" in Path(f"/proc/{pid}/cgroup").read_text()
    runtime.delete(box.id, "--force").ok()
    assert not made.exists()
    box.set("/linux/resources", {"pids": {"limit": 5}})
    runtime.run(box).failed("/linux/resources/pids/limit", "not delegated")


@pytest.mark.only("ocirun")
def test_cgroups_cannot_be_changed_from_inside(
    runtime: Runtime, box: Bundle, delegated: Path
) -> None:
    """CVE-2023-25809: the user's own cgroups are in the host's /sys."""
    box.drop_mount("/sys/fs/cgroup").sh(f"test -d {delegated} && mkdir {delegated}/escaped")
    runtime.run(box).failed("read-only")
    assert not (delegated / "escaped").exists()


@pytest.mark.only("ocirun")
def test_view_of_the_cgroups(runtime: Runtime, box: Bundle) -> None:
    """Without cgroups of its own the container sees the caller's, and only sees them."""
    box.drop_mount("/sys/fs/cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw")
    box.sh("ls /sys/fs/cgroup; grep ' /sys/fs/cgroup' /proc/self/mountinfo | grep -v ' ro,'")
    seen = runtime.run(box).out
    assert seen, "no cgroup is seen"
    assert "/sys/fs/cgroup" not in seen


# State


@pytest.mark.only("ocirun")
def test_default_state_folder(runtime: Runtime, box: Bundle, user: User) -> None:
    command = [*user.prefix(), str(runtime.path)]
    assert subprocess.call([*command, "create", "-b", str(box.sleeper().write()), box.id]) == 0
    try:
        made = user.run / "ocirun" / box.id
        assert made.stat().st_uid == UID
        assert made.stat().st_mode & 0o777 == 0o700
        assert made.parent.stat().st_mode & 0o777 == 0o700
    finally:
        assert subprocess.call([*command, "delete", "--force", box.id]) == 0


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("trap", ["", "folder", "link", "file"])
def test_state_folder_in_tmp(runtime: Runtime, box: Bundle, user: User, trap: str) -> None:
    """Without XDG_RUNTIME_DIR. Whoever was there first may be another user."""
    del user.env["XDG_RUNTIME_DIR"]
    place = Path(f"/tmp/ocirun-{UID}")
    assert not os.path.lexists(place)
    if trap == "folder":
        place.mkdir()
        place.chmod(0o777)
    elif trap == "link":
        place.symlink_to(user.home)
    elif trap == "file":
        place.touch()
    try:
        done = user.call(runtime.path, "run", "-b", box.sh("echo y").write(), box.id)
        if trap:
            assert done.returncode == 1
            assert str(place) in done.stderr
            assert "--root" in done.stderr
            assert trap != "folder" or not list(place.iterdir())
            assert not list(user.home.iterdir())
        else:
            assert done.stdout == "y\n"
            assert place.stat().st_mode & 0o777 == 0o700
    finally:
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        else:
            place.unlink()


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("command", ["state", "kill", "delete"])
def test_state_of_another_user(runtime: Runtime, box: Bundle, user: User, command: str) -> None:
    """Records say what is signalled, removed and executed: only the owner's are believed."""
    runtime.create(box.sleeper()).ok()
    other = tuple(word.replace(f"={UID}", f"={UID + 7}") for word in runtime.prefix)
    user.run.chmod(0o755)
    runtime.prefix, mine = other, runtime.prefix
    runtime.call(command, box.id).failed("not the caller's own", f"user {UID}", "--root")
    runtime.prefix = mine
    assert runtime.status(box.id) == "created"


@pytest.mark.only("ocirun")
def test_root_acts_as_the_owner(runtime: Runtime, box: Bundle, user: User) -> None:
    """Root sees and deletes a user's containers, with the user's rights: the record is theirs."""
    seen = user.home / "seen"
    box.set("/hooks/poststop", [{"path": "/bin/sh", "args": ["sh", "-c", f"id > {seen}"]}])
    runtime.create(box.sleeper()).ok()
    mine, runtime.prefix = runtime.prefix, ()
    try:
        assert runtime.status(box.id) == "created"
        assert str(UID) in runtime.call("list").ok().out
        runtime.delete(box.id, "--force").ok()
    finally:
        runtime.prefix = mine
    assert runtime.containers() == []
    assert seen.read_text().strip() in (
        f"uid={UID} gid={GID}",
        f"uid={UID} gid={GID} groups={GID}",
    )


@pytest.mark.only("ocirun")
def test_root_makes_no_containers_for_a_user(runtime: Runtime, bundle: Bundle, user: User) -> None:
    runtime.root.mkdir()
    give([runtime.root])
    runtime.prefix = ()
    runtime.run(bundle).failed("not the caller's own")
    assert runtime.containers() == []


# Root of a user namespace, as rootless Podman calls the runtime


@pytest.fixture
def inside(runtime: Runtime, user: User) -> None:
    """The runtime runs as root of a user namespace that the user has made."""
    runtime.prefix = (*runtime.prefix, "unshare", "--user", "--map-root-user", "--mount")


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("nested", [False, True], ids=["shared", "nested"])
def test_root_of_a_user_namespace(runtime: Runtime, box: Bundle, nested: bool) -> None:
    box.set("/linux/uidMappings", mapping((0, 0, 1))).set("/linux/gidMappings", mapping((0, 0, 1)))
    if not nested:
        box.drop_namespace("user").drop("/linux/uidMappings").drop("/linux/gidMappings")
    box.sh("id -u; cat /proc/self/uid_map; echo x > /dev/null")
    uid, ids = runtime.run(box).ok().out.splitlines()
    assert uid == "0"
    assert ids.split() == (["0", "0", "1"] if nested else ["0", str(UID), "1"])


@pytest.mark.only("ocirun")
@pytest.mark.usefixtures("inside")
def test_state_folder_of_root_of_a_user_namespace(
    runtime: Runtime, box: Bundle, user: User
) -> None:
    box.set("/linux/uidMappings", mapping((0, 0, 1))).set("/linux/gidMappings", mapping((0, 0, 1)))
    argv = [*runtime.prefix, str(runtime.path), "run", "-b", str(box.sh("echo y").write()), box.id]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("y\n", "")
    assert (user.run / "ocirun").is_dir()


# Images, and the library


@pytest.fixture
def image(runtime: Runtime, user: User, rootfs_source: RootfsSource, folder: Path) -> str:
    """An image that the user has imported: with files of others, and a device."""
    root = rootfs_source.fill(folder / "image")
    (root / "opt/old").touch()
    os.chown(root / "opt/old", 33, 33)
    os.mknod(root / "dev/extra", 0o20666, os.makedev(1, 3))
    archive = folder / "image.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    done = user.call(runtime.path, "image", "import", "box", archive)
    assert done.returncode == 0, done.stderr
    return "box"


@pytest.mark.only("ocirun")
def test_image(runtime: Runtime, user: User, image: str) -> None:
    listed = user.call(runtime.path, "image", "list")
    assert image in listed.stdout
    place = user.home / f"data/ocirun/images/{image}/rootfs"
    assert (place / "opt/old").stat().st_uid == UID
    assert not (place / "dev/extra").exists()
    script = "id -u; rm -r /opt && mkdir /opt && touch /opt/new && ls /opt"
    done = user.call(runtime.path, "launch", f"{PREFIX}launch", image, "--", "sh", "-c", script)
    assert (done.stdout.split(), done.stderr) == (["0", "new"], "")
    assert (place / "opt/old").exists()
    assert user.call(runtime.path, "image", "remove", image).returncode == 0
    assert not list((user.home / "data/ocirun/containers").iterdir())
    assert not list((user.run / "ocirun").iterdir())


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--user", "guest"), 0, "1000 1000"),
        (("--user", "7:8"), 0, "7 8"),
        (("--network", "host"), 0, "0 0"),
        (("--memory", "64m"), 1, "Delegate=yes"),
    ],
    ids=["name", "numbers", "network", "limit"],
)
def test_launch(
    runtime: Runtime, user: User, image: str, options: tuple[str, ...], status: int, said: str
) -> None:
    command = ("sh", "-c", "echo $(id -u) $(id -g); touch /tmp/x")
    done = user.call(runtime.path, "launch", *options, f"{PREFIX}launch", image, "--", *command)
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr


@pytest.mark.only("ocirun")
@pytest.mark.usefixtures("inside")
def test_images_of_root_of_a_user_namespace(
    runtime: Runtime, user: User, image: str, folder: Path
) -> None:
    """It is the user, whose image is found; and it can import one of its own."""
    call = [*runtime.prefix, str(runtime.path)]
    again = ("image", "import", "again", str(folder / "image.tar"))
    launch = ("launch", f"{PREFIX}launch", "again", "--", "id", "-u")
    for words, said in ((("image", "list"), image), (again, ""), (launch, "0\n")):
        done = subprocess.run([*call, *words], capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
    assert "again" in user.call(runtime.path, "image", "list").stdout


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("command", ["import", "list", "launch"])
def test_images_of_another(
    runtime: Runtime, user: User, image: str, folder: Path, command: str
) -> None:
    (folder / "roots").mkdir(mode=0o755)
    (folder / "roots/images").mkdir(mode=0o700)
    root = ("--data-root", str(folder / "roots"))
    words = {
        "import": ("image", "import", *root, image, str(folder / "image.tar")),
        "list": ("image", "list", *root),
        "launch": ("launch", *root, f"{PREFIX}launch", image, "--", "true"),
    }[command]
    done = user.call(runtime.path, *words)
    assert done.returncode == 1
    assert "permission denied" in done.stderr
    assert "--data-root" in done.stderr
    assert "internal error" not in done.stderr


@pytest.mark.only("ocirun")
def test_launch_of_the_host(runtime: Runtime, user: User) -> None:
    done = user.call(runtime.path, "launch", f"{PREFIX}launch", "host", "--", "true")
    assert done.returncode == 1
    assert "cannot be a user's image" in done.stderr


LIBRARY = """
import asyncio, sys
sys.path[:0] = PATHS
import ocirun
bundle, name = sys.argv[1:]

async def several():
    async with ocirun.AsyncRuntime() as runtime:
        runs = [runtime.run(bundle, id=f"{name}-{n}", capture_output=True) for n in range(3)]
        return await asyncio.gather(*runs)

print(ocirun.run(bundle, id=name, capture_output=True, text=True).stdout, end="")
print([done.stdout for done in asyncio.run(several())])
with ocirun.Runtime() as runtime:
    held = runtime.create(name, bundle)
    print(held.state()["owner"], [info.id == name for info in runtime.list()])
    held.delete(force=True)
"""


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("ids", ["own", "ranges"])
def test_library(
    user: User,
    box: Bundle,
    installed: Installation,
    account: Callable[..., None],
    ids: str,
) -> None:
    account()
    if ids == "ranges":
        ranges(box).set("/process/user", {"uid": 5, "gid": 5})
    program = LIBRARY.replace("PATHS", repr(installed.paths))
    done = user.call(installed.python, "-c", program, box.sh("id -u").write(), box.id)
    uid = 5 if ids == "ranges" else 0
    wanted = f"{uid}\n{[b'%d' % uid + bytes([10])] * 3}\n{UID} [True]\n"
    assert (done.stdout, done.stderr) == (wanted, "")
