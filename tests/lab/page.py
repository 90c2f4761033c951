"""The page lab: a clean Debian with the engines as their packages set them up, under systemd.

In it docs/engines.md is followed step by step (follow.py): `make install`, then each file at its
real place. It is the qemu lab with another disk, which is made at the first use and kept.
"""

import fcntl
import hashlib
import subprocess
import tempfile
from pathlib import Path

from .boot import CHECKOUT
from .image import PACKAGES, Image, furnish, mirror, release, run
from .qemu import Qemu

ENGINES = (
    *("make", "podman", "buildah", "docker.io", "containerd", "golang-github-containers-common"),
    *("containernetworking-plugins", "apparmor", "catatonit", "netavark", "aardvark-dns", "uidmap"),
)
DISK_SIZE = "4G"


class Page(Qemu):
    """The checkout is there, nothing of it is installed; /mnt/wheels has what pip would fetch."""

    name = "page"

    def prepare(self) -> None:
        super().prepare()
        self.image = with_engines(self.image)

    def fill(self, folder: Path) -> None:
        wheels = CHECKOUT / "build/wheels"
        python = str(CHECKOUT / ".venv/bin/python")
        pins = str(CHECKOUT / "constraints.txt")
        run(
            python, "-m", "pip", "wheel", "-qw", str(wheels), "-c", pins, str(CHECKOUT), "hatchling"
        )
        super().fill(folder)
        # The folder of results is on the same disk.
        subprocess.run(
            ["debugfs", "-w", str(folder / "share.img")],
            input="mkdir wheels\ncd wheels\n"
            + "".join(f"write {each} {each.name}\n" for each in wheels.iterdir()),
            text=True, check=True, capture_output=True,
        )  # fmt: skip


def with_engines(base: Image) -> Image:
    """The qemu lab's image with another disk. Raises Missing, with the words of what failed."""
    cache = base.disk.parent.parent.with_name("ocirun-page")
    cache.mkdir(parents=True, exist_ok=True)
    recipe = Path(__file__).read_bytes() + base.disk.parent.name.encode()
    disk = cache / f"{hashlib.sha256(recipe).hexdigest()[:16]}.img"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not disk.exists():
            for old in cache.glob("*.img"):
                old.unlink()
            with tempfile.TemporaryDirectory(dir=cache) as work:
                build(Path(work), base).rename(disk)
    return Image(base.kernel, base.early, disk, base.python)


def build(work: Path, base: Image) -> Path:
    """Makes the disk."""
    root, disk = work / "root", work / "disk.img"
    options = ["--variant=minbase", f"--include={','.join((*PACKAGES, *ENGINES))}"]
    # As for the qemu lab: what it mounts is nobody else's business.
    run("unshare", "--mount", "debootstrap", *options, release(), str(root), mirror())
    modules = root / "usr/lib/modules"
    run("debugfs", "-R", f"rdump /usr/lib/modules {root}/usr/lib", str(base.disk))
    run("chroot", str(root), "depmod", next(modules.iterdir()).name)
    furnish(root)
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(root), str(disk), DISK_SIZE)
    return disk
