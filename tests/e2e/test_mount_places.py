"""What can be mounted, and where: files of all kinds, odd places, over the root, very many of them."""

import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lib import mountinfo
from lib.bundle import Bundle
from lib.runtime import Runtime

# Sources


@pytest.mark.spec("/mounts/*/source", "/mounts/*/type")
def test_socket(runtime: Runtime, bundle: Bundle) -> None:
    """A service of the host that the container may speak to, as engines' sockets are."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(bundle.path / "socket"))
        bundle.set("/root/readonly", False)
        bundle.mount("/opt/socket", "bind", str(bundle.path / "socket"), "bind")
        seen = runtime.run(bundle.sh("stat -c '%F %i' /opt/socket")).ok().out
    assert seen == f"socket {(bundle.path / 'socket').stat().st_ino}\n"


@pytest.mark.spec("/mounts/*/source")
def test_fifo(runtime: Runtime, bundle: Bundle) -> None:
    os.mkfifo(bundle.path / "fifo")
    bundle.set("/root/readonly", False)
    bundle.mount("/opt/fifo", "bind", str(bundle.path / "fifo"), "bind").sh(
        "echo hello > /opt/fifo"
    )
    reader = os.open(bundle.path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        runtime.run(bundle).ok()
        assert os.read(reader, 100) == b"hello\n"
    finally:
        os.close(reader)


def test_device(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/root/readonly", False)
    bundle.mount("/opt/zero", "bind", "/dev/zero", "bind").sh("head -c 3 /opt/zero | wc -c")
    assert runtime.run(bundle).ok().out.strip() == "3"


@pytest.mark.parametrize("what", ["file", "folder"])
@pytest.mark.parametrize("target", ["absolute", "relative", "chain"])
def test_source_symlinks_are_followed(
    runtime: Runtime, bundle: Bundle, what: str, target: str
) -> None:
    """On the host: the source belongs to whoever writes config.json."""
    data = bundle.path / "data"
    if what == "file":
        data.write_text("text")
    else:
        data.mkdir()
        (data / "file").write_text("text")
    link = bundle.path / "link"
    os.symlink(str(data) if target == "absolute" else "data", link)
    if target == "chain":
        os.symlink("link", bundle.path / "second")
        link = bundle.path / "second"
    bundle.set("/root/readonly", False).mount("/opt/x", "bind", str(link), "bind")
    bundle.sh("test ! -L /opt/x && cat /opt/x" + ("" if what == "file" else "/file"))
    assert runtime.run(bundle).ok().out == "text"


def test_source_that_is_a_loop(runtime: Runtime, bundle: Bundle) -> None:
    os.symlink("loop", bundle.path / "loop")
    runtime.run(bundle.mount("/mnt", "bind", "loop", "bind")).failed("too many|no such file")


@pytest.mark.spec("/mounts/*/source")
@pytest.mark.parametrize("source", ["data", "./data", "deeper/../data", "../{name}/data"])
def test_relative_sources(runtime: Runtime, bundle: Bundle, source: str) -> None:
    (bundle.path / "data").mkdir()
    (bundle.path / "deeper").mkdir()
    (bundle.path / "data/file").touch()
    bundle.mount("/mnt", "bind", source.format(name=bundle.path.name), "rbind").sh("ls /mnt")
    assert runtime.run(bundle).ok().out == "file\n"


@pytest.mark.parametrize(
    ("source", "destination"), [("/etc/hostname", "/mnt"), ("/etc", "/etc/passwd")]
)
def test_file_on_a_folder_and_folder_on_a_file(
    runtime: Runtime, bundle: Bundle, source: str, destination: str
) -> None:
    (bundle.rootfs / "etc/hostname").touch()
    bundle.mount(destination, "bind", str(bundle.rootfs) + source, "bind")
    runtime.run(bundle).failed("not a directory|is not directory|is a directory")


@pytest.mark.only("ocirun")
def test_bind_without_a_source(runtime: Runtime, bundle: Bundle) -> None:
    bundle.add("/mounts", {"destination": "/mnt", "options": ["bind"]})
    runtime.run(bundle).failed("source", "/mounts/7")


# Types


@pytest.mark.spec("/mounts/*/type")
@pytest.mark.parametrize("type", ["none", "bind", "rbind", "tmpfs", "nosuchfs"])
def test_type_means_nothing_to_a_bind_mount(runtime: Runtime, bundle: Bundle, type: str) -> None:
    bundle.mount("/mnt", type, "rootfs/etc", "rbind").sh("ls /mnt")
    assert "passwd" in runtime.run(bundle).ok().out


@pytest.mark.spec("/mounts/*/type")
@pytest.mark.parametrize("type", ["none", "nosuchfs", "TMPFS"])
def test_no_such_type(runtime: Runtime, bundle: Bundle, type: str) -> None:
    runtime.run(bundle.mount("/mnt", type, "none")).failed("no such device")


@pytest.mark.only("ocirun")
def test_missing_type(runtime: Runtime, bundle: Bundle) -> None:
    bundle.add("/mounts", {"destination": "/mnt", "source": "none"})
    runtime.run(bundle).failed("type", "rbind")


@pytest.mark.spec("/mounts/*/type")
@pytest.mark.parametrize(
    ("type", "options"),
    [
        ("tmpfs", None),
        ("tmpfs", []),
        ("ramfs", ["mode=700"]),
        ("proc", ["nosuid"]),
        ("sysfs", ["ro"]),
        ("mqueue", ["nosuid"]),
        ("devpts", ["newinstance", "mode=0620"]),
        ("bpf", ["mode=0700"]),
        ("hugetlbfs", ["pagesize=2M"]),
    ],
)
def test_file_systems(
    runtime: Runtime, bundle: Bundle, type: str, options: list[str] | None
) -> None:
    mount: dict[str, Any] = {"destination": "/mnt", "type": type, "source": "mark"}
    bundle.add("/mounts", mount if options is None else {**mount, "options": options})
    seen = mountinfo.find(runtime.probe(bundle)["mountinfo"], "/mnt")
    assert (seen.type, seen.source) == (type, "mark")


def test_file_system_on_a_block_device(runtime: Runtime, bundle: Bundle) -> None:
    """With data of its own. The image of the file system is a file behind a loop device."""
    if not shutil.which("mkfs.ext4") or not list(Path("/dev").glob("loop-control")):
        pytest.skip("needs mkfs.ext4 and loop devices")
    image = bundle.path / "image"
    image.write_bytes(bytes(4 << 20))
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    device = subprocess.run(
        ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        bundle.mount("/mnt", "ext4", device, "ro", "errors=continue", "noload")
        seen = mountinfo.find(runtime.probe(bundle)["mountinfo"], "/mnt")
        assert (seen.type, seen.source) == ("ext4", device)
        assert "norecovery" in seen.super
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


# Destinations


@pytest.mark.spec("/mounts/*/destination")
@pytest.mark.parametrize(
    ("links", "destination", "point"),
    [
        ({"opt/a": "b", "opt/b": "c", "opt/c": "/mnt"}, "/opt/a", "/mnt"),
        ({"opt/a": "/opt/b/../../mnt", "opt/b": "/etc"}, "/opt/a", "/mnt"),
        ({"opt/a": "../../../mnt/x"}, "/opt/a/y", "/mnt/x/y"),
        ({"opt/a": "."}, "/opt/a/a/a/z", "/opt/z"),
        ({"opt/a": "new", "opt/new": "newer"}, "/opt/a/z", "/opt/newer/z"),
        ({"opt/a": "//mnt//"}, "/opt/a", "/mnt"),
    ],
)
def test_destinations_through_symlinks(
    runtime: Runtime, bundle: Bundle, links: dict[str, str], destination: str, point: str
) -> None:
    for link, target in links.items():
        os.symlink(target, bundle.rootfs / link)
    bundle.mount(destination, "tmpfs", "mark")
    assert mountinfo.find(runtime.probe(bundle)["mountinfo"], point).source == "mark"


@pytest.mark.spec("/mounts/*/destination")
@pytest.mark.parametrize("type", ["tmpfs", "bind"])
@pytest.mark.parametrize(
    "links", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "/opt/b", "b": "../opt/a"}]
)
def test_destinations_that_are_loops(
    runtime: Runtime, bundle: Bundle, type: str, links: dict[str, str]
) -> None:
    for link, target in links.items():
        os.symlink(target, bundle.rootfs / "opt" / link)
    for destination in ("/opt/a", "/opt/a/b"):
        bundle.mount(destination, type, str(bundle.rootfs / "etc"), *(["bind"] * (type == "bind")))
    runtime.run(bundle).failed("too many|symbolic link|loop|not a directory|exists")


def test_destination_below_a_file(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.mount("/etc/passwd/x", "tmpfs", "none")).failed("not a directory")


# Over the root


@pytest.fixture
def other(bundle: Bundle) -> Path:
    """Another root file system beside the bundle's."""
    folder = bundle.path / "other"
    subprocess.run(["cp", "-a", bundle.rootfs, folder], check=True)
    (folder / "mark").touch()
    return folder


