"""A container as Docker asks for it, with its default seccomp profile: ocirun, runc and crun.

Usage: bench/docker.py [--rounds 30]     (part of `make bench`)

Where and how: as run.py. Every contender has run the bundle before, so ocirun has the compiled
filter already. Besides: how long a plan takes to compile.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from rich.console import Console
from rich.table import Table
from run import HERE, PARENT, Bench, hierarchies, install, isolate, make_bundle, remove_cgroups
from ways import LIBRARY, Ways, milliseconds

sys.path.insert(1, str(HERE.parent / "tests"))

from lib.seccomp import docker_profile

from ocirun.cgroups import layout
from ocirun.plan.compile import compile_plan
from ocirun.plan.host import Host, capabilities

CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID"),
        *("SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
    )
]
DEVICES = ("c *:* m", "b *:* m", *(f"c {n} rwm" for n in ("1:3", "1:5", "1:7", "1:8", "1:9")))
DEVICES += ("c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm")


def rule(words: str) -> dict[str, Any]:
    """A device rule from "c 1:3 rwm"."""
    kind, numbers, access = words.split()
    found: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    for key, number in zip(("major", "minor"), numbers.split(":"), strict=True):
        if number != "*":
            found[key] = int(number)
    return found


def as_docker(bundle: Path) -> Path:
    """Make the default spec of a bundle the one that Docker writes, but for its network hook."""
    path = bundle / "config.json"
    spec = json.loads(path.read_text())
    process, linux = spec["process"], spec["linux"]
    sets = ("bounding", "effective", "permitted")
    process["capabilities"] = dict.fromkeys(sets, CAPABILITIES)
    process.update(noNewPrivileges=False, oomScoreAdj=0)
    process.pop("rlimits", None)
    spec["root"]["readonly"] = False
    nothing = ["nosuid", "noexec", "nodev"]
    for entry in spec["mounts"]:
        if entry["destination"] == "/dev/shm":
            entry["options"] = [*nothing, "mode=1777", "size=67108864"]
    for name in ("resolv.conf", "hostname", "hosts"):
        source = bundle / name
        source.write_text("")
        spec["mounts"].append(
            {
                "destination": f"/etc/{name}", "type": "bind", "source": str(source),
                "options": ["rbind", "rprivate"],
            }
        )  # fmt: skip
    if all(entry["type"] != "cgroup" for entry in spec["mounts"]):
        options = ["ro", *nothing]
        entry = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
        spec["mounts"].append({**entry, "options": options})
    rules = [{"allow": False, "access": "rwm"}, *map(rule, DEVICES)]
    linux["resources"] = {"devices": rules, "blockIO": {}, "pids": {"limit": 0}}
    linux["sysctl"] = {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
    linux["seccomp"] = docker_profile(frozenset(CAPABILITIES))
    path.write_text(json.dumps(spec, indent=4))
    return bundle


def plan_time(bundle: Path, times: int = 200) -> float:
    """Milliseconds to compile the plan of a bundle's spec, without its filter (median)."""
    spec = json.loads((bundle / "config.json").read_text())
    host = Host(layout(), os.geteuid(), capabilities())
    act = partial(compile_plan, spec, host, "bench", str(bundle))
    return median(milliseconds(act) for _ in range(times))


def report(samples: dict[str, list[float]], bases: dict[str, str]) -> None:
    """Print the medians, and shares of the contender that each is compared with."""
    table = Table(title="Docker's spec with its seccomp profile, /bin/true: ms")
    for column in ("", "run", "middle half", "share"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, taken in samples.items():
        low, middle, high = quantiles(taken, n=4)
        share = ""
        if base := bases.get(name):
            share = f"{middle / median(samples[base]):.2f} of {base}"
        table.add_row(name, f"{middle:.1f}", f"{low:.1f}-{high:.1f}", share)
    Console(markup=False, width=None if sys.stdout.isatty() else 100).print(table)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root")
    launcher = str(install())
    isolate()
    for folder in hierarchies():
        (folder / PARENT).mkdir(exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ocirun-bench-", dir="/run") as work:
        plain = make_bundle(Path(work) / "plain", ["/bin/true"])
        bundle = str(as_docker(make_bundle(Path(work) / "docker", ["/bin/true"])))
        bench = Bench(launcher, Path(work))
        ways = Ways(Path(work) / "ways")
        try:
            samples = measure(bench, ways, bundle, options.rounds)
        finally:
            ways.close()
            remove_cgroups()
        report(samples, {"ocirun run": "runc run", LIBRARY: "crun"})
        for name, place in (("the default spec", plain), ("Docker's", Path(bundle))):
            print(f"plan of {name}: {plan_time(place):.2f} ms")
    print(f"{options.rounds} rounds in {time.monotonic() - began:.0f} s")


def measure(bench: Bench, ways: Ways, bundle: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each contender: commands alone, and called from Python as the library is."""

    def command(name: str, number: int) -> list[float]:
        runtime = [bench.runtimes[name], "--root", str(bench.work / name)]
        bench.take(name, "docker", [*runtime, "run", "-b", bundle, f"{name}-{number}"])
        return [bench.samples[name, "docker"][-1].time]

    samples: dict[str, list[float]] = {}
    for number in range(rounds + 2):
        jobs = {f"{name} run": partial(command, name, number) for name in bench.runtimes}
        for name in (LIBRARY, *ways.commands):
            jobs[name] = partial(ways.sequence, name, bundle, 5)
        names = list(jobs)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            taken = jobs[name]()
            if number >= 2:
                samples.setdefault(name, []).extend(taken)
    return {name: samples[name] for name in sorted(samples)}


if __name__ == "__main__":
    main()
