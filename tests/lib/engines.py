"""Drivers of whole engines in a box: Podman, Docker, containerd's ctr, Buildah.

Each keeps its state in folders of its own below the box's, and is configured by the files that
docs/engines.md shows, with the paths of this machine filled in.
"""

import json
import re
import shlex
import shutil
import tarfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from .archives import docker_save
from .box import Box, Done
from .rootfs import RootfsSource
from .runtime import CHECKOUT, LAUNCHER, wait_for
from .user import GID, UID, Installation, User, folders, give

GUIDE = CHECKOUT / "docs/engines.md"
INSTALLED = "/usr/local/bin/ocirun"
IMAGE = "localhost/busybox:1"
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


def guide(title: str) -> str:
    """The example file of that name in docs/engines.md: the code block after "`title`"."""
    found = re.search(
        rf"`{re.escape(title)}`, tested[^`]*?:\n\n((?:    .*\n|\n)+)", GUIDE.read_text()
    )
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


class Podman(Engine):
    """Podman of root, with vfs, cgroupfs, and its own folders."""

    name = "podman"
    at_once = ("--time=0",)

    def __init__(self, box: Box, runtime: str, paths: dict[str, str]) -> None:
        super().__init__(box, runtime)
        config = guide("containers.conf").replace(INSTALLED, paths["ocirun"])
        others = "".join(
            f'{name} = ["{path}"]\n' for name, path in paths.items() if name != "ocirun"
        )
        config = config.replace("[engine.runtimes]\n", f"[engine.runtimes]\n{others}")
        config = config.replace('runtime = "ocirun"', f'runtime = "{runtime}"')
        file = f"containers-{runtime}.conf"
        (box.folder / file).write_text(f"{config}\n[containers]\n{LIMITS}\n")
        self.env = {
            "CONTAINERS_CONF": f"{box.inside}/{file}",
            "CONTAINERS_REGISTRIES_CONF": f"{box.inside}/registries.conf",
        }
        policy(box)

    def argv(self, *args: str | Path) -> list[str]:
        place = self.box.inside / "podman"
        folders = (f"--root={place}/root", f"--runroot={place}/run", f"--tmpdir={place}/tmp")
        options = ("--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file")
        environment = (f"{name}={value}" for name, value in self.env.items())
        return ["env", *environment, "podman", *folders, *options, *map(str, args)]

    def load(self, tar: Path) -> None:
        """Makes the image."""
        self("import", "--change", "ENV PATH=/bin", tar_inside(self.box, tar), IMAGE).ok()


class RootlessPodman(Podman):
    """Podman of an ordinary user, who has a range of subordinate ids in this box."""

    name = "podman"

    def __init__(self, box: Box, runtime: str, paths: dict[str, str]) -> None:
        self.folder = box.folder / f"u{next(numbers)}"  # a runroot has at most 50 characters
        self.folder.mkdir(mode=0o711)
        self.user = User(self.folder)
        place = Installation(box.folder / "installed", self.user)
        if not place.python:
            raise EngineDown("no interpreter of the tests' version that a user can execute")
        super().__init__(box, runtime, {**paths, "ocirun": str(place.launcher)})
        policy(box, self.user.home)
        self.give_ids()

    def give_ids(self) -> None:
        """An account and subordinate ids for the user, in this box only."""
        lines = {
            "passwd": f"someone:x:{UID}:{GID}::{self.user.home}:/bin/sh",
            "group": f"someone:x:{GID}:",
            "subuid": f"someone:{UID + 100000}:65536",
            "subgid": f"someone:{GID + 100000}:65536",
        }
        for name, line in lines.items():
            real = Path("/etc", name)
            copy = self.folder / name
            copy.write_text((real.read_text() if real.exists() else "") + line + "\n")
            if not real.exists():
                raise EngineDown(f"no {real}: is uidmap installed?")
            self.box.call("mount", "--bind", copy, real).ok()

    def argv(self, *args: str | Path) -> list[str]:
        options = ("--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file")
        environment = (f"{name}={value}" for name, value in self.env.items())
        return [*self.user.prefix(), *environment, "podman", *options, *map(str, args)]


class Docker(Engine):
    """A dockerd, whose default runtime is the one under test, and its client."""

    name = "docker"

    def __init__(self, box: Box, runtime: str, paths: dict[str, str]) -> None:
        super().__init__(box, runtime)
        self.place = box.inside / f"docker-{runtime}"
        folder = box.folder / f"docker-{runtime}"
        folder.mkdir()
        config = json.loads(guide("daemon.json").replace(INSTALLED, paths["ocirun"]))
        config["default-runtime"] = runtime
        config["runtimes"].update(
            {name: {"path": path} for name, path in paths.items() if name not in ("runc", "ocirun")}
        )
        bridge = f"br{next(numbers)}"
        config |= {
            "hosts": [f"unix://{self.place}/socket"],
            "data-root": f"{self.place}/data",
            "exec-root": f"{self.place}/exec",
            "pidfile": f"{self.place}/pid",
            "storage-driver": "vfs",
            "iptables": False,
            "ip6tables": False,
            "bridge": bridge,
            "features": {"buildkit": False},
        }
        (folder / "daemon.json").write_text(json.dumps(config, indent=4))
        number = next(numbers)
        for words in (
            f"link add {bridge} type bridge",
            f"address add 10.91.{number}.1/24 dev {bridge}",
            f"link set {bridge} up",
        ):
            box.call("ip", *words.split()).ok()
        self.log = (folder / "log").open("wb")
        self.daemon = box.popen(
            "dockerd", "--config-file", self.place / "daemon.json", stdout=self.log, stderr=self.log
        )

    def argv(self, *args: str | Path) -> list[str]:
        host = f"--host=unix://{self.place}/socket"
        return ["env", "DOCKER_BUILDKIT=0", "docker", host, *map(str, args)]

    def wait_until_up(self) -> None:
        """Waits for the daemon to answer; fails with the end of its log."""
        for _ in range(200):
            if self("version").status == 0:
                return
            if self.daemon.poll() is not None:
                break
            time.sleep(0.1)
        log = self.box.folder / self.place.name / "log"
        raise EngineDown("dockerd: " + " ".join(log.read_text().splitlines()[-5:]))

    def load(self, tar: Path) -> None:
        """Waits for the daemon, and makes the image."""
        self.wait_until_up()
        self("import", "--change", "ENV PATH=/bin", tar_inside(self.box, tar), IMAGE).ok()