@pytest.mark.spec("/mounts/*/destination")
def test_another_root(runtime: Runtime, bundle: Bundle, other: Path) -> None:
    bundle.config["mounts"].insert(
        0, {"destination": "/", "type": "bind", "source": str(other), "options": ["rbind"]}
    )
    bundle.sh("ls -d /mark /proc/self; touch /new && echo written; cat /proc/mounts")
    seen = runtime.run(bundle).out
    assert seen.startswith("/mark\n/proc/self\n")
    assert "written" not in seen, "root.readonly is about the root that there is in the end"
    assert [line.split()[1] for line in seen.splitlines() if " / " in line] == ["/"]
    assert not (bundle.rootfs / "new").exists()


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("propagation", ["private", "rslave", "rshared", None])
def test_a_tmpfs_as_the_root(runtime: Runtime, bundle: Bundle, propagation: str | None) -> None:
    """Filled with the image: a root that forgets."""
    if propagation:
        bundle.set("/linux/rootfsPropagation", propagation)
    bundle.config["mounts"].insert(
        0, {"destination": "/", "type": "tmpfs", "source": "mark", "options": ["tmpcopyup"]}
    )
    bundle.set("/root/readonly", False).sh(
        "echo x > /opt/new; cat /opt/new; grep ' / ' /proc/mounts"
    )
    seen = runtime.run(bundle).ok().out.split()
    assert seen[:3] == ["x", "mark", "/"]
    assert not (bundle.rootfs / "opt/new").exists()


