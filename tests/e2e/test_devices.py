"""Default file systems, devices and symlinks; devices of config.json; masked and read-only paths."""

import os
import stat

import pytest
from lib import mountinfo
from lib.bundle import Bundle
from lib.runtime import Runtime

STANDARD = {
    "null": "1:3",
    "zero": "1:5",
    "full": "1:7",
    "random": "1:8",
    "urandom": "1:9",
    "tty": "5:0",
}


@pytest.mark.parametrize("user", [False, True], ids=["root", "user-namespace"])
def test_standard_devices(runtime: Runtime, bundle: Bundle, user: bool) -> None:
    if user:
        bundle.user_namespace()
    bundle.sh("cd /dev; stat -c '%n %t:%T %a %F' null zero full random urandom tty")
    seen = [line.split(maxsplit=3) for line in runtime.run(bundle).ok().out.splitlines()]
    assert {name: number for name, number, _, _ in seen} == STANDARD
    assert {mode for _, _, mode, _ in seen} == {"666"}
    assert {kind for *_, kind in seen} == {"character special file"}


def test_standard_devices_work(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh(
        "echo lost > /dev/null; head -c 4 /dev/zero | xxd -p; head -c 8 /dev/urandom | wc -c;"
        "head -c 8 /dev/random | wc -c; echo x > /dev/full || echo full"
    )
    assert runtime.run(bundle).ok().out.split() == ["00000000", "8", "8", "full"]


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ],
)
def test_symlinks(runtime: Runtime, bundle: Bundle, link: str, target: str) -> None:
    assert runtime.run(bundle.sh(f"readlink /dev/{link}")).ok().out.strip() == target


def test_ptmx(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("ls -lL /dev/ptmx; ls -l /dev/pts/ptmx; exec 3<>/dev/ptmx; ls /dev/pts")
    lines = runtime.run(bundle).ok().out.splitlines()
    assert "5,   2" in lines[0]
    assert lines[2:] == ["0", "ptmx"]


def test_nothing_else_in_dev(runtime: Runtime, bundle: Bundle) -> None:
    names = set(runtime.run(bundle.sh("ls -A /dev")).ok().out.split())
    links = {"fd", "stdin", "stdout", "stderr", "ptmx", "core"}
    assert names - {"core"} == {*STANDARD, *links, "pts", "shm", "mqueue"} - {"core"}


@pytest.mark.parametrize(
    ("point", "type", "flags"),
    [
        ("/proc", "proc", set()),
        ("/sys", "sysfs", {"ro", "nosuid", "nodev", "noexec"}),
        ("/dev", "tmpfs", {"nosuid"}),
        ("/dev/pts", "devpts", {"nosuid", "noexec"}),
        ("/dev/shm", "tmpfs", {"nosuid", "nodev", "noexec"}),
        ("/dev/mqueue", "mqueue", {"nosuid", "nodev", "noexec"}),
    ],
)
def test_default_file_systems(
    runtime: Runtime, bundle: Bundle, point: str, type: str, flags: set[str]
) -> None:
    seen = mountinfo.find(runtime.probe(bundle)["mountinfo"], point)
    assert seen.type == type
    assert flags <= seen.flags


@pytest.mark.parametrize(
    ("place", "type", "options"),
    [
        ("/dev", "bind", ["bind"]),
        ("/dev", "none", ["rbind"]),
        ("/dev", "bind", []),
        ("/dev/.", "bind", ["bind"]),
        ("//dev//", "bind", ["bind"]),
        ("/x/../dev", "bind", ["bind"]),
    ],
)
def test_bound_dev_gets_no_nodes(
    runtime: Runtime, bundle: Bundle, place: str, type: str, options: list[str]
) -> None:
    """Who binds /dev brings the devices along: nothing is made in the source."""
    data = bundle.path / "dev"
    data.mkdir()
    os.mknod(data / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))  # runc can't do without
    for mount in ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"):
        bundle.drop_mount(mount)
    bundle.mount(place, type, str(data), *options)
    runtime.run(bundle.sh("ls /dev")).ok()
    assert [p.name for p in data.iterdir()] == ["null"]


def test_dev_of_its_own_over_a_bound_one(runtime: Runtime, bundle: Bundle) -> None:
    """What is mounted last is what counts, and a remount mounts nothing."""
    data = bundle.path / "dev"
    data.mkdir()
    own = next(mount for mount in bundle.config["mounts"] if mount["destination"] == "/dev")
    for mount in ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"):
        bundle.drop_mount(mount)
    bundle.mount("/dev", "bind", str(data), "bind")
    bundle.add("/mounts", own)
    bundle.mount("/dev", "tmpfs", "", "bind", "remount", "noexec")
    bundle.sh("echo x > /dev/null; stat -c %t:%T /dev/null")
    assert runtime.run(bundle).ok().out == "1:3\n"
    assert not list(data.iterdir())


