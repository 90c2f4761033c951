"""Imports that need root: owners, devices, setuid, capabilities, a full disk; and one without."""

import os
import stat
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from lib.archives import Canary, directory, docker_save, entry, file, listing, make_tar, symlink

from ocirun.errors import ImageError
from ocirun.image.importer import import_image
from ocirun.image.store import Store
from ocirun.image.users import resolve_user

pytestmark = pytest.mark.root

# cap_net_raw=ep, as vfs_cap_data version 2 (capabilities(7)).
NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def load(tmp_path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "source.tar").write_bytes(make_tar(*entries))
    return Path(
        import_image("x", str(tmp_path / "source.tar"), data_root=str(tmp_path / "d")).rootfs
    )


def with_xattrs(
    item: tuple[tarfile.TarInfo, bytes], **xattrs: bytes
) -> tuple[tarfile.TarInfo, bytes]:
    item[0].pax_headers = {
        "SCHILY.xattr." + name.replace("__", "."): value.decode("utf-8", "surrogateescape")
        for name, value in xattrs.items()
    }
    return item


def test_owners_and_setuid(tmp_path: Path) -> None:
    root = load(
        tmp_path,
        directory("d", uid=5, gid=6, mode=0o2775),
        file("d/su", b"x", uid=0, gid=7, mode=0o4755),
        file("d/sg", b"x", uid=8, gid=9, mode=0o2711),
        symlink("l", "d/su", uid=10, gid=11),
        directory("tmp", mode=0o1777),
        entry("pipe", tarfile.FIFOTYPE, uid=12, gid=13, mode=0o622),
    )

    def facts(name: str) -> tuple[int, int, int]:
        status = (root / name).lstat()
        return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)

    assert facts("d") == (5, 6, 0o2775)
    assert facts("d/su") == (0, 7, 0o4755)
    assert facts("d/sg") == (8, 9, 0o2711)
    assert facts("l") == (10, 11, 0o777)
    assert facts("tmp")[2] == 0o1777
    assert facts("pipe") == (12, 13, 0o622)


def test_devices_are_made_and_never_opened(tmp_path: Path) -> None:
    """Block device 7:77 does not exist: opening it would fail with ENXIO."""
    root = load(
        tmp_path,
        entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("disk", tarfile.BLKTYPE, devmajor=7, devminor=77, mode=0o660, gid=6),
    )
    null, disk = (root / "null").lstat(), (root / "disk").lstat()
    assert stat.S_ISCHR(null.st_mode) and null.st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE(null.st_mode) == 0o666
    assert stat.S_ISBLK(disk.st_mode) and disk.st_rdev == os.makedev(7, 77)
    assert (disk.st_gid, stat.S_IMODE(disk.st_mode)) == (6, 0o660)
    copy = import_image("copy", str(root), data_root=str(tmp_path / "d"))
    assert Path(copy.rootfs, "disk").lstat().st_rdev == os.makedev(7, 77)


def test_a_device_as_passwd_is_not_opened(tmp_path: Path) -> None:
    """The kernel has no driver for it: open(2) would say ENXIO."""
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        trap = entry("etc/passwd", kind, devmajor=4000, devminor=77)
        root = load(tmp_path / kind.decode(), trap)
        with pytest.raises(ImageError, match="not a regular file"):
            resolve_user(str(root), "root")


def test_a_file_over_a_device_does_not_write_to_it(tmp_path: Path) -> None:
    null = entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    root = load(tmp_path, null, file("null", b"data"))
    assert listing(root) == {"null": "data"}


def test_xattrs(tmp_path: Path) -> None:
    ping = with_xattrs(
        file("ping", b"x", mode=0o755, uid=3),
        security__capability=NET_RAW,
        user__note=b"\xff\0\n=",
        user__overlay__opaque=b"y",
        trusted__overlay__redirect=b"/etc",
        security__selinux=b"system_u",
    )
    root = load(tmp_path, ping, with_xattrs(directory("d"), user__note=b"n"))
    assert sorted(os.listxattr(root / "ping")) == ["security.capability", "user.note"]
    assert os.getxattr(root / "ping", "security.capability") == NET_RAW
    assert os.getxattr(root / "ping", "user.note") == b"\xff\0\n="
    assert os.listxattr(root / "d") == ["user.note"]
    copy = import_image("copy", str(root), data_root=str(tmp_path / "d"))
    assert os.getxattr(copy.rootfs + "/ping", "security.capability") == NET_RAW


