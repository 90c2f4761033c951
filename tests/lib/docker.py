"""Docker: a dockerd and its client."""

import json
import time
from pathlib import Path
from typing import Any

from .box import Box
from .engines import IMAGE, INSTALLED, Engine, EngineDown, guide, numbers, tar_inside


class Docker(Engine):
    """A dockerd, whose default runtime is the one under test, and its client."""

    name = "docker"

    def __init__(
        self, box: Box, runtime: str, paths: dict[str, str], file: str = "", **more: Any
    ) -> None:
        """`file` is the text of daemon.json, by default Docker's example; `more` are its keys."""
        super().__init__(box, runtime)
        self.place = box.inside / f"docker-{runtime}"
        folder = box.folder / f"docker-{runtime}"
        folder.mkdir()
        text = file or guide("daemon.json")
        config = json.loads(text.replace(INSTALLED, paths["ocirun"]))
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
            **more,
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

    def kill_daemons(self) -> None:
        """Kills dockerd and its containerd, as nothing else would end them; containers go on."""
        pidfiles = (self.place / "pid", self.place / "exec/containerd/containerd.pid")
        self.box.call("sh", "-c", 'kill -9 $(cat "$1") $(cat "$2")', "kill", *pidfiles).ok()
        self.daemon.wait()
