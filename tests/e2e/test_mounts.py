"""Mounts: every option of the specification's table, destinations, sources, tmpfs data."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lib import mountinfo
from lib.bundle import Bundle
from lib.mountinfo import Mount
from lib.runtime import Runtime


def mounted(runtime: Runtime, bundle: Bundle, point: str = "/mnt") -> Mount:
    """Runs the probe; the mount that it sees at the mount point."""
    return mountinfo.find(runtime.probe(bundle)["mountinfo"], point)


# option -> flags that are there, flags that are not
FLAGS = {
    "ro": ({"ro"}, {"rw"}),
    "rw": ({"rw"}, {"ro"}),
    "nosuid": ({"nosuid"}, set()),
    "suid": (set(), {"nosuid"}),
    "nodev": ({"nodev"}, set()),
    "dev": (set(), {"nodev"}),
    "noexec": ({"noexec"}, set()),
    "exec": (set(), {"noexec"}),
    "noatime": ({"noatime"}, {"relatime"}),
    "atime": (set(), {"noatime"}),
    "relatime": ({"relatime"}, {"noatime"}),
    "strictatime": (set(), {"relatime", "noatime"}),
    "nodiratime": ({"nodiratime"}, set()),
    "diratime": (set(), {"nodiratime"}),
    "nosymfollow": ({"nosymfollow"}, set()),
    "symfollow": (set(), {"nosymfollow"}),
    "norelatime": (set(), {"noatime"}),
    "nostrictatime": ({"relatime"}, {"noatime"}),
}
# Options that are kept by the file system, or leave no trace in mountinfo.
SUPER = {
    "sync": ({"sync"}, set()),
    "async": (set(), {"sync"}),
    "dirsync": ({"dirsync"}, set()),
    "mand": (set(), set()),  # the kernel has no mandatory locks since 5.15, and ignores it
    "nomand": (set(), set()),
    "lazytime": ({"lazytime"}, set()),
    "nolazytime": (set(), {"lazytime"}),
    "iversion": (set(), set()),
    "noiversion": (set(), set()),
    "silent": (set(), set()),
    "loud": (set(), set()),
    "defaults": (set(), set()),
}


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize("option", FLAGS)
def test_flags_of_a_tmpfs(runtime: Runtime, bundle: Bundle, option: str) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", option)
    seen, (there, missing) = mounted(runtime, bundle), FLAGS[option]
    assert there <= seen.flags
    assert not missing & seen.flags


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize("option", SUPER)
def test_options_of_the_file_system(runtime: Runtime, bundle: Bundle, option: str) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", option)
    seen, (there, missing) = mounted(runtime, bundle), SUPER[option]
    assert there <= seen.super
    assert not missing & seen.super


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize("option", FLAGS)
def test_flags_of_a_bind_mount(runtime: Runtime, bundle: Bundle, option: str) -> None:
    bundle.mount("/mnt", "bind", str(bundle.rootfs / "etc"), "bind", option)
    seen, (there, missing) = mounted(runtime, bundle), FLAGS[option]
    assert there <= seen.flags
    assert not missing & seen.flags


def test_many_flags(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "bind", "rootfs/etc", "rbind", "ro", "nosuid", "nodev", "noexec")
    assert {"ro", "nosuid", "nodev", "noexec"} <= mounted(runtime, bundle).flags


def test_the_last_of_two_options_that_exclude_each_other_wins(
    runtime: Runtime, bundle: Bundle
) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", "ro", "noexec", "rw", "exec")
    seen = mounted(runtime, bundle).flags
    assert "rw" in seen
    assert "noexec" not in seen


def test_bind_mount_keeps_locked_flags_of_its_source(runtime: Runtime, bundle: Bundle) -> None:
    """In a user namespace the kernel refuses to drop them: mount_namespaces(7)."""
    bundle.user_namespace()
    source = bundle.path / "source"
    source.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "none", source], check=True
    )
    try:
        bundle.mount("/mnt", "bind", str(source), "bind", "ro")
        assert {"ro", "nosuid", "nodev", "noexec"} <= mounted(runtime, bundle).flags
    finally:
        subprocess.run(["umount", source], check=True)


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize(
    ("option", "peers"),
    [
        ("private", set()),
        ("rprivate", set()),
        ("shared", {"shared"}),
        ("rshared", {"shared"}),
        ("slave", {"master"}),
        ("rslave", {"master"}),
        ("unbindable", {"unbindable"}),
        ("runbindable", {"unbindable"}),
    ],
)
def test_propagation(runtime: Runtime, bundle: Bundle, option: str, peers: set[str]) -> None:
    if option.endswith(("slave", "shared")):
        bundle.set("/linux/rootfsPropagation", option)
    bundle.mount("/mnt", "bind", str(bundle.rootfs / "etc"), "bind", option)
    seen = mounted(runtime, bundle).peers
    assert peers <= seen
    if not peers:
        assert seen == set()


@pytest.fixture
def tree(bundle: Bundle) -> Iterator[Path]:
    """A folder with a tmpfs mounted on its `sub`."""
    source = bundle.path / "source"
    (source / "sub").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "sub"], check=True)
    (source / "sub/below").touch()
    yield source
    subprocess.run(["umount", source / "sub"], check=True)


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize(("option", "below"), [("bind", False), ("rbind", True)])
def test_bind_is_one_mount_and_rbind_a_tree(
    runtime: Runtime, bundle: Bundle, tree: Path, option: str, below: bool
) -> None:
    bundle.mount("/mnt", "bind", str(tree), option).sh("ls /mnt/sub")
    assert ("below" in runtime.run(bundle).ok().out) == below


@pytest.mark.parametrize(
    ("option", "flag"),
    [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnodiratime", "nodiratime"),
        ("rnoatime", "noatime"),
        ("rrelatime", "relatime"),
        ("rnosymfollow", "nosymfollow"),
    ],
)
def test_recursive_flags(
    runtime: Runtime, bundle: Bundle, tree: Path, option: str, flag: str
) -> None:
    bundle.mount("/mnt", "bind", str(tree), "rbind", option)
    text = runtime.probe(bundle)["mountinfo"]
    assert flag in mountinfo.find(text, "/mnt").flags
    assert flag in mountinfo.find(text, "/mnt/sub").flags


@pytest.mark.parametrize(
    "option",
    ["rrw", "rsuid", "rdev", "rexec", "rdiratime", "ratime", "rstrictatime", "rsymfollow",
     "rnorelatime", "rnostrictatime"],
)  # fmt: skip
def test_recursive_flags_that_clear(
    runtime: Runtime, bundle: Bundle, tree: Path, option: str
) -> None:
    bundle.mount("/mnt", "bind", str(tree), "rbind", option)
    text = runtime.probe(bundle)["mountinfo"]
    cleared = {"rrw": "ro", "rsuid": "nosuid", "rdev": "nodev", "rexec": "noexec",
               "rdiratime": "nodiratime", "ratime": "noatime", "rstrictatime": "relatime",
               "rsymfollow": "nosymfollow", "rnorelatime": "noatime",
               "rnostrictatime": "noatime"}[option]  # fmt: skip
    assert cleared not in mountinfo.find(text, "/mnt/sub").flags


def test_plain_ro_is_not_recursive(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    bundle.mount("/mnt", "bind", str(tree), "rbind", "ro")
    text = runtime.probe(bundle)["mountinfo"]
    assert "ro" in mountinfo.find(text, "/mnt").flags
    assert "rw" in mountinfo.find(text, "/mnt/sub").flags


def test_remount(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", "rw")
    bundle.mount("/mnt", "tmpfs", "tmpfs", "remount", "ro", "nosuid")
    seen = [m for m in mountinfo.parse(runtime.probe(bundle)["mountinfo"]) if m.point == "/mnt"]
    assert len(seen) == 1
    assert {"ro", "nosuid"} <= seen[0].flags


@pytest.mark.spec("/mounts/*/options")
def test_unknown_option_goes_to_the_file_system(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount(
        "/mnt", "tmpfs", "tmpfs", "size=1m", "mode=1750", "uid=7", "gid=8", "nr_inodes=100"
    )
    bundle.sh(
        "stat -c '%a %u %g' /mnt; df -k /mnt | tail -1 | awk '{print $2}'; df -i /mnt | tail -1 | awk '{print $2}'"
    )
    assert runtime.run(bundle).ok().out.split() == ["1750", "7", "8", "1024", "100"]


def test_option_that_the_file_system_refuses(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.mount("/mnt", "tmpfs", "tmpfs", "nonsense=1")).failed("invalid argument")


def test_unknown_file_system(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.mount("/mnt", "nosuchfs", "none")).failed("no such device")


@pytest.mark.spec("/mounts")
def test_order_of_mounts_is_kept(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "first", "mode=755").mount("/mnt/a", "tmpfs", "second")
    bundle.mount("/mnt/a/b", "tmpfs", "third")
    seen = mountinfo.parse(runtime.probe(bundle)["mountinfo"])
    assert [m.source for m in seen if m.point.startswith("/mnt")] == ["first", "second", "third"]


def test_later_mount_covers_an_earlier_one(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "first", "size=1m").mount("/mnt", "tmpfs", "second", "size=2m")
    assert mounted(runtime, bundle).source == "second"


# Destinations


@pytest.mark.spec("/mounts/*/destination")
@pytest.mark.parametrize("type", ["bind", "tmpfs"])
def test_missing_destination_is_made(runtime: Runtime, bundle: Bundle, type: str) -> None:
    options = ["bind"] if type == "bind" else []
    bundle.mount("/opt/a/b/c", type, str(bundle.rootfs / "etc"), *options)
    mounted(runtime, bundle, "/opt/a/b/c")
    assert (bundle.rootfs / "opt/a/b/c").is_dir()


def test_missing_destination_of_a_file_is_made(runtime: Runtime, bundle: Bundle) -> None:
    source = bundle.path / "file"
    source.write_text("text\n")
    bundle.mount("/opt/new/file", "bind", str(source), "bind", "ro").sh("cat /opt/new/file")
    assert runtime.run(bundle).ok().out == "text\n"
    assert (bundle.rootfs / "opt/new/file").is_file()
    assert (bundle.rootfs / "opt/new/file").read_text() == ""


def test_bind_mount_of_a_file_over_a_file(runtime: Runtime, bundle: Bundle) -> None:
    source = bundle.path / "file"
    source.write_text("text\n")
    bundle.mount("/etc/passwd", "bind", str(source), "bind").sh("cat /etc/passwd")
    assert runtime.run(bundle).ok().out == "text\n"
    assert (bundle.rootfs / "etc/passwd").read_text() != "text\n"


@pytest.mark.parametrize(
    ("link", "target", "destination", "point"),
    [
        ("mnt/link", "/etc", "/mnt/link", "/etc"),
        ("mnt/link", "/etc", "/mnt/link/sub", "/etc/sub"),
        ("mnt/link", "../etc", "/mnt/link/sub", "/etc/sub"),
        ("mnt/link", "../../../../../../etc", "/mnt/link/sub", "/etc/sub"),
        ("mnt/link", "/opt/../etc/.", "/mnt/link/sub", "/etc/sub"),
        ("mnt/link", "/not/yet/there", "/mnt/link", "/not/yet/there"),
    ],
)
def test_symlinks_in_the_image_stay_in_the_image(
    runtime: Runtime, bundle: Bundle, link: str, target: str, destination: str, point: str
) -> None:
    os.symlink(target, bundle.rootfs / link)
    bundle.mount(destination, "tmpfs", "mark")
    assert mounted(runtime, bundle, point).source == "mark"
    assert not os.path.exists("/etc/sub")
    assert not os.path.exists("/not")


@pytest.mark.parametrize(
    ("destination", "point"),
    [("/opt/../mnt", "/mnt"), ("/mnt/", "/mnt"), ("//mnt/./x", "/mnt/x"), ("/../../mnt", "/mnt")],
)
def test_odd_destinations(runtime: Runtime, bundle: Bundle, destination: str, point: str) -> None:
    bundle.mount(destination, "tmpfs", "mark")
    assert mounted(runtime, bundle, point).source == "mark"


def test_name_with_spaces_and_newlines(runtime: Runtime, bundle: Bundle) -> None:
    source = bundle.path / "a b\nc"
    source.mkdir()
    (source / "file").touch()
    bundle.mount("/mnt/d e\nf", "bind", str(source), "bind").sh("ls '/mnt/d e\nf'")
    assert runtime.run(bundle).ok().out == "file\n"


# Sources


@pytest.mark.spec("/mounts/*/source")
def test_relative_source_is_relative_to_the_bundle(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "data").mkdir()
    (bundle.path / "data/file").touch()
    bundle.mount("/mnt", "bind", "data", "bind").sh("ls /mnt").write()
    result = runtime.call("run", "--bundle", bundle.path, bundle.id, cwd="/")
    assert result.ok().out == "file\n"


def test_missing_source(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.mount("/mnt", "bind", "/nonexistent", "bind")).failed("no such file")


def test_source_that_is_a_symlink(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "data").mkdir()
    (bundle.path / "data/file").touch()
    os.symlink("data", bundle.path / "link")
    bundle.mount("/mnt", "bind", str(bundle.path / "link"), "bind").sh("ls /mnt")
    assert runtime.run(bundle).ok().out == "file\n"


def test_bind_without_a_type(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "data").mkdir()
    bundle.add(
        "/mounts",
        {"destination": "/mnt", "source": str(bundle.path / "data"), "options": ["rbind", "ro"]},
    )
    assert "ro" in mounted(runtime, bundle).flags


def test_writes_go_to_the_source(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "data").mkdir()
    bundle.mount("/mnt", "bind", str(bundle.path / "data"), "bind", "rw")
    runtime.run(bundle.sh("echo text > /mnt/file")).ok()
    assert (bundle.path / "data/file").read_text() == "text\n"


def test_readonly_bind_mount_is_readonly(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "data").mkdir()
    bundle.mount("/mnt", "bind", str(bundle.path / "data"), "bind", "ro")
    assert runtime.run(bundle.sh("echo text > /mnt/file")).status != 0
    assert not (bundle.path / "data/file").exists()


@pytest.mark.spec("/mounts/*/options")
def test_tmpcopyup(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/etc", "tmpfs", "tmpfs", "tmpcopyup").sh("cat /etc/group; touch /etc/new")
    assert "extra:x:2000" in runtime.run(bundle).ok().out
    assert not (bundle.rootfs / "etc/new").exists()


def test_nosymfollow_works(runtime: Runtime, bundle: Bundle) -> None:
    data = bundle.path / "data"
    data.mkdir()
    (data / "file").write_text("text")
    os.symlink("file", data / "link")
    bundle.mount("/mnt", "bind", str(data), "bind", "nosymfollow").sh("cat /mnt/link")
    assert "symbolic" in runtime.run(bundle).err.lower()
