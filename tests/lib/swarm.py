"""A Swarm: several machines with a dockerd each."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from .box import Box, Done
from .docker import Docker
from .engines import IMAGE, guide, numbers, runtimes
from .runtime import wait_for


class Swarm:
    """Machines with a dockerd each, on one wire: every machine is a box of its own.

    The first one is the manager, and the switch that the others are plugged into.

    Attributes:
        runtime: name of the default runtime on all machines.
        nodes: the engines that are up, the manager's first.
    """

    def __init__(self, runtime: str, image: Path) -> None:
        self.runtime = runtime
        self.image = image
        self.count = 0
        self.nodes: list[Docker] = []
        self.services: list[str] = []
        manager = self.machine()
        manager.box.call("ip", "link", "add", "lan", "type", "bridge").ok()
        self.plug(manager.box, "lan")
        self("swarm", "init", "--advertise-addr=10.90.0.1", "--dispatcher-heartbeat=1s").ok()
        self.complete()

    def __call__(self, *args: str | Path, **options: Any) -> Done:
        """Runs a command of Docker on the manager."""
        return self.nodes[0](*args, **options)

    def machine(self) -> Docker:
        """A box with a dockerd, and the image in it."""
        self.count += 1
        box = Box()
        try:
            box.call("hostname", f"node{self.count}").ok()
            tar = Path(shutil.copy(self.image, box.folder))
            file = guide("daemon.json", "Swarm").replace(
                "runtime=ocirun", f"runtime={self.runtime}"
            )
            more = {"live-restore": False}  # which a Swarm refuses
            node = Docker(box, self.runtime, runtimes(box), file, **more)
            node.load(tar)
        except BaseException:
            box.close()
            raise
        self.nodes.append(node)
        return node

    def plug(self, box: Box, interface: str) -> None:
        address = f"10.90.0.{self.count}/24"
        box.call("ip", "address", "add", address, "dev", interface).ok()
        box.call("ip", "link", "set", interface, "up").ok()

    def join(self) -> Docker:
        """One more machine, as a worker that is ready."""
        node = self.machine()
        inside = ("nsenter", f"--net=/proc/{self.nodes[0].box.init}/ns/net")
        port, other = f"port{self.count}", str(node.box.init)
        for words in (
            f"link add {port} type veth peer name wire netns {other}",
            f"link set {port} master lan up",
        ):
            subprocess.run([*inside, "ip", *words.split()], check=True)
        self.plug(node.box, "wire")
        token = self("swarm", "join-token", "--quiet", "worker").ok().out.strip()
        node("swarm", "join", f"--token={token}", "10.90.0.1:2377").ok()
        wait_for(lambda: self.state(self.name(node)) == "Ready", "the node to be ready", 30)
        return node

    def complete(self) -> None:
        """Makes them two again."""
        while len(self.nodes) < 2:
            self.join()

    def lose(self) -> str:
        """The last machine is gone from one moment to the next, with all that ran there; its name."""
        node = self.nodes.pop()
        name = self.name(node)
        node.box.close()
        return name

    def name(self, node: Docker) -> str:
        return node.box.call("hostname").ok().out.strip()

    def state(self, node: str) -> str:
        """What the manager says of a machine: Ready, Down or nothing yet."""
        done = self("node", "ls", "--format={{.Hostname}} {{.Status}}").ok()
        return dict(line.split() for line in done.out.splitlines()).get(node, "")

    def create(self, *args: str | Path) -> str:
        """`service create`; what is before a "--" are options of it. The service's name."""
        words = list(map(str, args))
        place = words.index("--") if "--" in words else -1
        name = f"service{next(numbers)}"
        self.services.append(name)
        flags = ("--detach", "--no-resolve-image", "--stop-grace-period=2s", f"--name={name}")
        command = words[place + 1 :]
        self("service", "create", *flags, *words[: max(place, 0)], IMAGE, *command).ok()
        return name

    def tasks(self, service: str) -> dict[str, str]:
        """The tasks that run, by id, and the machine of each."""
        form = "--format={{.ID}} {{.Node}} {{.CurrentState}}"
        flags = ("--no-trunc", "--filter=desired-state=running", form)
        rows = [line.split() for line in self("service", "ps", *flags, service).out.splitlines()]
        return {row[0]: row[1] for row in rows if row[2] == "Running"}

    def spread(self, service: str) -> dict[str, int]:
        """How many tasks run on each machine."""
        nodes = list(self.tasks(service).values())
        return {node: nodes.count(node) for node in set(nodes)}

    def wait_for(self, service: str, count: int, seconds: float = 30) -> None:
        """Waits until so many tasks run; fails with what Docker says of those that do not."""
        try:
            wait_for(lambda: len(self.tasks(service)) == count, f"{count} tasks", seconds)
        except AssertionError as failed:
            form = "--format={{.Node}}: {{.CurrentState}} {{.Error}}"
            words = self("service", "ps", "--no-trunc", form, service).out
            raise AssertionError(f"{failed}: {' '.join(words.split())}") from None

    def containers(self, service: str) -> list[tuple[Docker, str]]:
        """The service's running containers, each with the engine that has it."""
        flags = ("--quiet", f"--filter=label=com.docker.swarm.service.name={service}")
        return [(node, name) for node in self.nodes for name in node("ps", *flags).ok().out.split()]

    def clear(self) -> None:
        """Removes the services of a test, and replaces a machine that was lost."""
        if self.services:
            self("service", "rm", *self.services)
        for service in self.services:
            wait_for(lambda each=service: not self.containers(each), "their end", 20)
        self.services.clear()
        self.complete()

    def close(self) -> None:
        while self.nodes:
            self.nodes.pop().box.close()
