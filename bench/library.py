"""The library beside crun, runc, floor.py and floor.c, all called from one Python process.

Usage: bench/library.py [--rounds 20] [--scale 1000]     (`make bench`, after run.py)

Where and how: as run.py. The contenders' --root is on a tmpfs, as /run is. All are warm:
a round takes each contender in turn, several containers one after the other. Only the held
containers are not interleaved: one contender's are gone before the next one's are made.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from phases import of_library
from phases import table as phase_table
from rich.console import Console
from rich.table import Table
from run import BUILD, PARENT, build, hierarchies, isolate, make_bundle, remove_cgroups
from svg import draw
from ways import LIBRARY, Ways, copies, floor, floors, milliseconds, python_floor

HELD_BY_COMMANDS = 50
BALLAST = 2 << 30
TIMES = 5  # containers of a contender in a round
WIDTHS = (2, 8)
BIG = ", 2 GB"
PYTHON = "floor.py"

Samples = dict[str, list[float]]
_ways: Ways
_ballast: bytearray


def grow(state: Path) -> None:
    """Become a process of 2 GB that uses the library."""
    global _ways, _ballast
    _ballast = bytearray(BALLAST)
    _ballast[::4096] = bytes([1]) * (BALLAST // 4096)
    _ways = Ways(state)


def in_big(name: str, bundle: str, times: int) -> list[float]:
    """`Ways.sequence` there."""
    return _ways.sequence(name, bundle, times)


def rounds(jobs: dict[str, Callable[[], list[float]]], count: int, warm: int) -> Samples:
    """Do every job once a round, the first one changing; keep the samples but of `warm` rounds."""
    samples: Samples = {name: [] for name in jobs}
    names = list(jobs)
    for number in range(count + warm):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            taken = jobs[name]()
            if number >= warm:
                samples[name] += taken
    return samples


def sequential(ways: Ways, program: str, work: Path, count: int) -> Samples:
    """One container after the other, from a small process and from one of 2 GB."""
    bundle = str(work / "once")
    context = multiprocessing.get_context("spawn")
    big_state = ways.state / "big"
    big_state.mkdir()
    with ProcessPoolExecutor(1, context, grow, (big_state,)) as pool:

        def big(name: str) -> list[float]:
            return pool.submit(in_big, name, bundle, TIMES).result()

        jobs: dict[str, Callable[[], list[float]]] = {}
        for name in (LIBRARY, *ways.commands):
            jobs[name] = partial(ways.sequence, name, bundle, TIMES)
        jobs[PYTHON] = lambda: [c.took for c in python_floor(ways.state, bundle, TIMES)]
        jobs["C"] = lambda: floor(program, ways.state, bundle, TIMES)
        for name in (LIBRARY, *ways.commands):
            if name != "runc":
                jobs[name + BIG] = partial(big, name)
        return rounds(jobs, count, 2)


def throughput(ways: Ways, program: str, work: Path, count: int) -> dict[int, Samples]:
    """Containers a second, so many at once."""
    bundles = copies(work / "once", work / "many", max(WIDTHS))
    rootfs = str(work / "once" / "rootfs")
    found = {}
    for width in WIDTHS:
        times = 12 * max(width // 2, 2)
        some = bundles[:width]
        acts: dict[str, Callable[[], None]] = {
            "library, threads": partial(ways.threads, LIBRARY, some, times),
            "library, asyncio": partial(ways.tasks, some, times),
            "C, processes": partial(floors, program, ways.state, rootfs, width, times),
        }
        for name in ways.commands:
            acts[f"{name}, threads"] = partial(ways.threads, name, some, times)
        jobs: dict[str, Callable[[], list[float]]] = {}
        for name, act in acts.items():
            jobs[name] = partial(rate, act, times)
        found[width] = rounds(jobs, count, 1)
    return found


def rate(act: Callable[[], None], times: int) -> list[float]:
    """Containers a second of something that runs `times` of them."""
    return [times * 1000 / milliseconds(act)]


def held(ways: Ways, program: str, work: Path, count: int) -> dict[str, dict[str, Any]]:
    """Many held containers of the library, fewer of the commands, and as few of the library."""
    from scale import ByCommand, ByLibrary, hold

    def reference() -> list[float]:
        return floor(program, ways.state, str(work / "once"), 20)

    few = copies(work / "long", work / "few", HELD_BY_COMMANDS)
    found = {}
    for name, path in ways.commands.items():
        row = f"{name}, {len(few)}"
        found[row] = hold(ByCommand(path, ways.state / name), few, ways.state, reference)
    found[f"{LIBRARY}, {len(few)}"] = hold(ByLibrary(ways.runtime), few, ways.state, reference)
    if count:
        many = copies(work / "long", work / "held", count)
        found[f"{LIBRARY}, {count}"] = hold(ByLibrary(ways.runtime), many, ways.state, reference)
    return found


def middle(samples: list[float]) -> str:
    """The middle half."""
    low, _, high = quantiles(samples, n=4)
    return f"{low:.1f}-{high:.1f}"


def table(title: str, *columns: str) -> Table:
    """An empty table; its first column names the contender."""
    made = Table(title=title)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", no_wrap=True)
    return made


def show(console: Console, once: Samples, many: dict[int, Samples]) -> None:
    """Print the tables of what has been run to its end."""
    mine = median(once[LIBRARY])
    shown = table("run, default spec, /bin/true, warm, one after the other: ms",
                  "", "run", "middle half", "library's share")  # fmt: skip
    for name, samples in once.items():
        typical = median(samples)
        shown.add_row(name, f"{typical:.2f}", middle(samples), f"{mine / typical:.2f}")
    console.print(shown)
    columns = [text for width in many for text in (f"{width} at once", "middle half")]
    shown = table("containers a second", "", *columns)
    for name in next(iter(many.values())):
        cells = []
        for found in many.values():
            cells += [f"{median(found[name]):.0f}", middle(found[name])]
        shown.add_row(name, *cells)
    console.print(shown)


def show_held(console: Console, found: dict[str, dict[str, Any]]) -> None:
    """Print the tables of what was held."""
    from scale import PHASES

    speed = table("held containers: ms each, first and last ones (end: kill, wait, delete)",
                  "", "C beside them", *PHASES, "list")  # fmt: skip
    weight = table("held containers: KiB each", "", "init created", "running",
                   "kernel: its cgroup's", "in all", "record")  # fmt: skip
    for name, row in found.items():
        cells = [
            f"{row[phase]['first']:.1f} {row[phase]['last']:.1f}" for phase in ("beside", *PHASES)
        ]
        speed.add_row(name, *cells, f"{row['list']:.1f}")
        created, running = row["created"], row["running"]
        cells = [f"{created['init']:.0f}", f"{running['init']:.0f}"]
        for what in ("charged", "kernel"):
            cells.append(f"{created[what]:.0f} {running[what]:.0f}")
        weight.add_row(name, *cells, f"{row['stored']:.0f}")
    console.print(speed)
    console.print(weight)


def save(
    once: Samples,
    many: dict[int, Samples],
    scale: dict[str, dict[str, Any]],
    phases: dict[str, float],
) -> None:
    """Add the figures to those of run.py, and its phases to the picture."""
    path = BUILD / "bench.json"
    everything = json.loads(path.read_text()) if path.exists() else {}
    typical = {name: median(samples) for name, samples in once.items()}
    mine = typical[LIBRARY]
    everything["python"] = {
        "sequential ms": typical,
        "library's share": {name: mine / value for name, value in typical.items()},
        "containers a second": {
            width: {name: median(samples) for name, samples in found.items()}
            for width, found in many.items()
        },
        "held": scale,
    }
    everything.setdefault("phases", {})["the library's run"] = phases
    path.write_text(json.dumps(everything, indent=1) + "\n")
    contenders = {name: row for name, row in everything.items() if "run" in row}
    if contenders:
        (BUILD / "bench.svg").write_text(draw(contenders, everything["phases"]))


def prepare(work: Path) -> tuple[Ways, str]:
    """Make the bundles, the tmpfs and the cgroups. Returns the contenders and floor.c's program."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    make_bundle(work / "once", ["/bin/true"])
    make_bundle(work / "long", ["/bin/sleep", "1000"])
    state = work / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(state)], check=True)
    for folder in hierarchies():
        (folder / PARENT).mkdir(exist_ok=True)
    return Ways(state), build()[0]


def main() -> None:
    """Measure, print, add to bench.json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--scale", type=int, default=1000, help="held containers; 0: no more than 50"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root")
    isolate()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ocirun-bench-") as folder:
        work = Path(folder)
        try:
            ways, program = prepare(work)
            once = sequential(ways, program, work, options.rounds)
            phases = of_library(partial(ways.run, LIBRARY, str(work / "once")), options.rounds)
            many = throughput(ways, program, work, max(options.rounds // 3, 2))
            scale = held(ways, program, work, options.scale)
            ways.close()
        finally:
            subprocess.run(["umount", "-l", str(work / "state")], check=False)
            remove_cgroups()
    console = Console(markup=False, width=None if sys.stdout.isatty() else 100)
    show(console, once, many)
    show_held(console, scale)
    console.print(phase_table("where the time of the library's run goes", phases))
    save(once, many, scale, phases)
    seconds, load = time.monotonic() - began, os.getloadavg()[0]
    print(f"{options.rounds} rounds in {seconds:.0f} s; load of the machine at the end: {load:.1f}")


if __name__ == "__main__":
    main()
