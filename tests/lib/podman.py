"""Podman, of root and of an ordinary user, and Buildah."""

from pathlib import Path
from typing import Any

from .box import Box, Done
from .engines import (
    IMAGE,
    INSTALLED,
    LIMITS,
    Engine,
    EngineDown,
    give_ids,
    give_tun,
    guide,
    numbers,
    policy,
    tar_inside,
)
from .user import Installation, User


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


def ordinary_user(box: Box) -> tuple[User, Path]:
    """A user with ids of his own in this box, and an `ocirun` that he can execute."""
    folder = box.folder / f"u{next(numbers)}"  # Podman's runroot has at most 50 characters
    folder.mkdir(mode=0o711)
    user = User(folder)
    place = Installation(box.folder / "installed", user)
    if not place.python:
        raise EngineDown("no interpreter of the tests' version that a user can execute")
    policy(box, user.home)
    give_ids(box, folder, str(user.home))
    give_tun(box)
    return user, place.launcher


class RootlessPodman(Podman):
    """Podman of an ordinary user, who has a range of subordinate ids in this box."""

    name = "podman"

    def __init__(self, box: Box, runtime: str, paths: dict[str, str]) -> None:
        self.user, launcher = ordinary_user(box)
        super().__init__(box, runtime, {**paths, "ocirun": str(launcher)})

    def argv(self, *args: str | Path) -> list[str]:
        options = ("--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file")
        environment = (f"{name}={value}" for name, value in self.env.items())
        return [*self.user.prefix(), *environment, "podman", *options, *map(str, args)]


class Buildah(Engine):
    """Buildah, which is given the runtime with each command."""

    name = "buildah"
    network: tuple[str, ...] = ()  # of what it runs

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
        flags = (f"--runtime={self.path}", *self.network, *words[: max(place, 0)])
        return self("run", *flags, name, "--", *words[place + 1 :], **options)


class RootlessBuildah(Buildah):
    """Buildah of an ordinary user, whose own network Buildah 1.28 cannot set up with any runtime."""

    network = ("--network=none",)

    def __init__(self, box: Box, runtime: str, paths: dict[str, str]) -> None:
        self.user, launcher = ordinary_user(box)
        super().__init__(box, runtime, {**paths, "ocirun": str(launcher)})

    def argv(self, *args: str | Path) -> list[str]:
        environment = ("BUILDAH_ISOLATION=oci", f"CONTAINERS_CONF={self.box.inside}/buildah.conf")
        command = ("buildah", "--storage-driver=vfs", *map(str, args))
        return [*self.user.prefix(), *environment, *command]
