"""Absurd values: a clear error soon, or the right effect; nothing is left behind in either case.

The leak check of this folder looks after every row; the time is bounded by the driver's own
limit of a call, which is no measurement.
"""

from collections.abc import Callable
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime

pytestmark = pytest.mark.only("ocirun")

MB = "x" * (1 << 20)
P, L = "/process", "/linux"
MANY = 10**5
ONE_ID = [{"containerID": i, "hostID": i, "size": 1} for i in range(MANY)]
LIMIT = {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}
NULL = {"type": "c", "major": 1, "minor": 3}

REFUSED: list[tuple[str, Callable[[Bundle], object], list[str]]] = [
    ("an argument", lambda b: b.args("/bin/probe", MB), ["argument list too long", "execve"]),
    ("a variable", lambda b: b.set(f"{P}/env", [f"A={MB}"]), ["argument list too long"]),
    ("a directory", lambda b: b.set(f"{P}/cwd", f"/{MB}"), ["/process/cwd", "too long"]),
    ("a deep directory", lambda b: b.set(f"{P}/cwd", "/x" * 10**5), ["/process/cwd", "too long"]),
    ("a host name", lambda b: b.set("/hostname", MB), ["/hostname", "64 bytes"]),
    ("a domain name", lambda b: b.set("/domainname", MB), ["/domainname", "64 bytes"]),
    ("limits", lambda b: b.set(f"{P}/rlimits", [LIMIT] * 10**4), ["/process/rlimits/1", "twice"]),
    ("groups", lambda b: b.set(f"{P}/user/additionalGids", list(range(MANY))), ["65536"]),
    ("namespaces", lambda b: b.add(f"{L}/namespaces", *[{"type": "pid"}] * MANY), ["a second pid"]),
    (
        "mappings",
        lambda b: (
            b.namespace("user").set(f"{L}/uidMappings", ONE_ID).set(f"{L}/gidMappings", ONE_ID)
        ),
        ["/linux/uidMappings", "340"],
    ),
    (
        "parameters",
        lambda b: b.set(f"{L}/sysctl", {f"net.x{i}": "1" for i in range(10**4)}),
        ["/linux/sysctl/net.x0", "ENOENT"],
    ),
    (
        "the name of a parameter",
        lambda b: b.set(f"{L}/sysctl", {f"net.{MB}": "1"}),
        ["kernel parameter", "characters)", "/linux/sysctl/net.xxx"],
    ),
    (
        "the value of a parameter",
        lambda b: b.set(f"{L}/sysctl", {"net.ipv4.ip_forward": "1" * (1 << 20)}),
        ["/linux/sysctl/net.ipv4.ip_forward", "characters)"],
    ),
    (
        "hooks",
        lambda b: b.set("/hooks", {"createRuntime": [{"path": "/no"}] * 10**4}),
        ["/hooks/createRuntime/0", "no such file"],
    ),
    (
        "a hook's path",
        lambda b: b.set("/hooks", {"createRuntime": [{"path": f"/{MB}"}]}),
        ["/hooks/createRuntime/0", "too long"],
    ),
    (
        "network devices",
        lambda b: b.set(f"{L}/netDevices", {f"none{i}": {} for i in range(10**4)}),
        ["/linux/netDevices/none0", "ENODEV"],
    ),
    (
        "CPUs",
        lambda b: b.set(f"{P}/execCPUAffinity", {"final": ",".join(map(str, range(MANY)))}),
        ["/process/execCPUAffinity/final", "8191"],
    ),
    (
        "nodes",
        lambda b: b.set(f"{L}/memoryPolicy", {"mode": "MPOL_BIND", "nodes": "0-4294967295"}),
        ["/linux/memoryPolicy/nodes"],
    ),
    ("a label", lambda b: b.set(f"{P}/apparmorProfile", MB), ["/process/apparmorProfile"]),
    (
        "an offset",
        lambda b: b.namespace("time").set(f"{L}/timeOffsets", {"boottime": {"secs": 2**63 - 1}}),
        ["/linux/timeOffsets", "timens_offsets", "ERANGE"],
    ),
    (
        "nanoseconds",
        lambda b: b.namespace("time").set(f"{L}/timeOffsets", {"boottime": {"nanosecs": 10**9}}),
        ["/linux/timeOffsets/boottime/nanosecs"],
    ),
    ("a terminal", lambda b: sized(b, 65536), ["/process/consoleSize/height", "65535"]),
    ("a member of a set", lambda b: b.set(f"{P}/user/uid", "0"), ["/process/user/uid", "quotes"]),
]


def sized(bundle: Bundle, height: int) -> Bundle:
    return bundle.set(f"{P}/terminal", True).set(
        f"{P}/consoleSize", {"height": height, "width": 80}
    )