def test_rootfs_without_a_dev_mount(runtime: Runtime, bundle: Bundle) -> None:
    for mount in ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"):
        bundle.drop_mount(mount)
    bundle.set("/root/readonly", False).sh("stat -c %t:%T /dev/null; echo x > /dev/null")
    assert runtime.run(bundle).ok().out == "1:3\n"


DEVICE = {"path": "/dev/custom", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640}


def test_device_of_config(runtime: Runtime, bundle: Bundle) -> None:
    bundle.add("/linux/devices", {**DEVICE, "uid": 0, "gid": 8})
    bundle.add(
        "/linux/resources/devices",
        {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rw"},
    )
    bundle.sh("stat -c '%t:%T %a %u %g' /dev/custom; head -c 2 /dev/custom | xxd -p")
    assert runtime.run(bundle).ok().out.splitlines() == ["1:5 640 0 8", "0000"]


def test_device_in_a_missing_folder(runtime: Runtime, bundle: Bundle) -> None:
    bundle.add("/linux/devices", {**DEVICE, "path": "/dev/a/b/custom"})
    assert runtime.run(bundle.sh("stat -c %t:%T /dev/a/b/custom")).ok().out == "1:5\n"


def test_mode_of_a_device_ignores_the_callers_umask(runtime: Runtime, bundle: Bundle) -> None:
    bundle.add("/linux/devices", {**DEVICE, "fileMode": 0o666})
    bundle.sh("stat -c %a /dev/custom /dev/null")
    assert runtime.run(bundle, umask=0o077).ok().out.split() == ["666", "666"]


def test_fifo_and_block_device(runtime: Runtime, bundle: Bundle) -> None:
    bundle.add(
        "/linux/devices",
        {"path": "/dev/pipe", "type": "p"},
        {"path": "/dev/block", "type": "b", "major": 7, "minor": 0},
    )
    bundle.sh("stat -c '%F %t:%T' /dev/pipe /dev/block")
    assert runtime.run(bundle).ok().out.splitlines() == ["fifo 0:0", "block special file 7:0"]


def test_device_over_a_standard_one(runtime: Runtime, bundle: Bundle) -> None:
    bundle.add("/linux/devices", {**DEVICE, "path": "/dev/null", "minor": 3, "fileMode": 0o600})
    assert runtime.run(bundle.sh("stat -c '%t:%T' /dev/null")).ok().out == "1:3\n"


# Masked and read-only paths


@pytest.mark.parametrize("user", [False, True], ids=["root", "user-namespace"])
def test_masked_file_and_folder(runtime: Runtime, bundle: Bundle, user: bool) -> None:
    if user:
        bundle.user_namespace()
    (bundle.rootfs / "opt/secret").mkdir()
    (bundle.rootfs / "opt/secret/key").write_text("secret")
    bundle.add("/linux/maskedPaths", "/opt/secret", "/etc/passwd", "/proc/cmdline")
    bundle.sh(
        "cat /etc/passwd /proc/cmdline; ls -A /opt/secret; touch /opt/secret/x || echo readonly"
    )
    result = runtime.run(bundle)
    assert result.out == "readonly\n"


def test_default_masks_hide(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls -A /sys/firmware | wc -l")
    assert runtime.run(bundle).out.split() == ["0", "0"]


def test_missing_masked_paths_are_skipped(runtime: Runtime, bundle: Bundle) -> None:
    bundle.add("/linux/maskedPaths", "/not/there", "/etc/not/there")
    runtime.run(bundle.sh("true")).ok()


def test_missing_readonly_paths_are_skipped(runtime: Runtime, bundle: Bundle) -> None:
    bundle.add("/linux/readonlyPaths", "/neither", "/not/there/either")
    runtime.run(bundle.sh("true")).ok()


def test_readonly_paths(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "opt/data").mkdir()
    bundle.set("/root/readonly", False).add("/linux/readonlyPaths", "/opt/data", "/etc/group")
    bundle.sh(
        "touch /opt/data/x; echo x >> /etc/group; echo 1 > /proc/sys/kernel/pid_max; touch /opt/y"
    )
    result = runtime.run(bundle)
    assert result.err.lower().count("read-only") == 3
    assert os.listdir(bundle.rootfs / "opt/data") == []
    assert (bundle.rootfs / "opt/y").exists()


def test_readonly_path_keeps_the_other_flags(runtime: Runtime, bundle: Bundle) -> None:
    flags = mountinfo.find(runtime.probe(bundle)["mountinfo"], "/proc/sys").flags
    assert "ro" in flags


def test_masks_do_not_touch_the_host(runtime: Runtime, bundle: Bundle) -> None:
    secret = bundle.path / "data/secret"
    secret.parent.mkdir()
    secret.write_text("secret")
    bundle.mount("/mnt", "bind", str(secret.parent), "bind").add(
        "/linux/maskedPaths", "/mnt/secret"
    )
    assert runtime.run(bundle.sh("cat /mnt/secret")).out == ""
    assert secret.read_text() == "secret"
