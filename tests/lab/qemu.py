"""The qemu lab: Debian's cloud kernel under an emulated processor, systemd as init.

It has what user-mode Linux lacks: cpuset, hugetlb, systemd, namespaces of time, CRIU. The
checkout and the packages of .venv come in on a disk that is made for the run, and what
the command leaves comes out on it.
"""

import os
import shutil
from pathlib import Path

from .boot import CHECKOUT, Lab, Missing, need
from .image import Image, image, run

HERE = Path(__file__).parent
MB = 1 << 20
# What the guest needs neither to run ocirun nor its tests.
LEFT_OUT = (".git", ".venv", "build", "dist", ".stamps", ".*_cache", ".hypothesis")
TOOLS_LEFT_OUT = ("mypy*", "ruff*", "pip*", "setuptools*", "librt*")
HIERARCHIES = {
    "v2": "",
    "hybrid": "systemd.unified_cgroup_hierarchy=0",
    "v1": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1",
}


class Qemu(Lab):
    """An emulated machine with two processors. Its disks: vdc for throttling, vdd as swap."""

    name = "qemu"
    image: Image

    def __init__(self, hierarchy: str = "v2") -> None:
        self.hierarchy = hierarchy
        self.provides = ("systemd", "disk", "swap", "weights")
        if hierarchy == "v2":
            self.provides += ("v2", "cpuset", "hugetlb", "criu")

    def prepare(self) -> None:
        need("qemu-system-x86_64", "mke2fs", "debugfs")
        self.image = image()

    def python(self) -> str:
        return "/usr/bin/python3"

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "PYTHONPATH": "/mnt/site",
            "RUNTIME": os.environ.get("RUNTIME", "/run/prefix/bin/ocirun"),
        }

    def fill(self, folder: Path) -> None:
        stage = folder / "stage"
        (stage / "lab").mkdir(parents=True)
        for name in ("command.sh", "probe"):
            shutil.copy(folder / name, stage / "lab")
        shutil.copy(HERE / "qemu-start.sh", stage / "lab/start.sh")
        (stage / "lab/checkout").write_text(str(CHECKOUT))
        copy(CHECKOUT, stage / "checkout", LEFT_OUT)
        site = next((CHECKOUT / ".venv/lib").glob("python3.*/site-packages"))
        if site.parent.name != self.image.python:
            raise Missing(f".venv is of {site.parent.name}, Debian has {self.image.python}")
        copy(site, stage / "site", TOOLS_LEFT_OUT)
        size = sum(file.stat().st_size + 4096 for file in stage.rglob("*")) // MB + 64
        disk = str(folder / "share.img")
        run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(stage), disk, f"{size}M")
        shutil.rmtree(stage)
        for name in ("disk.img", "swap.img"):
            with (folder / name).open("wb") as file:
                os.truncate(file.fileno(), 64 * MB)

    def collect(self, folder: Path) -> None:
        out = folder / "out"
        out.mkdir()
        run("debugfs", "-R", f"rdump /lab {out}", str(folder / "share.img"))
        for path in (out / "lab").iterdir():
            path.replace(folder / path.name)

    def argv(self, folder: Path, interactive: bool) -> list[str]:
        disks = {self.image.disk: ",snapshot=on", folder / "share.img": ""}
        disks |= {folder / "disk.img": "", folder / "swap.img": ""}
        drives = [
            word
            for path, options in disks.items()
            for word in ("-drive", f"file={path},if=virtio,format=raw,cache=unsafe{options}")
        ]
        return [
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off"),
            *("-smp", "2", "-m", "1536", "-nodefaults", "-no-user-config", "-no-reboot"),
            *("-display", "none", "-serial", "mon:stdio" if interactive else "stdio"),
            *("-kernel", str(self.image.kernel), "-initrd", str(self.image.early)),
            *("-append", f"console=ttyS0 quiet panic=-1 hugepages=8 {HIERARCHIES[self.hierarchy]}"),
            *drives,
        ]


def copy(source: Path, target: Path, without: tuple[str, ...]) -> None:
    """Copies a tree but for what is named; compiled bytecode comes along."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*without), symlinks=True)