@pytest.mark.parametrize(("what", "change", "words"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused(
    runtime: Runtime,
    bundle: Bundle,
    what: str,
    change: Callable[[Bundle], object],
    words: list[str],
) -> None:
    change(bundle)
    result = runtime.run(bundle, timeout=10).failed(*words)
    assert len(result.err) < 8192
    assert "internal error" not in result.err
    assert runtime.containers() == []


TAKEN: list[tuple[str, Callable[[Bundle], object]]] = [
    ("variables", lambda b: b.set(f"{P}/env", [f"V{i}=x" for i in range(MANY)])),
    ("arguments", lambda b: b.args("/bin/sh", "-c", "echo it runs", *["x"] * MANY)),
    ("groups", lambda b: b.set(f"{P}/user/additionalGids", list(range(65536)))),
    ("one device", lambda b: b.set(f"{L}/devices", [NULL | {"path": "/dev/x"}] * 10**4)),
    (
        "devices",
        lambda b: b.set(f"{L}/devices", [NULL | {"path": f"/dev/x{i}"} for i in range(10**4)]),
    ),
    ("annotations", lambda b: b.set("/annotations", {f"a{i}": "x" for i in range(MANY)})),
    ("an annotation", lambda b: b.set("/annotations", {"a": MB})),
    ("capabilities", lambda b: b.set(f"{P}/capabilities/bounding", ["CAP_KILL"] * MANY)),
    ("masks of nothing", lambda b: b.set(f"{L}/maskedPaths", [f"/no{i}" for i in range(10**4)])),
    (
        "flags",
        lambda b: b.set(
            f"{P}/scheduler",
            {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK"] * MANY},
        ),
    ),
]


@pytest.mark.parametrize(("what", "change"), TAKEN, ids=[row[0] for row in TAKEN])
def test_taken(
    runtime: Runtime, bundle: Bundle, what: str, change: Callable[[Bundle], object]
) -> None:
    change(bundle.sh("echo it runs"))
    assert runtime.run(bundle).ok().out == "it runs\n"


# (name, the least and the most that are allowed, what is around the number)
NUMBERS: list[tuple[str, int, int, Callable[[Any], tuple[str, Any]]]] = [
    ("uid", 0, 2**32 - 2, lambda v: (f"{P}/user/uid", v)),
    ("gid", 0, 2**32 - 2, lambda v: (f"{P}/user/gid", v)),
    ("a group", 0, 2**32 - 2, lambda v: (f"{P}/user/additionalGids", [v])),
    ("umask", 0, 0o777, lambda v: (f"{P}/user/umask", v)),
    ("oom", 0, 1000, lambda v: (f"{P}/oomScoreAdj", v)),
    ("nice", -20, 19, lambda v: (f"{P}/scheduler", {"policy": "SCHED_OTHER", "nice": v})),
    ("io", 0, 7, lambda v: (f"{P}/ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": v})),
    ("soft", 0, 2**64 - 1, lambda v: (f"{P}/rlimits", [LIMIT | {"soft": v, "hard": 2**64 - 1}])),
    ("major", 0, 4095, lambda v: (f"{L}/devices", [NULL | {"path": "/dev/x", "major": v}])),
    ("minor", 0, 2**20 - 1, lambda v: (f"{L}/devices", [NULL | {"path": "/dev/x", "minor": v}])),
    ("device's uid", 0, 2**32 - 2, lambda v: (f"{L}/devices", [NULL | {"path": "/dev/x", "uid": v}])),
    ("device's mode", 0, 0o177777, lambda v: (f"{L}/devices", [NULL | {"path": "/dev/x", "fileMode": v}])),
    ("timeout", 1, 2**62, lambda v: ("/hooks", {"createRuntime": [{"path": "/bin/true", "timeout": v}]})),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "least", "most", "around"), NUMBERS, ids=[row[0] for row in NUMBERS]
)
@pytest.mark.parametrize(
    "value",
    ["least - 1", "most + 1", 2**64, -(2**63), 10**300, 0.5, True, "1", None, [], {}],
    ids=str,
)
def test_numbers_out_of_range(
    runtime: Runtime,
    bundle: Bundle,
    name: str,
    least: int,
    most: int,
    around: Callable[[Any], tuple[str, Any]],
    value: Any,
) -> None:
    if value == "most + 1" and name in ("timeout", "soft"):
        pytest.skip("has no end below 2^64")
    if isinstance(value, str) and " " in value:
        value = least - 1 if value.startswith("least") else most + 1
    if name == "timeout" and isinstance(value, int) and value > 1 and value is not True:
        assert runtime.run(bundle.sh("echo it runs").set(*around(value))).ok().out == "it runs\n"
        return
    result = runtime.run(bundle.set(*around(value))).failed(around(value)[0].split("/")[1])
    assert "internal error" not in result.err
    assert runtime.containers() == []


# What shows the number in the container; in octal where it begins with 0.
SHOWN = {
    "uid": "id -u",
    "gid": "id -g",
    "a group": "id -G | cut -d' ' -f2",
    "umask": "umask",
    "oom": "cat /proc/self/oom_score_adj",
    "nice": "cut -d' ' -f19 /proc/self/stat",
    "io": "ionice | sed 's/.*prio //'",
    "minor": "echo $((0x$(stat -c %T /dev/x)))",
    "device's uid": "stat -c %u /dev/x",
    "device's mode": "stat -c 0%a /dev/x",
}


@pytest.mark.parametrize(
    ("name", "least", "most", "around"),
    [row for row in NUMBERS if row[0] not in ("soft", "major")],
    ids=[row[0] for row in NUMBERS if row[0] not in ("soft", "major")],
)
@pytest.mark.parametrize("end", ["least", "most"])
def test_numbers_at_the_end(
    runtime: Runtime,
    bundle: Bundle,
    name: str,
    least: int,
    most: int,
    around: Callable[[Any], tuple[str, Any]],
    end: str,
) -> None:
    bundle.set("/linux/resources/devices", [])
    value = least if end == "least" else most
    show = SHOWN.get(name, f"echo {value}")
    seen = runtime.run(bundle.sh(show).set(*around(value))).ok().out.strip()
    if name == "device's mode":
        value &= 0o7777  # the type of the file is the device's own
    if name == "a group" and value == 0:
        assert seen in ("", "0")  # the group of the user
        return
    assert int(seen, 8 if seen[:1] == "0" else 10) == value