@pytest.mark.only("ocirun")
def test_a_cgroup_as_the_root(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.mount("/", "cgroup", "cgroup")).failed("cannot be the root")


# tmpcopyup


@pytest.mark.spec("/mounts/*/options")
def test_tmpcopyup_copies_what_there_is(runtime: Runtime, bundle: Bundle) -> None:
    data = bundle.rootfs / "opt/data"
    (data / "deep/er").mkdir(parents=True)
    (data / "deep/er/file").write_text("x" * 3_000_000)
    (data / "deep").chmod(0o1751)
    (data / "set").write_text("")
    (data / "set").chmod(0o4755)
    os.chown(data / "deep/er", 7, 8)
    os.symlink("/etc/passwd", data / "link")
    os.link(data / "set", data / "hard")
    bundle.mount("/opt/data", "tmpfs", "tmpfs", "tmpcopyup", "size=16m", "noexec")
    bundle.sh(
        "cd /opt/data; wc -c < deep/er/file; stat -c '%a %u:%g %F' deep deep/er set hard; "
        "readlink link; echo more >> deep/er/file && echo written"
    )
    assert runtime.run(bundle).ok().out.splitlines() == [
        "3000000",
        "1751 0:0 directory",
        "755 7:8 directory",
        "4755 0:0 regular empty file",
        "4755 0:0 regular empty file",
        "/etc/passwd",
        "written",
    ]
    assert (data / "deep/er/file").stat().st_size == 3_000_000


