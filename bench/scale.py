"""Many held containers: what the n-th costs, what they weigh, and what a list of them takes."""

import mmap
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple, Protocol

from run import PARENT, pss
from ways import milliseconds

from ocirun import Container, Runtime

EDGE = 100
SETTLE = 1.0
ROOM = 4 << 20  # bytes; what a held container takes of the machine is less
PAGE = os.sysconf("SC_PAGESIZE")
PHASES = ("create", "start", "end")


class Contender(Protocol):
    """Who holds containers: each has a number, which makes its id."""

    def create(self, number: int, bundle: str) -> int: ...
    def start(self, number: int) -> None: ...
    def end(self, number: int) -> None: ...
    def list(self) -> object: ...
    def clear(self, number: int) -> None: ...


class ByLibrary:
    """The library."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.held: dict[int, Container] = {}

    def create(self, number: int, bundle: str) -> int:
        """Create a container; returns the pid of init."""
        container = self.runtime.create(f"held{number}", bundle)
        self.held[number] = container
        return container.pid

    def start(self, number: int) -> None:
        """Start it."""
        self.held[number].start()

    def end(self, number: int) -> None:
        """Kill it, wait, delete it."""
        container = self.held.pop(number)
        container.kill("KILL")
        container.wait(10)
        container.delete()

    def list(self) -> object:
        """Ask for all of them."""
        return self.runtime.list()

    def clear(self, number: int) -> None:
        """Remove it in whatever state."""
        self.runtime.delete(f"held{number}", force=True)


class ByCommand:
    """A command line runtime. This process must be the subreaper."""

    def __init__(self, path: str, root: Path) -> None:
        self.command = [path, "--root", str(root)]
        self.pid_file = root.with_suffix(".pid")
        self.pids: dict[int, int] = {}

    def _do(self, *words: str) -> None:
        subprocess.run([*self.command, *words], check=True, stdout=subprocess.DEVNULL)

    def create(self, number: int, bundle: str) -> int:
        """Create a container; returns the pid of init."""
        self._do("create", "-b", bundle, "--pid-file", str(self.pid_file), f"held{number}")
        pid = self.pids[number] = int(self.pid_file.read_text())
        return pid

    def start(self, number: int) -> None:
        """Start it."""
        self._do("start", f"held{number}")

    def end(self, number: int) -> None:
        """Kill it, wait, delete it."""
        self._do("kill", f"held{number}", "KILL")
        os.waitpid(self.pids.pop(number), 0)
        self._do("delete", f"held{number}")

    def list(self) -> object:
        """Ask for all of them."""
        self._do("list")
        return None

    def clear(self, number: int) -> None:
        """Remove it in whatever state."""
        words = ["delete", "--force", f"held{number}"]
        subprocess.run([*self.command, *words], stderr=subprocess.DEVNULL)


class Weights(NamedTuple):
    """KiB a container: of init, of the kernel as charged to its cgroup, of the kernel in all."""

    init: float
    charged: float
    kernel: float


def hold(
    contender: Contender, bundles: list[str], state: Path, reference: Callable[[], list[float]]
) -> dict[str, Any]:
    """Create one container a bundle, start all, end all. Returns the figures.

    `reference` makes and removes other containers: what it takes before and beside the held
    ones tells how much slower the kernel has become by them, and the machine meanwhile.
    """
    count = len(bundles)
    times: dict[str, list[float]] = {phase: [] for phase in PHASES}
    pids: list[int] = []
    time.sleep(SETTLE)  # the kernel still frees what earlier containers had
    before, stored = kernel_total(), used(state)
    beside = [median(reference())]
    try:
        for number, bundle in enumerate(bundles):
            if number % EDGE == 0:
                touch(min(EDGE, count - number) * ROOM)
            began = time.perf_counter()
            pids.append(contender.create(number, bundle))
            times["create"].append((time.perf_counter() - began) * 1000)
        created = weigh(bundles, pids, before)
        beside.append(median(reference()))
        stored = (used(state) - stored) / count
        for number in range(count):
            times["start"].append(milliseconds(partial(contender.start, number)))
        time.sleep(0.1)  # the last ones are still executing their commands
        running = weigh(bundles, pids, before)
        listing = median(milliseconds(contender.list) for _ in range(3))
        for number in range(count):
            times["end"].append(milliseconds(partial(contender.end, number)))
    finally:
        for number in range(len(times["end"]), len(times["create"])):
            contender.clear(number)
    edge = min(EDGE, count // 2)
    found: dict[str, Any] = {"held": count, "edge": edge, "list": listing, "stored": stored}
    for phase, taken in times.items():
        found[phase] = {"first": median(taken[:edge]), "last": median(taken[-edge:])}
    found["beside"] = {"first": beside[0], "last": beside[1]}
    return found | {"created": created._asdict(), "running": running._asdict()}


def weigh(bundles: list[str], pids: list[int], before: int) -> Weights:
    """Weigh the held containers: at most 50 of them one by one, and all at once."""
    step = max(1, len(pids) // 50)
    init = fmean(pss(pid) * 1024 for pid in pids[::step])
    charged = [charged_memory(bundle) for bundle in bundles[::step]]
    return Weights(init, fmean(charged), (kernel_total() - before) / len(pids))


def charged_memory(bundle: str) -> float:
    """Kernel memory that is charged to the cgroup of a bundle, KiB. 0 where v1 does not tell."""
    place = Path(bundle)
    cgroup = f"/sys/fs/cgroup/memory/{PARENT}/{place.parent.name}{place.name}"
    try:
        return int(Path(cgroup, "memory.kmem.usage_in_bytes").read_text()) / 1024
    except OSError:
        return 0.0


def touch(size: int) -> None:
    """Use and free so much memory, bytes, so that the kernel has pages which it has used before.

    A virtual machine gets memory from its host page by page, at the first use of each, and
    gives it back when it lies idle: held containers would pay for that, and the more of them
    are held, the more; those that are deleted one by one never do.
    """
    size = min(size, os.sysconf("SC_AVPHYS_PAGES") * PAGE // 2)
    with mmap.mmap(-1, size) as memory:
        for place in range(0, size, PAGE):
            memory[place] = 1


def kernel_total() -> int:
    """Memory that the kernel has for itself and cannot give back at once, KiB."""
    parts = ("SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:")
    lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
    return sum(int(words[1]) for words in lines if words[0] in parts)


def used(folder: Path) -> float:
    """KiB in use of a file system."""
    facts = os.statvfs(folder)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize / 1024
