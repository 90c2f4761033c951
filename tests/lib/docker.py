"""Docker: a dockerd and its client."""

import json
import time
from pathlib import Path
from typing import Any

from .box import ENVIRONMENT, Box
from .engines import (
    ACCOUNT,
    IMAGE,
    INSTALLED,
    Engine,
    EngineDown,
    give_ids,
    guide,
    numbers,
    tar_inside,
)


class Docker(Engine):
    """A dockerd, whose default runtime is the one under test, and its client."""

    name = "docker"

    label = "docker"  # of its folder
    environment: tuple[str, ...] = ("DOCKER_BUILDKIT=0",)  # of the client

    def __init__(
        self, box: Box, runtime: str, paths: dict[str, str], file: str = "", **more: Any
    ) -> None:
        """`file` is the text of daemon.json, by default Docker's example; `more` are its keys."""
        super().__init__(box, runtime)
        self.place = box.inside / f"{self.label}-{runtime}"
        folder = box.folder / self.place.name
        folder.mkdir(mode=0o711)
        config = json.loads((file or guide("daemon.json")).replace(INSTALLED, paths["ocirun"]))
        config["default-runtime"] = runtime
        others = {name: {"path": path} for name, path in paths.items() if name != "runc"}
        config["runtimes"] = {**others, **config["runtimes"]}
        config |= {
            "hosts": [f"unix://{self.place}/socket"],
            "data-root": f"{self.place}/data",
            "exec-root": f"{self.place}/exec",
            "pidfile": f"{self.place}/pid",
            "storage-driver": "vfs",
            "iptables": False,
            "ip6tables": False,
            "bridge": self.bridge(),
            "features": {"buildkit": False},
            "live-restore": True,
            **more,
        }
        (folder / "daemon.json").write_text(json.dumps(config, indent=4))
        self.log = (folder / "log").open("wb")
        self.up()

    def bridge(self) -> str:
        """A network for containers; its name."""
        number = next(numbers)
        name = f"br{number}"
        for words in (
            f"link add {name} type bridge",
            f"address add 10.91.{number}.1/24 dev {name}",
            f"link set {name} up",
        ):
            self.box.call("ip", *words.split()).ok()
        return name

    def up(self) -> None:
        """Starts the daemon."""
        command = ("dockerd", "--config-file", self.place / "daemon.json")
        self.daemon = self.box.popen(*command, stdout=self.log, stderr=self.log)

    def argv(self, *args: str | Path) -> list[str]:
        host = f"--host=unix://{self.place}/socket"
        return ["env", *self.environment, "docker", host, *map(str, args)]

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

    def kill_daemons(self) -> None:
        """Kills dockerd and its containerd, as nothing else would end them; containers go on."""
        pidfiles = (self.place / "pid", self.place / "exec/containerd/containerd.pid")
        self.box.call("sh", "-c", 'kill -9 $(cat "$1") $(cat "$2")', "kill", *pidfiles).ok()
        self.daemon.wait()


class BuildKit(Docker):
    """A dockerd whose BuildKit executes what the documentation says: the first runc in its PATH.

    Here that is a script that also keeps the command lines of the calls.
    """

    label = "buildkit"
    environment = ("DOCKER_BUILDKIT=1",)

    def __init__(self, box: Box, runtime: str, paths: dict[str, str]) -> None:
        self.calls = box.folder / f"calls-{runtime}"
        folder = box.folder / f"bin-{runtime}"
        folder.mkdir()
        script = (
            f'#!/bin/sh\necho "$*" >>{box.inside / self.calls.name}\nexec {paths[runtime]} "$@"\n'
        )
        (folder / "runc").write_text(script)
        (folder / "runc").chmod(0o755)
        self.path = f"{box.inside / folder.name}:{ENVIRONMENT['PATH']}"
        super().__init__(box, runtime, paths, features={"buildkit": True})

    def up(self) -> None:
        command = ("env", f"PATH={self.path}", "dockerd", "--config-file")
        self.daemon = self.box.popen(
            *command, self.place / "daemon.json", stdout=self.log, stderr=self.log
        )


class Remapped(Docker):
    """A dockerd whose containers have a range of ids of their own, `userns-remap`."""

    label = "remapped"

    def __init__(self, box: Box, runtime: str, paths: dict[str, str]) -> None:
        give_ids(box, box.folder, "/")
        super().__init__(box, runtime, paths, **{"userns-remap": ACCOUNT})
