"""Where the time of one container goes: `ocirun run`, and `Runtime.run` of a warm library.

Both are measured by stamps of CLOCK_MONOTONIC at the borders of the phases. For the
command, a copy of the launcher takes them; the time before its first line and after its
end is seen from outside. What it takes to place the stamps is left out. The stamps of
the library are in the process that calls it. Phases add up to the whole of a round;
medians of phases need not.
"""

import marshal
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

Phases = dict[str, float]

WHOLE, BARE = "whole", "whole, without stamps"
SHARED = ("clone", "record, cgroups", "init until execve", "command and its end", "cleanup")
PLAN = "plan"
OF_COMMAND = ("interpreter", "imports", PLAN, *SHARED)
OF_LIBRARY = (PLAN, *SHARED)

_HEAD = "import time; stamps = [time.perf_counter_ns()]\n"
_MODULES = "import ocirun.cli.hot, ocirun.api, ocirun.runtime.run\n"
_TAIL = """\
stamps.append(time.perf_counter_ns())
import marshal, posix
fd = posix.open({path!r}, posix.O_RDONLY | posix.O_CLOEXEC)
exec(marshal.loads(posix.read(fd, 1 << 20)))
posix.close(fd)
stamps.append(time.perf_counter_ns())
main()
"""
_WRAP = """\
import sys

def wrap(place, name, before, after):
    inner = getattr(place, name)
    def stamped(*args, **options):
        if before:
            stamps.append(time.perf_counter_ns())
        try:
            return inner(*args, **options)
        finally:
            if after:
                stamps.append(time.perf_counter_ns())
    setattr(place, name, stamped)

def leave(status, end=posix._exit):
    stamps.append(time.perf_counter_ns())
    posix.write(1, " ".join(map(str, stamps)).encode())
    end(status)

making, running = sys.modules["ocirun.runtime.create"], sys.modules["ocirun.runtime.run"]
wrap(making, "spawn", True, True)
wrap(making.Birth, "finish", True, True)
wrap(running, "_attend", False, True)
posix._exit = leave
"""


class Command:
    """`ocirun run` with stamps.

    Args:
        launcher: an installed launcher.
        work: folder for the copy and for the records.
        bundle: a bundle whose command ends by itself, with 0 and without a word.
    """

    def __init__(self, launcher: str, work: Path, bundle: Path) -> None:
        self.launcher, self.work, self.bundle = launcher, work, bundle
        self.copy = work / "stamped"
        first, _, rest = Path(launcher).read_text().partition("\n")
        body, call, _ = rest.rpartition("main()\n")
        if not call or "ocirun.cli.entry" not in body:
            raise ValueError(f"{launcher} is no launcher of tools/install.py")
        code = work / "stamped.code"
        code.write_bytes(marshal.dumps(compile(_WRAP, "stamps", "exec")))
        self.copy.write_text(f"{first}\n{_HEAD}{body}{_MODULES}{_TAIL.format(path=str(code))}")
        self.copy.chmod(0o755)

    def measure(self, rounds: int) -> Phases:
        """The medians, in milliseconds."""
        found: list[Phases] = []
        for number in range(rounds + 3):
            whole, _ = self._run(self.launcher, f"plain{number}")
            row = self._phases(f"stamped{number}")
            if number >= 3:
                found.append({**row, BARE: whole})
        return medians(found)

    def _phases(self, container: str) -> Phases:
        whole, text = self._run(str(self.copy), container)
        times = [int(word) / 1e6 for word in text.split()]
        # First line, imported | placed, spawn, finish, _attend, and the end.
        began, imported, *rest = times
        inside = rest[-1] - began
        row = {"interpreter": whole - inside, "imports": imported - began}
        row |= between((PLAN, *SHARED), rest)
        row[WHOLE] = sum(row.values())
        return row

    def _run(self, program: str, container: str) -> tuple[float, str]:
        """Run a container; return the milliseconds and what came on standard output."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        command = [program, "--root", str(self.work / "ocirun"), "run"]
        command += ["-b", str(self.bundle), container]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writer, 1),
        ]
        began = time.perf_counter_ns()
        pid = os.posix_spawn(program, command, os.environ, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        ended = time.perf_counter_ns()
        os.close(writer)
        with os.fdopen(reader, encoding="ascii") as output:
            text = output.read()
        if status:
            raise SystemExit(f"bench: wait status {status}: {' '.join(command)}")
        return (ended - began) / 1e6, text


def of_library(run: Callable[[], object], rounds: int) -> Phases:
    """The medians in milliseconds of a call of the library's `Runtime.run` in this process."""
    from ocirun.executor.parent import Birth
    from ocirun.library.executor import Executor
    from ocirun.library.streams import Conversation

    stamps: list[int] = []
    places: list[tuple[Any, str, bool]] = [
        (Executor, "clone", True), (Birth, "finish", True), (Conversation, "hold", False),
    ]  # fmt: skip
    inner = [getattr(place, name) for place, name, _ in places]
    found: list[Phases] = []
    for number in range(rounds + 3):
        began = time.perf_counter_ns()
        run()
        bare = (time.perf_counter_ns() - began) / 1e6
        for (place, name, before), function in zip(places, inner, strict=True):
            setattr(place, name, _stamped(function, stamps, before))
        try:
            stamps[:] = [time.perf_counter_ns()]
            run()
            stamps.append(time.perf_counter_ns())
        finally:
            for (place, name, _), function in zip(places, inner, strict=True):
                setattr(place, name, function)
        row = between(OF_LIBRARY, [stamp / 1e6 for stamp in stamps])
        row[WHOLE] = sum(row.values())
        if number >= 3:
            found.append({**row, BARE: bare})
    return medians(found)


def _stamped(inner: Callable[..., Any], stamps: list[int], before: bool) -> Callable[..., Any]:
    def stamped(*args: Any, **options: Any) -> Any:
        if before:
            stamps.append(time.perf_counter_ns())
        try:
            return inner(*args, **options)
        finally:
            stamps.append(time.perf_counter_ns())

    return stamped


def between(names: tuple[str, ...], times: list[float]) -> Phases:
    """What lies between one stamp and the next, by name."""
    pairs = pairwise(times)
    return {name: end - begin for name, (begin, end) in zip(names, pairs, strict=True)}


def medians(rows: list[Phases]) -> Phases:
    """The median of every column."""
    return {name: median(row[name] for row in rows) for name in rows[0]}


def table(title: str, phases: Phases) -> Table:
    """A table of phases."""
    made = Table(title=title)
    made.add_column("phase", no_wrap=True)
    made.add_column("ms", justify="right", no_wrap=True)
    made.add_column("share", justify="right", no_wrap=True)
    for name, value in phases.items():
        share = "" if name == BARE else f"{value / phases[WHOLE]:.0%}"
        made.add_row(name, f"{value:.2f}", share)
    return made
