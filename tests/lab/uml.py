"""The UML lab: Debian's linux.uml, the host's tree as its root, pure v2 without systemd.

It needs no privilege, no KVM and no image, and boots in a second.
"""

import os
from pathlib import Path

from .boot import Lab, need

HERE = Path(__file__).parent
DISK_SIZE = 64 << 20


class Uml(Lab):
    """User-mode Linux. Its disks: ubda for throttling, ubdb as swap."""

    name = "uml"
    provides = ("v2", "disk", "swap")

    def prepare(self) -> None:
        need("linux.uml", "busybox")

    def fill(self, folder: Path) -> None:
        for name in ("disk.img", "swap.img"):
            with (folder / name).open("wb") as file:
                os.truncate(file.fileno(), DISK_SIZE)

    def argv(self, folder: Path, interactive: bool) -> list[str]:
        return [
            "linux.uml",
            "mem=1024M",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            f"init={HERE / 'uml-init.sh'}",
            f"LAB={folder}",
            f"uml_dir={folder}",
            f"ubd0={folder / 'disk.img'}",
            f"ubd1={folder / 'swap.img'}",
            "con=null",
            "con0=fd:0,fd:1" if interactive else "con0=null,fd:1",
            "quiet",
        ]
