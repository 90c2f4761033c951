"""ocirun beside runc and crun: the same bundle, interleaved in one run, medians.

Usage: bench/run.py [LAUNCHER] [--rounds 40] [--picture FILE]     (`make bench`)

Everything happens in a private mount namespace without the cgroup v2 mount:
Debian's crun refuses a hybrid layout, and so all contenders see the same.
Floors: the interpreter's bare start, and floor.c, which makes a default
container's system calls and nothing else.
"""

import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from phases import Command, table
from rich.console import Console
from rich.table import Table
from svg import draw

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"
PARENT = "ocirun-bench"
STEPS = ("create", "start", "state", "kill", "delete")


class Sample(NamedTuple):
    """One measured command: milliseconds and peak memory in MiB."""

    time: float
    memory: float


Samples = dict[tuple[str, str], list[Sample]]


def build() -> tuple[str, str]:
    """Compile the two helpers. Returns their paths."""
    BUILD.mkdir(exist_ok=True)
    paths = []
    for name in ("floor", "measure"):
        target = BUILD / name
        source = HERE / f"{name}.c"
        command = ["gcc", "-O2", "-static", "-Wall", "-o", str(target), str(source)]
        subprocess.run(command, check=True)
        paths.append(str(target))
    return paths[0], paths[1]


def make_bundle(folder: Path, args: list[str]) -> Path:
    """Write a bundle with the default spec of `runc spec`, without a terminal."""
    rootfs = folder / "rootfs" / "bin"
    rootfs.mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", rootfs / "busybox")
    for applet in ("true", "sleep", "sh"):
        (rootfs / applet).symlink_to("busybox")
    subprocess.run(["runc", "spec"], cwd=folder, check=True)
    path = folder / "config.json"
    spec = json.loads(path.read_text())
    spec["process"]["terminal"] = False
    spec["process"]["args"] = args
    spec["linux"]["cgroupsPath"] = f"/{PARENT}/{folder.name}"
    path.write_text(json.dumps(spec, indent=4))
    return folder