def test_tmpcopyup_that_does_not_fit(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "opt/big").write_bytes(bytes(2 << 20))
    bundle.mount("/opt", "tmpfs", "tmpfs", "tmpcopyup", "size=1m")
    runtime.run(bundle).failed("no space")


@pytest.mark.only("ocirun")
def test_tmpcopyup_into_nothing(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/new/place", "tmpfs", "tmpfs", "tmpcopyup").sh("ls -A /new/place | wc -l")
    assert runtime.run(bundle).ok().out.strip() == "0"


# Very many, very long


@pytest.mark.only("ocirun")  # the others take minutes
@pytest.mark.parametrize("type", ["tmpfs", "bind"])
def test_ten_thousand_mounts(runtime: Runtime, bundle: Bundle, type: str) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", "nr_inodes=0")
    options = ["bind", "ro"] if type == "bind" else ["size=4k"]
    for number in range(10_000):
        bundle.mount(f"/mnt/{number}", type, str(bundle.rootfs / "etc"), *options)
    bundle.sh("wc -l < /proc/self/mountinfo")
    assert int(runtime.run(bundle).ok().out) > 10_000
    bundle.mount("/mnt/last", "tmpfs", "none", "nonsense")
    runtime.run(bundle).failed("nonsense", "/mounts/10008")


@pytest.mark.parametrize(
    "mount",
    [
        {"type": "bind", "source": "/" + "x" * 2**20, "options": ["bind"]},
        {"type": "bind", "source": "/x" * 2**19, "options": ["bind"]},
        {"type": "tmpfs", "source": "x" * 2**20},
        {"type": "x" * 2**20, "source": "x"},
        {"type": "tmpfs", "source": "x", "options": ["x" * 2**20]},
        {"type": "tmpfs", "source": "x", "options": ["size=" + "9" * 2**20]},
        {"type": "tmpfs", "source": "x", "options": [f"x{n}" for n in range(100_000)]},
        {"type": "tmpfs", "source": "x", "destination": "/mnt/" + "x" * 2**20},
        {"type": "tmpfs", "source": "x", "destination": "/mnt/" + "x" * 256},
    ],
    ids=["source", "deep-source", "name", "type", "option", "value", "options",
         "destination", "component"],
)  # fmt: skip
@pytest.mark.only("ocirun")
def test_absurd_sizes(runtime: Runtime, bundle: Bundle, mount: dict[str, Any]) -> None:
    bundle.add("/mounts", {"destination": "/mnt", **mount})
    failure = runtime.run(bundle).failed()
    assert "/mounts/7" in failure.err
    assert "internal error" not in failure.err
    assert len(failure.err) < 20_000


@pytest.mark.only("ocirun")  # the others heed the umask
def test_mode_of_what_is_made(runtime: Runtime, bundle: Bundle) -> None:
    """Whatever the caller's umask is."""
    (bundle.path / "file").touch()
    bundle.mount("/new/a", "bind", str(bundle.path), "bind")
    bundle.mount("/new/b", "bind", str(bundle.path / "file"), "bind")
    runtime.run(bundle.sh("true"), prefix=("sh", "-c", 'umask 077; exec "$@"', "sh")).ok()
    modes = [stat.S_IMODE((bundle.rootfs / p).stat().st_mode) for p in ("new", "new/a", "new/b")]
    assert modes == [0o755] * 3