class Containerd(Engine):
    """A containerd, and ctr, which names the runtime with each container."""

    name = "ctr"

    def __init__(self, box: Box, runtime: str, paths: dict[str, str]) -> None:
        super().__init__(box, runtime)
        self.path = paths[runtime]
        self.place = box.inside / f"containerd-{runtime}"
        folder = box.folder / self.place.name
        folder.mkdir()
        folders = f'version = 2\nroot = "{self.place}/root"\nstate = "{self.place}/state"\n'
        folders += f'[grpc]\naddress = "{self.place}/socket"\n'
        config = guide("config.toml").replace(INSTALLED, paths["ocirun"])
        (folder / "config.toml").write_text(config.replace("version = 2\n", folders))
        self.log = (folder / "log").open("wb")
        self.daemon = box.popen(
            *("containerd", "--config", self.place / "config.toml"),
            stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def argv(self, *args: str | Path) -> list[str]:
        return ["ctr", f"--address={self.place}/socket", *map(str, args)]

    def load(self, tar: Path) -> None:
        """Waits for the daemon, and imports the image."""
        archive = docker_save(tar.read_bytes(), config={"Env": ["PATH=/bin"]}, tag=IMAGE)
        (self.box.folder / "image.docker.tar").write_bytes(archive)
        wait_for(lambda: self("version").status == 0, "containerd to answer", seconds=20)
        archive_path = self.box.inside / "image.docker.tar"
        self("images", "import", "--snapshotter=native", archive_path).ok()

    def words(self, args: tuple[str | Path, ...], name: str = "") -> list[str]:
        words = list(map(str, args))
        place = words.index("--") if "--" in words else -1
        flags = ("--snapshotter=native", f"--runc-binary={self.path}", *words[: max(place, 0)])
        return [*flags, IMAGE, name or self.new_name(), *words[place + 1 :]]

    def start(self, *args: str | Path) -> str:
        name = self.new_name()
        self("run", "--detach", "--null-io", *self.words(args, name)).ok()
        return name

    def status(self, name: str) -> str:
        """What `tasks list` says of a container."""
        rows = (line.split() for line in self("tasks", "list").ok().out.splitlines())
        return next((row[2] for row in rows if row[0] == name), "")

    def clear(self) -> None:
        for name in self.mine:
            if self.status(name):
                self("tasks", "delete", "--force", name)
            self("containers", "delete", name)
        self.mine.clear()


class Buildah(Engine):
    """Buildah, which is given the runtime with each command."""

    name = "buildah"

    def __init__(self, box: Box, runtime: str, paths: dict[str, str]) -> None:
        super().__init__(box, runtime)
        self.path = paths[runtime]
        policy(box)

    def argv(self, *args: str | Path) -> list[str]:
        place = self.box.inside / "buildah"
        options = (f"--root={place}/root", f"--runroot={place}/run", "--storage-driver=vfs")
        environment = ("BUILDAH_ISOLATION=oci", f"CONTAINERS_CONF={self.box.inside}/buildah.conf")
        return ["env", *environment, "buildah", *options, *map(str, args)]

    def load(self, tar: Path) -> None:
        """Makes the image."""
        (self.box.folder / "buildah.conf").write_text(f"[containers]\n{LIMITS}\n")
        made = self("from", "--name", "base", "scratch").ok().out.strip()
        self("add", "--quiet", made, tar_inside(self.box, tar)).ok()
        self("config", "--env", "PATH=/bin", made).ok()
        self("commit", "--quiet", made, IMAGE).ok()
        self("rm", made).ok()

    def start(self, *args: str | Path) -> str:
        """`from`: a working container; its name."""
        name = self.new_name()
        self("from", "--name", name, *args, IMAGE).ok()
        return name

    def in_it(self, name: str, *args: str | Path, **options: Any) -> Done:
        """`buildah run` in a working container; what is before a "--" are options."""
        words = list(map(str, args))
        place = words.index("--") if "--" in words else -1
        flags = (f"--runtime={self.path}", *words[: max(place, 0)])
        return self("run", *flags, name, "--", *words[place + 1 :], **options)


def policy(box: Box, home: Path | None = None) -> None:
    """Lets Podman and Buildah take any image."""
    (box.folder / "registries.conf").write_text("")
    file = (home or box.folder / "home") / ".config/containers/policy.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    if home:
        give(folders(home))


def tar_inside(box: Box, tar: Path) -> Path:
    """The path in the box of a tar in the box's folder."""
    return box.inside / tar.relative_to(box.folder)


ENGINES: dict[str, type[Engine]] = {
    "podman": Podman,
    "rootless": RootlessPodman,
    "docker": Docker,
    "containerd": Containerd,
    "buildah": Buildah,
}