def test_a_directory_s_mounts_are_not_entered(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "etc").mkdir(parents=True)
    (source / "mnt").mkdir()
    script = (
        "mount -t tmpfs none $1/mnt && touch $1/mnt/file &&"
        " mount --bind $1/mnt/file $1/bound && exec $2 -m ocirun image import x $1 --data-root $3"
    )
    (source / "bound").write_text("")
    command = ["unshare", "-m", "sh", "-c", script, "sh", source, sys.executable, tmp_path / "d"]
    subprocess.run(command, check=True, timeout=50)
    root = Path(Store(str(tmp_path / "d")).find_image("x").rootfs)
    assert listing(root) == {"etc": "directory", "mnt": "directory"}


# --- a full disk ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rootfs", "compressed", "docker", "directory"])
@pytest.mark.parametrize("limit", ["size=1m", "nr_inodes=20"])
def test_full_disk(tmp_path: Path, kind: str, limit: str) -> None:
    """On a small tmpfs, seen in a private mount namespace only."""
    files = [file(f"f{number}", os.urandom(40_000)) for number in range(60)]
    source = tmp_path / "source"
    data = make_tar(*files)
    match kind:
        case "rootfs":
            source.write_bytes(data)
        case "compressed":
            import gzip

            source.write_bytes(gzip.compress(data))
        case "docker":
            source.write_bytes(docker_save(data))
        case "directory":
            source.mkdir()
            for info, content in files:
                (source / info.name).write_bytes(content)
    (tmp_path / "d").mkdir()
    script = (
        "mount -t tmpfs -o $4 none $3 || exit 99;"
        " $2 -m ocirun --log-format json --log $5 image import x $1 --data-root $3; status=$?;"
        " ls -A $3/images $3/containers; exit $status"
    )
    arguments = [source, sys.executable, tmp_path / "d", limit, tmp_path / "log"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 1, done
    assert "no space left on device" in done.stderr.lower()
    assert "free some space" in done.stderr
    assert done.stdout.split() == [f"{tmp_path}/d/containers:", f"{tmp_path}/d/images:"]


# --- without root -----------------------------------------------------------------


def test_an_ordinary_user_can_import(tmp_path: Path) -> None:
    source = tmp_path / "source.tar"
    source.write_bytes(
        docker_save(
            make_tar(
                directory("locked", mode=0o500, uid=5),
                file("locked/old", b"1", mode=0o400),
                file("su", b"x", mode=0o6755),
                entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
            ),
            make_tar(file("locked/.wh.old"), file("locked/new", b"2")),
        )
    )
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 1234, 1234)
    for parent in [tmp_path, *tmp_path.parents[:2]]:
        os.chmod(parent, 0o755)  # pytest's own folders are private to root
    script = f"""
import os
from ocirun.image.importer import import_image
from ocirun.image.store import Store
os.setgroups([]); os.setresgid(1234, 1234, 1234); os.setresuid(1234, 1234, 1234)
image = import_image("x", {str(source)!r}, data_root={str(home / "d")!r})
root = image.rootfs
assert sorted(os.listdir(root)) == ["locked", "su"], os.listdir(root)
assert os.listdir(root + "/locked") == ["new"]
assert os.stat(root + "/locked").st_mode & 0o7777 == 0o700
assert os.stat(root + "/su").st_mode & 0o7777 == 0o755
os.mkdir(root + "/closed"); os.mkdir(root + "/closed/deep"); os.mkdir(root + "/closed/deep/er")
os.chmod(root + "/closed/deep", 0); os.chmod(root + "/closed", 0)
Store({str(home / "d")!r}).remove_image("x")
assert os.listdir({str(home / "d" / "images")!r}) == []
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)


def test_remove_tree_enters_no_mount(tmp_path: Path) -> None:
    canary = Canary(tmp_path / "canary")
    (tmp_path / "source.tar").write_bytes(make_tar(directory("a/b"), file("f")))
    script = """
import os, subprocess, sys
from ocirun.errors import ImageError
from ocirun.image.importer import import_image
from ocirun.image.store import Store
data, source, canary = sys.argv[1:]
image = import_image("x", source, data_root=data)
subprocess.run(["mount", "--bind", canary, image.rootfs + "/a/b"], check=True)
try:
    Store(data).remove_image("x")
except ImageError as error:
    print(error.errno)
"""
    command = ["unshare", "-m", sys.executable, "-c", script]
    arguments = [str(tmp_path / "d"), str(tmp_path / "source.tar"), str(canary.root)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=50)
    assert done.stdout == "16\n", done  # EBUSY
    canary.check()