def install() -> Path:
    """Install this tree below build/, as a user has it. Returns the launcher."""
    prefix = BUILD / "bench"
    if "OCIRUN_BENCH_INSIDE" not in os.environ:
        command = [sys.executable, str(HERE.parent / "tools/install.py"), str(prefix)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return prefix / "bin" / "ocirun"


class Bench:
    """The contenders, the bundles, and what has been measured."""

    def __init__(self, launcher: str, work: Path) -> None:
        self.floor, self.measure = build()
        self.launcher = launcher
        self.work = work
        self.samples: Samples = {}
        self.held: dict[str, list[float]] = {}
        self.runtimes = {"ocirun": launcher}
        for name in ("runc", "crun"):
            found = shutil.which(name)
            if found:
                self.runtimes[name] = found
        self.once = make_bundle(work / "once", ["/bin/true"])
        self.long = make_bundle(work / "long", ["/bin/sleep", "1000"])
        first = Path(launcher).read_text().partition("\n")[0]
        self.interpreter = first.removeprefix("#!").split()

    def take(self, name: str, what: str, command: list[str], keep: bool = True) -> None:
        """Run a command once, and keep its sample. Raises SystemExit if it fails."""
        output = subprocess.check_output([self.measure, *command], text=True)
        nanoseconds, kibibytes, status = map(int, output.split())
        if status:
            raise SystemExit(f"bench: exit status {status}: {' '.join(command)}")
        if keep:
            sample = Sample(nanoseconds / 1e6, kibibytes / 1024)
            self.samples.setdefault((name, what), []).append(sample)

    def round(self, number: int, keep: bool) -> None:
        """Every contender once, one after the other, the first one changing from round to round."""
        jobs: list[Callable[[], None]] = []
        for name in self.runtimes:
            jobs.append(partial(self.lifetime, name, number, keep))
        python = [*self.interpreter, "-c"]
        floor = [self.floor, str(self.once / "rootfs")]
        for name, command in (
            ("python, bare", [*python, "pass"]),
            ("python, bare, _exit", [*python, "import posix; posix._exit(0)"]),
            ("C, no cgroups", [*floor, "-", "/bin/true"]),
            ("C", [*floor, f"{PARENT}/floor", "/bin/true"]),
        ):
            jobs.append(partial(self.take, name, "run", command, keep))
        shift = number % len(jobs)
        for job in jobs[shift:] + jobs[:shift]:
            job()

    def lifetime(self, name: str, number: int, keep: bool) -> None:
        """One `run`, then a container from create to delete."""
        runtime = [self.runtimes[name], "--root", str(self.work / name)]
        self.take(name, "run", [*runtime, "run", "-b", str(self.once), f"run{number}"], keep)
        container = f"long{number}"
        pid_file = self.work / "pid"
        create = ["create", "-b", str(self.long), "--pid-file", str(pid_file), container]
        self.take(name, "create", [*runtime, *create], keep)
        pid = int(pid_file.read_text())
        if keep:
            self.held.setdefault(name, []).append(pss(pid))
        self.take(name, "start", [*runtime, "start", container], keep)
        self.take(name, "state", [*runtime, "state", container], keep)
        self.take(name, "kill", [*runtime, "kill", container, "KILL"], keep)
        os.waitpid(pid, 0)  # this process is the subreaper
        self.take(name, "delete", [*runtime, "delete", container], keep)


def pss(pid: int) -> float:
    """Memory of a held init process in MiB: its proportional share (proc(5), smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def median(samples: list[Sample]) -> float:
    """Median time in milliseconds."""
    return statistics.median(sample.time for sample in samples)


def spread(samples: list[Sample]) -> str:
    """The middle half of the times: the noise."""
    low, _, high = statistics.quantiles([sample.time for sample in samples], n=4)
    return f"{low:.1f}-{high:.1f}"


def figures(bench: Bench) -> dict[str, dict[str, float]]:
    """Medians per contender: each command in ms, their sum, peak and held memory in MiB."""
    found: dict[str, dict[str, float]] = {}
    for name in bench.runtimes:
        row = {what: median(bench.samples[name, what]) for what in ("run", *STEPS)}
        row["sum"] = sum(row[what] for what in STEPS)
        row["peak"] = max(s.memory for s in bench.samples[name, "run"])
        row["held"] = statistics.median(bench.held[name])
        found[name] = row
    for (name, what), samples in bench.samples.items():
        if name not in found and what == "run":
            found[name] = {"run": median(samples), "peak": max(s.memory for s in samples)}
    return found


def report(bench: Bench, found: dict[str, dict[str, float]]) -> None:
    """Print two tables: `run` with memory and noise, and the commands one by one."""
    base = found.get("runc", {})

    def cell(row: dict[str, float], what: str) -> str:
        if what not in row:
            return ""
        share = f" {row[what] / base[what]:4.2f}" if base.get(what) else ""
        return f"{row[what]:.1f}{share}"

    once = Table(title="run of the default spec with /bin/true: ms, share of runc's; MiB")
    for column in ("", "run", "middle half", "peak memory", "held init"):
        once.add_column(column, justify="right" if column else "left", no_wrap=True)
    steps = Table(title="from create to delete: ms, share of runc's")
    for column in ("", *STEPS, "sum"):
        steps.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, row in found.items():
        noise = spread(bench.samples[name, "run"])
        once.add_row(name, cell(row, "run"), noise, cell(row, "peak"), cell(row, "held"))
        if "sum" in row:
            steps.add_row(name, *(cell(row, what) for what in (*STEPS, "sum")))
    console = Console(markup=False, width=None if sys.stdout.isatty() else 100)
    console.print(once)
    console.print(steps)


def isolate() -> None:
    """Enter a private mount namespace without the v2 mount; adopt orphans."""
    if "OCIRUN_BENCH_INSIDE" not in os.environ:
        os.environ["OCIRUN_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])
    unified = "/sys/fs/cgroup/unified"
    if os.path.ismount(unified):
        subprocess.run(["umount", unified], check=True)
        # crun makes its folders there all the same: let them be in something that vanishes.
        subprocess.run(["mount", "-t", "tmpfs", "none", unified], check=True)
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def remove_cgroups() -> None:
    """Remove the parent of the benchmark's cgroups in every hierarchy."""
    for folder in hierarchies():
        try:
            (folder / PARENT).rmdir()
        except OSError as error:
            print(f"bench: {folder / PARENT} is left: {error}", file=sys.stderr)


def hierarchies() -> list[Path]:
    """The mount points of the cgroup hierarchies, v1 and v2."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [Path(f[4]) for f in lines if f[f.index("-") + 1] in ("cgroup", "cgroup2")]


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("launcher", nargs="?", help="default: a fresh installation of this tree")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--picture", type=Path, default=BUILD / "bench.svg")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root")
    launcher = os.path.abspath(options.launcher or install())
    isolate()
    for folder in hierarchies():
        (folder / PARENT).mkdir(exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ocirun-bench-") as work:
        bench = Bench(launcher, Path(work))
        try:
            for number in range(options.rounds + 3):
                bench.round(number, keep=number >= 3)
            phases = Command(launcher, Path(work), bench.once).measure(options.rounds // 2)
        finally:
            remove_cgroups()
    found = figures(bench)
    report(bench, found)
    console = Console(markup=False, width=None if sys.stdout.isatty() else 100)
    console.print(table("where the time of ocirun run goes", phases))
    parts = {"ocirun run": phases}
    (BUILD / "bench.json").write_text(json.dumps({**found, "phases": parts}, indent=1) + "\n")
    options.picture.write_text(draw(found, parts))
    seconds = time.monotonic() - began
    print(f"{options.rounds} rounds in {seconds:.0f} s; the picture is {options.picture}")


if __name__ == "__main__":
    main()
