"""The root file system of the test containers: busybox and the probe, both static.

Copied once a session; a bundle gets a tree of its own made of hard links (ten times as fast
as symlinks), so that a test may spoil its rootfs.
"""

import os
import shutil
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PROBE = "build/probe"
FOLDERS = ("bin", "dev", "etc", "home", "mnt", "opt", "proc", "root", "sys", "tmp", "usr", "var")
PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/home:/bin/sh\n1000:x:0:0::/:/bin/sh\n"
)
GROUP = "root:x:0:\nguest:x:1000:\nextra:x:2000:guest\n"


def build_probe() -> Path:
    """Lets the Makefile compile the probe, static, if need be; its path."""
    subprocess.run(["make", "--quiet", PROBE], cwd=CHECKOUT, check=True, timeout=60)
    return CHECKOUT / PROBE


class RootfsSource:
    """Fetches the probe, knows busybox's applets, and fills folders with them."""

    def __init__(self, folder: Path) -> None:
        self.busybox = folder / "busybox"
        self.probe = folder / "probe"
        host_busybox = shutil.which("busybox")
        if not host_busybox:
            raise FileNotFoundError("busybox (Debian: busybox-static)")
        shutil.copy(host_busybox, self.busybox)
        # In a lab, which has no compiler, it is there already.
        shutil.copy(os.environ.get("OCIRUN_TEST_PROBE") or build_probe(), self.probe)
        self.probe.chmod(0o755)
        listing = subprocess.run(
            [self.busybox, "--list"], check=True, capture_output=True, text=True
        )
        self.applets = [name for name in listing.stdout.split() if name != "busybox"]

    def fill(self, target: Path) -> Path:
        """Makes a root file system at `target` (which must not exist) and returns it."""
        for folder in ("", *FOLDERS):
            (target / folder).mkdir(mode=0o755, parents=True)
        (target / "tmp").chmod(0o1777)
        (target / "etc/passwd").write_text(PASSWD)
        (target / "etc/group").write_text(GROUP)
        os.link(self.busybox, target / "bin/busybox")
        os.link(self.probe, target / "bin/probe")
        for name in self.applets:
            os.link(self.busybox, target / "bin" / name)
        return target


def up(path: Path) -> str:
    """A relative symlink target that climbs far above any root, then goes down to the path."""
    return "../" * 40 + str(path).lstrip("/")
