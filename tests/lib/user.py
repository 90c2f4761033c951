"""An ordinary user, as whom a test runs things: with no account, privileges or groups."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.install import write_launcher

from .bundle import Bundle
from .runtime import CHECKOUT

UID, GID = 48231, 48232


class User:
    """A user with a home and a runtime directory in `folder`.

    Attributes:
        env: the environment of what the user runs.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.run = folder / "run"
        for path in (self.home, self.run):
            path.mkdir(mode=0o700)
            os.chown(path, UID, GID)
        self.env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.run),
            "XDG_DATA_HOME": str(self.home / "data"),
            "LANG": "C.UTF-8",
        }

    def prefix(self) -> tuple[str, ...]:
        """A command that executes the rest of its command line as the user."""
        words = (f"{name}={value}" for name, value in self.env.items())
        return (
            *("setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups"),
            *("--inh-caps=-all", "env", "-i", *words),
        )

    def call(self, *argv: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        options = {"stdin": subprocess.DEVNULL, "timeout": 30, **options}
        command = [*self.prefix(), *map(str, argv)]
        return subprocess.run(command, capture_output=True, text=True, **options)

    def can_execute(self, path: str | Path) -> bool:
        """The user may execute the file, down to its interpreter."""
        return self.call(path, "--version").returncode == 0


class Installation:
    """The package where an ordinary user can read it.

    The checkout and the interpreter of the tests may lie below root's home.

    Attributes:
        python: an interpreter that the user can execute, of the tests' version; "" if none.
        launcher: an `ocirun` that runs on it.
        paths: for sys.path of a program that imports ocirun.
    """

    def __init__(self, folder: Path, user: User) -> None:
        self.launcher = folder / "bin/ocirun"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        # Not by a symlink: Python looks for its library beside what it is called by.
        found = (
            os.path.realpath(sys.executable),
            f"/usr/bin/{version}",
            f"/usr/local/bin/{version}",
        )
        self.python = next((path for path in found if user.can_execute(path)), "")
        self.paths = [str(folder), sysconfig.get_paths()["purelib"]]
        if self.python and not folder.exists():
            shutil.copytree(CHECKOUT / "ocirun", folder / "ocirun")
            shutil.copytree(CHECKOUT / "schema", folder / "schema")
            write_launcher(self.launcher, Path(self.python), self.paths, installed=False)


def mapping(*entries: tuple[int, int, int]) -> list[dict[str, int]]:
    """uidMappings or gidMappings of (containerID, hostID, size)."""
    return [dict(zip(("containerID", "hostID", "size"), entry, strict=True)) for entry in entries]


def rootless(bundle: Bundle) -> Bundle:
    """Makes of a bundle what `spec --rootless` makes of the default; its folders are the user's.

    Files of the root file system are links to those of other tests, and stay root's.
    """
    bundle.namespace("user").drop_namespace("network")
    bundle.set("/linux/uidMappings", mapping((0, UID, 1)))
    bundle.set("/linux/gidMappings", mapping((0, GID, 1)))
    bundle.drop("/linux/cgroupsPath").drop("/linux/resources")
    for mount in bundle.config["mounts"]:
        if mount["destination"] == "/sys":
            mount |= {"type": "none", "source": "/sys"}
            mount["options"] = ["rbind", "nosuid", "noexec", "nodev", "ro"]
        elif mount["destination"] == "/dev/pts":
            mount["options"].remove("gid=5")
    give([bundle.path, *folders(bundle.rootfs)])
    return bundle


def folders(path: Path) -> list[Path]:
    """The folder and all folders below it."""
    return [Path(folder) for folder, _, _ in os.walk(path)]


def give(paths: Iterable[Path]) -> None:
    """Makes the user the owner."""
    for path in paths:
        os.chown(path, UID, GID)
