"""containerd, as ctr uses it; cri.py has its API for pods."""

import json
from pathlib import Path

from .archives import docker_save
from .box import Box
from .engines import IMAGE, INSTALLED, Engine, guide, numbers
from .runtime import wait_for

PAUSE = "localhost/pause:1"
# For pods: containerd's own part of the configuration, which is the same for all runtimes.
PODS = """
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true  # root may lack CAP_SYS_RESOURCE

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{place}/cni"
"""
HANDLER = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
BinaryName = "{path}"
"""


class Containerd(Engine):
    """A containerd, and ctr, which names the runtime with each container."""

    name = "ctr"

    def __init__(self, box: Box, runtime: str, paths: dict[str, str]) -> None:
        super().__init__(box, runtime)
        self.path = paths[runtime]
        self.place = box.inside / f"containerd-{runtime}"
        folder = box.folder / self.place.name
        folder.mkdir()
        (folder / "config.toml").write_text(self.config(paths))
        for name in ("cni", "var"):
            (folder / name).mkdir()
        (folder / "cni/net.conflist").write_text(self.network())
        self.log = (folder / "log").open("wb")
        self.up()

    def up(self) -> None:
        """Starts the daemon."""
        # What the plugins for networks keep in /var/lib goes with the box.
        script = 'mount --bind "$1/var" /var/lib && shift && exec "$@"'
        self.daemon = self.box.popen(
            *("unshare", "--mount", "sh", "-c", script, "containerd", self.place),
            *("containerd", "--config", self.place / "config.toml"),
            stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def restart(self) -> None:
        """Kills the daemon, and starts it again; containers go on meanwhile."""
        self.daemon.kill()
        self.daemon.wait()
        self.up()

    def listed(self, namespace: str) -> list[str]:
        """The containers of a namespace as the runtime itself lists them."""
        state = f"--root=/run/containerd/runc/{namespace}"
        return self.box.call(self.path, state, "list", "--quiet").ok().out.split()

    def config(self, paths: dict[str, str]) -> str:
        """The file of docs/engines.md, with folders of its own, and runc and crun beside ocirun."""
        folders = f'version = 2\nroot = "{self.place}/root"\nstate = "{self.place}/state"\n'
        folders += f'[grpc]\naddress = "{self.place}/socket"\n'
        text = guide("config.toml").replace(INSTALLED, paths["ocirun"])
        text = text.replace("version = 2\n", folders)
        default = f'default_runtime_name = "{self.runtime}"\nsnapshotter = "native"\n'
        text = text.replace('default_runtime_name = "ocirun"\n', default)
        others = (HANDLER.format(name=n, path=p) for n, p in paths.items() if n != "ocirun")
        return "".join([text, PODS.format(pause=PAUSE, place=self.place), *others])

    def network(self) -> str:
        """A bridge for pods."""
        number = next(numbers)
        addresses = {"type": "host-local", "ranges": [[{"subnet": f"10.92.{number}.0/24"}]]}
        bridge = {"type": "bridge", "bridge": f"pods{number}", "isGateway": True, "ipam": addresses}
        return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]})

    def argv(self, *args: str | Path) -> list[str]:
        return ["ctr", f"--address={self.place}/socket", *map(str, args)]

    def load(self, tar: Path) -> None:
        """Waits for the daemon, and imports the image."""
        wait_for(lambda: self("version").status == 0, "containerd to answer", seconds=20)
        for tag, command in ((IMAGE, None), (PAUSE, ["sleep", "1000000"])):
            config = {"Env": ["PATH=/bin"], "Cmd": command}
            archive = docker_save(tar.read_bytes(), config=config, tag=tag)
            (self.box.folder / "image.docker.tar").write_bytes(archive)
            path = self.box.inside / "image.docker.tar"
            for namespace in ("default", "k8s.io"):  # ctr's own, and the pods'
                to = (f"--namespace={namespace}", "images", "import", "--snapshotter=native")
                self(*to, path).ok()

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
