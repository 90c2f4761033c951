"""The ways to run a container from a Python process: the library, and commands beside it."""

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from run import HERE, PARENT

sys.path.insert(1, str(HERE.parent))

from ocirun import AsyncRuntime, Runtime

LIBRARY = "library"
WARM = 3  # containers of a new process that are not counted


def copies(bundle: Path, folder: Path, count: int) -> list[str]:
    """Bundles like `bundle`, with its root file system and cgroups of their own."""
    spec = json.loads((bundle / "config.json").read_text())
    spec["root"]["path"] = str(bundle / "rootfs")
    made = []
    for number in range(count):
        spec["linux"]["cgroupsPath"] = f"/{PARENT}/{folder.name}{number}"
        place = folder / str(number)
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps(spec, indent=4))
        made.append(str(place))
    return made


def milliseconds(act: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


class Ways:
    """The contenders as one process calls them. Its library is warm.

    Args:
        state: folder for the --root of each of them.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.runtime = Runtime(state / LIBRARY)
        self.runtime.__enter__()
        found = {name: shutil.which(name) for name in ("crun", "runc")}
        self.commands = {name: path for name, path in found.items() if path}
        self._numbers = itertools.count()
        self._loop = asyncio.Runner()
        self._async = AsyncRuntime(state / "asyncio")
        self._loop.run(self._async.__aenter__())

    def close(self) -> None:
        """End the executors."""
        self.runtime.close()
        self._loop.run(self._async.__aexit__(None, None, None))
        self._loop.close()

    def run(self, name: str, bundle: str) -> None:
        """Run a container to its end. Raises an exception if it fails."""
        if name == LIBRARY:
            self.runtime.run(bundle, check=True)
            return
        command = [self.commands[name], "--root", str(self.state / name), "run", "-b", bundle]
        container = f"run{os.getpid()}-{next(self._numbers)}"
        subprocess.run([*command, container], check=True)

    def sequence(self, name: str, bundle: str, times: int) -> list[float]:
        """Milliseconds of each of so many containers, one after the other."""
        return [milliseconds(lambda: self.run(name, bundle)) for _ in range(times)]

    def threads(self, name: str, bundles: list[str], times: int) -> None:
        """So many containers from threads, one thread a bundle."""
        free: SimpleQueue[str] = SimpleQueue()
        for bundle in bundles:
            free.put(bundle)

        def one(_: int) -> None:
            bundle = free.get()
            self.run(name, bundle)
            free.put(bundle)

        with ThreadPoolExecutor(len(bundles)) as pool:
            list(pool.map(one, range(times)))

    def tasks(self, bundles: list[str], times: int) -> None:
        """So many containers from tasks of an event loop, one at a time in each bundle."""
        self._loop.run(self._tasks(bundles, times))

    async def _tasks(self, bundles: list[str], times: int) -> None:
        room = asyncio.Semaphore(len(bundles))
        free = list(bundles)

        async def one() -> None:
            async with room:
                bundle = free.pop()
                await self._async.run(bundle, check=True)
                free.append(bundle)

        waiting: list[Coroutine[Any, Any, None]] = [one() for _ in range(times)]
        await asyncio.gather(*waiting)


def floor(program: str, state: Path, bundle: str, times: int) -> list[float]:
    """Milliseconds of each of so many containers of floor.c, with cgroups and a record."""
    cgroup = f"{PARENT}/floor"
    command = [program, "-n", str(times), "-r", str(state), f"{bundle}/rootfs", cgroup, "/bin/true"]
    output = subprocess.check_output(command, text=True)
    return [int(line) / 1e6 for line in output.split()]


class PythonFloor(NamedTuple):
    """A container of floor.py: milliseconds in all, of the two processes; init's page faults."""

    took: float
    parent: float
    init: float
    faults: int


def python_floor(state: Path, bundle: str, times: int) -> list[PythonFloor]:
    """So many containers of floor.py, without the first ones of its process."""
    path = [str(HERE), str(HERE.parent)]
    program = f"import sys; sys.path[:0] = {path}; import floor; floor.main()"
    command = [sys.executable, "-IS", "-c", program, str(times + WARM)]
    command += [str(state / "floor.py"), f"{bundle}/rootfs", f"{PARENT}/floor.py", "/bin/true"]
    rows = subprocess.check_output(command, text=True).splitlines()[WARM:]
    found = []
    for row in rows:
        took, parent, init, faults = map(int, row.split())
        found.append(PythonFloor(took / 1e6, parent / 1e3, init / 1e3, faults))
    return found


def floors(program: str, state: Path, rootfs: str, width: int, times: int) -> None:
    """So many containers of floor.c from `width` processes."""
    processes = []
    for number in range(width):
        share = times // width + (number < times % width)
        command = [program, "-n", str(share), "-r", str(state), rootfs]
        command += [f"{PARENT}/floor{number}", "/bin/true"]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    failed = [process for process in processes if process.wait()]
    if failed:
        raise SystemExit("bench: floor has failed")
