"""The qemu lab's kernel and disk, built once from Debian's packages and kept.

They are of the host's release, from the mirror that its apt is configured for. A folder
of the cache (`$XDG_CACHE_HOME/ocirun-lab`) has the files of one recipe: another kernel, or
a change in this module, makes another one, and the old ones go.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .boot import Missing, need

KERNEL = "linux-image-cloud-amd64"
PACKAGES = (
    *("systemd-sysv", "dbus", "kmod", "mount", "procps", "iproute2", "util-linux"),
    *("python3", "python3-venv", "busybox-static", "libseccomp2", "strace"),
    *("runc", "crun", "criu", "iptables"),
)
# In this order, before anything can be read from a disk.
EARLY_MODULES = ("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev")
EARLY_MODULES += ("virtio_pci", "virtio_blk")
NOT_NEEDED = (
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)
# serial-getty waits for udev, which is not there.
MASKED = ("serial-getty@ttyS0.service", "getty@tty1.service", "systemd-timesyncd.service")
DISK_SIZE = "2G"

EARLY_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in {modules}; do /bin/busybox insmod /$module.ko; done
for _ in 1 2 3 4 5 6 7 8 9; do [ -b /dev/vda ] || /bin/busybox sleep 1; done
[ -b /dev/vda ] || /bin/busybox poweroff -f
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /sbin/init
"""

UNIT = """[Unit]
Description=The command of the lab
Requires=dbus.service
After=dbus.service
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate

[Service]
Type=oneshot
TimeoutStartSec=infinity
StandardInput=tty-force
StandardOutput=tty
TTYPath=/dev/ttyS0
Environment=HOME=/root TERM=linux
ExecStart=/bin/sh -c 'mount /dev/vdb /mnt && exec sh /mnt/lab/start.sh'
"""


@dataclass(frozen=True)
class Image:
    """Files that qemu boots."""

    kernel: Path
    early: Path
    disk: Path
    python: str


def image() -> Image:
    """The files, built if they are not there yet. Raises Missing, with the words of what failed."""
    need("apt-get", "debootstrap", "mke2fs", "busybox")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ocirun-lab")
    cache.mkdir(parents=True, exist_ok=True)
    package = kernel_package()
    recipe = Path(__file__).read_bytes() + package.encode() + release().encode()
    folder = cache / hashlib.sha256(recipe).hexdigest()[:16]
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            if os.geteuid() != 0:
                raise Missing("only root can build the image of the qemu lab")
            for old in cache.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            with tempfile.TemporaryDirectory(dir=cache) as work:
                build(Path(work), package)
                Path(work, "result").rename(folder)
    return Image(
        folder / "vmlinuz",
        folder / "initramfs",
        folder / "disk.img",
        (folder / "python").read_text(),
    )


def release() -> str:
    """The code name of this Debian."""
    lines = Path("/etc/os-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line).get("VERSION_CODENAME", "")


def mirror() -> str:
    """Where apt gets this release from."""
    wanted = ["Created-By: Packages", f"Codename: {release()}"]
    found = run("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted).split()
    if not found:
        raise Missing(f"apt is not configured for {release() or 'a Debian release'}")
    return found[0]


def kernel_package() -> str:
    """ "name=version" of the newest cloud kernel that apt knows."""
    name = ""
    for line in run("apt-cache", "depends", "--important", KERNEL).splitlines():
        if line.strip().startswith("Depends:"):
            name = line.split()[-1]
    policy = run("apt-cache", "policy", name) if name else ""
    version = next((line.split()[1] for line in policy.splitlines() if "Candidate:" in line), "")
    if not version:
        raise Missing(f"apt knows no {KERNEL}")
    return f"{name}={version}"


def build(work: Path, package: str) -> None:
    """Makes `work`/result with all files."""
    result, root, unpacked = work / "result", work / "root", work / "kernel"
    result.mkdir()
    options = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
    # What it mounts is nobody else's business: other tests look for mounts that are left.
    run("unshare", "--mount", "debootstrap", *options, release(), str(root), mirror())
    run("apt-get", "download", "-q", package, cwd=work)
    run("dpkg", "-x", str(next(work.glob("*.deb"))), str(unpacked))
    shutil.copy(next(unpacked.glob("boot/vmlinuz-*")), result / "vmlinuz")
    modules = next(unpacked.glob("lib/modules/*"))
    early(work / "early", modules, result / "initramfs")
    shutil.copytree(modules, root / "usr/lib/modules" / modules.name, symlinks=True)
    run("chroot", str(root), "depmod", modules.name)
    furnish(root)
    (result / "python").write_text(str((root / "usr/bin/python3").readlink()))
    run(
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-d",
        str(root),
        str(result / "disk.img"),
        DISK_SIZE,
    )


def early(folder: Path, modules: Path, target: Path) -> None:
    """The initramfs: busybox loads the modules for the disk and goes there."""
    for name in ("bin", "dev", "root"):
        (folder / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", folder / "bin/busybox")
    present = []
    for name in EARLY_MODULES:
        for path in modules.rglob(f"{name}.ko"):
            shutil.copy(path, folder)
            present.append(name)
    (folder / "init").write_text(EARLY_INIT.format(modules=" ".join(present)))
    (folder / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*"))
    with target.open("wb") as archive:
        pack = ["busybox", "cpio", "-o", "-H", "newc"]
        subprocess.run(
            pack,
            cwd=folder,
            input=names.encode(),
            stdout=archive,
            stderr=subprocess.DEVNULL,
            check=True,
        )


def furnish(root: Path) -> None:
    """What the root has besides packages: the unit, and less than Debian has."""
    units = root / "etc/systemd/system"
    (units / "lab.service").write_text(UNIT)
    for name in MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    (units / "multi-user.target.wants/lab.service").symlink_to("../lab.service")
    (root / "etc/hostname").write_text("lab\n")
    for name in NOT_NEEDED:
        shutil.rmtree(root / name, ignore_errors=True)


def run(*command: str, cwd: Path | None = None) -> str:
    """Output of a command. Raises Missing with its last words."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-1000:]
        raise Missing(f"{command[0]} failed with {done.returncode}: {words}")
    return done.stdout
