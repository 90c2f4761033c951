"""What drivers of whole engines in a box have in common (podman.py, docker.py, containerd.py).

Each keeps its state in folders of its own below the box's, and is configured by the files that
docs/engines.md shows, with the paths of this machine filled in.
"""

import re
import shlex
import shutil
import tarfile
from itertools import count
from pathlib import Path
from typing import Any

from .box import Box, Done
from .rootfs import RootfsSource
from .runtime import CHECKOUT, LAUNCHER, wait_for
from .user import GID, UID, folders, give

GUIDE = CHECKOUT / "docs/engines.md"
INSTALLED = "/usr/local/bin/ocirun"
IMAGE = "localhost/busybox:1"
ACCOUNT = "someone"
# Root may lack CAP_SYS_RESOURCE, without which Podman's and Buildah's defaults cannot be set.
LIMITS = 'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]'
numbers = count(1)

# crun 1.8 refuses a hybrid layout of cgroups, but takes one with an empty folder for v2.
CRUN_ON_HYBRID = """#!/bin/sh
[ -d /sys/fs/cgroup/unified ] || exec crun "$@"
exec unshare --mount --propagation slave sh -c \
    'umount /sys/fs/cgroup/unified; mount -t tmpfs none /sys/fs/cgroup/unified; exec crun "$@"' \
    crun "$@"
"""


class EngineDown(Exception):
    """An engine that did not come up, in its own words."""


def guide(title: str, section: str = "") -> str:
    """The example file of that name in docs/engines.md: the code block after "`title`".

    `section` is the heading it stands under, if several have one of that name.
    """
    text = GUIDE.read_text()
    text = text[text.index(f"\n## {section}\n") :] if section else text
    found = re.search(rf"`{re.escape(title)}`, tested[^`]*?:\n\n((?:    .*\n|\n)+)", text)
    if not found:
        raise LookupError(f"docs/engines.md has no example {title}")
    return "\n".join(line[4:] for line in found[1].splitlines()) + "\n"


def runtimes(box: Box) -> dict[str, str]:
    """The runtimes of this machine by name, as paths in the box."""
    found = {"ocirun": str(LAUNCHER)}
    if runc := shutil.which("runc"):
        found["runc"] = runc
    if shutil.which("crun"):
        wrapper = box.folder / "crun"
        wrapper.write_text(CRUN_ON_HYBRID)
        wrapper.chmod(0o755)
        found["crun"] = str(box.inside / "crun")
    return found


def image_tar(folder: Path) -> Path:
    """A root file system for an image: busybox with its applets."""
    source = RootfsSource(folder)
    rootfs = source.fill(folder / "rootfs")
    with tarfile.open(folder / "rootfs.tar", "w") as tar:
        tar.add(rootfs, arcname=".")
    return folder / "rootfs.tar"


class Engine:
    """What the command lines of Podman and Docker have in common.

    Attributes:
        runtime: name of the runtime that new containers get.
    """

    name = ""
    defaults: tuple[str, ...] = ("--network=none",)
    at_once: tuple[str, ...] = ()

    def __init__(self, box: Box, runtime: str) -> None:
        self.box = box
        self.runtime = runtime
        self.mine: list[str] = []

    def argv(self, *args: str | Path) -> list[str]:
        raise NotImplementedError

    def __call__(self, *args: str | Path, **options: Any) -> Done:
        """Runs a command of the engine to its end."""
        done = self.box.call(*self.argv(*args), **options)
        done.argv = [self.name, *map(str, args)]  # without what is the same for all
        return done

    def run(self, *args: str | Path, **options: Any) -> Done:
        """`run --rm IMAGE ARGS` in the foreground; what is before a "--" are options of `run`."""
        return self("run", "--rm", *self.words(args), **options)

    def start(self, *args: str | Path) -> str:
        """`run --detach` of a container that stays; its name."""
        name = self.new_name()
        self("run", "--detach", "--name", name, *self.words(args)).ok()
        return name

    def words(self, args: tuple[str | Path, ...]) -> list[str]:
        """Options, image and command of a `run`, of what is before and after "--"."""
        words = list(map(str, args))
        place = words.index("--") if "--" in words else -1
        flags = words[: max(place, 0)]
        given = {flag.partition("=")[0] for flag in flags}
        defaults = [flag for flag in self.defaults if flag.partition("=")[0] not in given]
        return [*defaults, *flags, IMAGE, *words[place + 1 :]]

    def new_name(self) -> str:
        """A name for a container, which is removed after the test."""
        self.mine.append(f"box{next(numbers)}")
        return self.mine[-1]

    def tty(self, *args: str | Path, **options: Any) -> Done:
        """Runs a command of the engine on a terminal."""
        command = shlex.join(self.argv(*args))
        done = self.box.call("script", "-qec", command, "/dev/null", **options)
        done.argv = [self.name, *map(str, args)]
        return done

    def inspect(self, name: str, form: str) -> str:
        return self("inspect", "--format", form, name).ok().out.strip()

    def wait_for(self, name: str, form: str, wanted: str, seconds: float = 10) -> None:
        """Waits until `inspect` says what is wanted."""
        wait_for(lambda: self.inspect(name, form) == wanted, f"{form} {wanted}", seconds)

    def clear(self) -> None:
        """Removes the containers of a test."""
        if self.mine:
            self("rm", "--force", *self.at_once, *self.mine)
            self.mine.clear()


def policy(box: Box, home: Path | None = None) -> None:
    """Lets Podman and Buildah take any image."""
    (box.folder / "registries.conf").write_text("")
    file = (home or box.folder / "home") / ".config/containers/policy.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    if home:
        give(folders(home))


def give_ids(box: Box, folder: Path, home: str, name: str = ACCOUNT) -> None:
    """An account and subordinate ids for the user of tests, in this box only.

    `folder` keeps the files that are bound over the machine's.
    """
    lines = {
        "passwd": f"{name}:x:{UID}:{GID}::{home}:/bin/sh",
        "group": f"{name}:x:{GID}:",
        "subuid": f"{name}:{UID + 100000}:65536",
        "subgid": f"{name}:{GID + 100000}:65536",
    }
    for file, line in lines.items():
        real = Path("/etc", file)
        copy = folder / file
        copy.write_text((real.read_text() if real.exists() else "") + line + "\n")
        if not real.exists():
            raise EngineDown(f"no {real}: is uidmap installed?")
        box.call("mount", "--bind", copy, real).ok()


def give_tun(box: Box) -> None:
    """/dev/net/tun as udev makes it: for all users."""
    script = "mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200"
    box.call("sh", "-c", script)


def tar_inside(box: Box, tar: Path) -> Path:
    """The path in the box of a tar in the box's folder."""
    return box.inside / tar.relative_to(box.folder)
