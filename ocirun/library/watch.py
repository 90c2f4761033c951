"""Containers of a test, and what they leave behind. Behind the pytest plugin; knows no pytest.

Belongs here: a Runtime that remembers what it has made, the factory of containers
that deletes them, the comparison of before and after. Does not belong here:
fixtures and how a leak is reported (`ocirun.pytest`).
"""

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ocirun.errors import OcirunError
from ocirun.library.completed import CompletedContainer
from ocirun.library.runtime import Container, Runtime
from ocirun.library.streams import DEVNULL

if TYPE_CHECKING:
    from ocirun.library.executor import RemoteProcess
    from ocirun.library.runtime import Bundle
    from ocirun.library.streams import Streams
    from ocirun.runtime.create import Created, Request

PATIENCE = 0.5
"""Seconds that killed processes get to be gone."""


class Born(NamedTuple):
    """A container that was made: its id, its cgroups as recorded, its init."""

    id: str
    cgroups: dict[str, str]
    process: "RemoteProcess"


class WatchedRuntime(Runtime):
    """A Runtime that remembers the containers it has made.

    Attributes:
        born: them, in order.
        told: mounts that have been reported, each of them once.
    """

    def __init__(self, root: str | os.PathLike[str] = "") -> None:
        super().__init__(root)
        self.born: list[Born] = []
        self.told: set[tuple[str, str]] = set()

    def _bear(self, request: "Request", streams: "Streams") -> "Created":
        created = super()._bear(request, streams)
        self.born.append(Born(request.id, created.fields["cgroups"], created.process))  # type: ignore[arg-type]
        return created


class Watch:
    """What a Runtime has left behind since this was made.

    Containers that were there before are nobody's leak, nor is what others mount and
    unmount; a mount that somebody else adds meanwhile is taken for one.
    """

    def __init__(self, runtime: WatchedRuntime) -> None:
        self._runtime = runtime
        self._first = len(runtime.born)
        self._ids = {container.id for container in runtime.list()}
        self._mounts = mounts().keys()

    def leaks(self, patience: float = PATIENCE) -> list[str]:
        """One line for everything that is left, "" of nothing; waits for it to be gone."""
        limit = time.monotonic() + patience
        while (found := self._leaks()) and time.monotonic() < limit:
            time.sleep(0.02)
        return found

    def _leaks(self) -> list[str]:
        found = [
            f"container {container.id} ({container.status})"
            for container in self._runtime.list()
            if container.id not in self._ids
        ]
        for born in self._runtime.born[self._first :]:
            if born.process.ended() is None:
                found.append(f"process {born.process.pid}, init of container {born.id}")
            folders = [path for path in dict.fromkeys(born.cgroups.values()) if os.path.isdir(path)]
            if folders:
                others = f" (and {len(folders) - 1} more)" if folders[1:] else ""
                found.append(f"cgroup {folders[0]}{others}")
        now = mounts()
        return found + [f"mount {now[key]}" for key in now if self._is_new(key)]

    def _is_new(self, mount: tuple[str, str]) -> bool:
        return mount not in self._mounts and mount not in self._runtime.told

    def sweep(self) -> list[str]:
        """Remove containers, processes and cgroups; returns what remains. Mounts are left alone.

        Whose mounts they are cannot be told.
        """
        from ocirun import cgroups

        for container in self._runtime.list():
            if container.id not in self._ids:
                _quietly(self._runtime.delete, container.id, force=True)
        for born in self._runtime.born[self._first :]:
            if born.process.ended() is None:
                born.process.end()
            if any(map(os.path.isdir, born.cgroups.values())):
                _quietly(cgroups.kill, born.cgroups)
                _quietly(cgroups.remove, born.cgroups)
        return self.leaks()

    def close(self) -> None:
        """Forget the containers, let go of their descriptors; what is mounted now is known."""
        self._runtime.told.update(filter(self._is_new, mounts()))
        for born in self._runtime.born[self._first :]:
            born.process.close()
        del self._runtime.born[self._first :]


class Containers:
    """Runs and makes containers, and deletes them all at the end.

    Attributes:
        runtime: the Runtime that makes them.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._held: list[Container] = []

    def __call__(self, bundle: "Bundle", **options: Any) -> CompletedContainer:
        """Run a container to its end, as `Runtime.run` with the same options.

        Unless they say otherwise stdin is empty, and stdout and stderr are caught as text.
        """
        options.setdefault("text", True)
        if options.keys().isdisjoint(("capture_output", "stdout", "stderr")):
            options["capture_output"] = True
        if options.keys().isdisjoint(("stdin", "input")):
            options["stdin"] = DEVNULL
        return self.runtime.run(bundle, **options)

    def create(self, bundle: "Bundle", id: str | None = None, **options: Any) -> Container:
        """Create a container that waits for `start`, as `Runtime.create` with the same options.

        It is deleted, running or not, at the end of the test. Its id is made up when
        not given; unless the options say otherwise stdin is empty, pipes are of text, and
        its output goes where that of the test goes.
        """
        options.setdefault("text", True)
        options.setdefault("stdin", DEVNULL)
        name = id or "held-" + os.urandom(8).hex()
        container = self.runtime.create(name, bundle, **options)
        self._held.append(container)
        return container

    def close(self) -> None:
        """Delete the containers that are still there, and close their pipes."""
        while self._held:
            container = self._held.pop()
            for stream in (container.stdin, container.stdout, container.stderr):
                if stream is not None:
                    _quietly(stream.close)
            container.delete(force=True)


def mounts() -> dict[tuple[str, str], str]:
    """(mount id, mount point) -> "point (type)" of this mount namespace (proc(5), mountinfo)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split() for line in file]
    return {
        (fields[0], fields[4]): f"{fields[4]} ({fields[fields.index('-') + 1]})" for fields in lines
    }


def _quietly(operation: Any, *args: Any, **options: Any) -> None:
    """Do it; what could not be done shows as a leak."""
    try:
        operation(*args, **options)
    except (OcirunError, OSError):
        pass
