"""Other limits: what of a request is a change, what belongs to it, options and durations read."""

from typing import Any

import pytest

from ocirun.cgroups.stats import NO_LIMIT, read_stats
from ocirun.cgroups.update import completed, merged, wanted
from ocirun.cli.limits import source_of
from ocirun.errors import InvalidConfig, UsageError
from ocirun.runtime.events import parse_duration
from ocirun.runtime.rdtstats import read_resctrl

RULES = [{"allow": False, "access": "rwm"}]
RATE = {"major": 8, "minor": 0, "rate": 5}


@pytest.mark.parametrize(
    ("asked", "version", "found"),
    [
        ({}, "1.0.2", {}),
        ({"memory": {"limit": 0, "swap": None}, "cpu": {}}, "1.0.2", {}),
        ({"cpu": {"cpus": "", "shares": 0, "idle": 0, "burst": 0}}, "1.0.2", {"cpu": {"idle": 0, "burst": 0}}),
        ({"blockIO": {"weight": 0}}, "1.0.2", {}),
        ({"pids": {"limit": 0}}, "1.2.0", {}),
        ({"pids": {"limit": 0}}, "1.3.0", {"pids": {"limit": 0}}),
        ({"devices": RULES}, "1.0.2", {}),
        ({"devices": RULES * 2}, "1.0.2", {"devices": RULES * 2}),
        ({"unified": {"memory.high": "5"}}, "1.0.2", {"unified": {"memory.high": "5"}}),
    ],
)  # fmt: skip
def test_what_is_a_change(asked: Any, version: str, found: Any) -> None:
    assert wanted(asked, {"devices": RULES}, version) == found


@pytest.mark.parametrize(
    ("asked", "own", "found"),
    [
        ({"cpu": {"quota": 5}}, {"cpu": {"period": 9, "shares": 7}}, {"cpu": {"quota": 5, "period": 9}}),
        ({"cpu": {"period": 5}}, {"cpu": {"quota": 9}}, {"cpu": {"quota": 9, "period": 5}}),
        ({"cpu": {"shares": 5}}, {"cpu": {"quota": 9}}, {"cpu": {"shares": 5}}),
        ({"memory": {"limit": 5}}, {"memory": {"swap": 9}}, {"memory": {"limit": 5, "swap": 9}}),
        ({"memory": {"limit": 5}}, {"memory": {"swap": -1}}, {"memory": {"limit": 5, "swap": -1}}),
        ({"memory": {"limit": -1}}, {"memory": {"swap": 9}}, {"memory": {"limit": -1}}),
        ({"memory": {"swap": 9}}, {"memory": {"limit": 5}}, {"memory": {"limit": 5, "swap": 9}}),
        ({"memory": {"reservation": 5}}, {"memory": {"limit": 5}}, {"memory": {"reservation": 5}}),
        ({"pids": {"limit": 5}}, {}, {"pids": {"limit": 5}}),
    ],
)  # fmt: skip
def test_what_belongs_to_it(asked: Any, own: Any, found: Any) -> None:
    assert completed(asked, own) == found


def test_limit_above_the_old_one_of_swap() -> None:
    with pytest.raises(InvalidConfig, match="cannot be 10") as caught:
        completed({"memory": {"limit": 10}}, {"memory": {"limit": 5, "swap": 9}})
    assert caught.value.pointer == "/linux/resources/memory/limit"


@pytest.mark.parametrize(
    ("own", "asked", "found"),
    [
        ({}, {"pids": {"limit": 5}}, {"pids": {"limit": 5}}),
        ({"memory": {"limit": 1, "swap": 2}}, {"memory": {"limit": 2}}, {"memory": {"limit": 2, "swap": 2}}),
        ({"memory": {"limit": 1, "swap": 2}}, {"memory": {"limit": -1}}, {"memory": {"limit": -1, "swap": -1}}),
        ({"devices": RULES}, {"devices": RULES * 2}, {"devices": RULES * 2}),
        (
            {"blockIO": {"throttleReadBpsDevice": [RATE, {**RATE, "minor": 1}]}},
            {"blockIO": {"throttleReadBpsDevice": [{**RATE, "rate": 9}]}},
            {"blockIO": {"throttleReadBpsDevice": [{**RATE, "rate": 9}, {**RATE, "minor": 1}]}},
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]},
            {"hugepageLimits": [{"pageSize": "1GB", "limit": 2}]},
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 2}]},
        ),
    ],
)  # fmt: skip
def test_what_becomes_of_the_containers_own(own: Any, asked: Any, found: Any) -> None:
    before = repr(own)
    assert merged(own, asked) == found
    assert repr(own) == before


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("1", 1), ("-1", -1), ("5k", 5 << 10), ("5K", 5 << 10), ("5kb", 5 << 10),
        ("5KiB", 5 << 10), ("5 m", 5 << 20), ("1.5g", 3 << 29), ("2T", 2 << 40), ("7b", 7),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert source_of({"memory": text}).resources == {"memory": {"limit": size}}


@pytest.mark.parametrize("text", ["x", "-2", "1.x", ".5", "5.", "1e3", "5q", "k", "0x5", "5mm"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="--memory-swap"):
        source_of({"memory_swap": text})


def test_options() -> None:
    source = source_of({"cpu_quota": "-1", "pids_limit": "0", "cpu_share": "", "cpuset_cpus": "0"})
    assert source.resources == {"cpu": {"quota": -1, "cpus": "0"}}
    assert source.options["/linux/resources/cpu/cpus"] == "--cpuset-cpus"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400), ("2us", 2e-6), ("1h1m1s", 3661)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5x", "-5s", "5 s", "1.2.3s", ".s", "5s5"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="invalid duration"):
        parse_duration(text)


def test_statistics_of_v2(tmp_path: Any) -> None:
    """Units and names are those of v1."""
    files = {
        "cpu.stat": "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 2\nnr_throttled 1\nthrottled_usec 5\n",
        "cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n",
        "memory.stat": "anon 5\nfile 6\n",
        "memory.current": "100\n",
        "memory.max": "200\n",
        "memory.peak": "150\n",
        "memory.events": "low 0\nmax 4\noom_kill 1\n",
        "memory.swap.current": "10\n",
        "memory.swap.max": "max\n",
        "pids.current": "3\n",
        "pids.max": "max\n",
        "io.stat": "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
        "hugetlb.2MB.current": "0\n",
        "hugetlb.2MB.events": "max 8\n",
        "hugetlb.2MB.rsvd.current": "0\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = read_stats({"": str(tmp_path)})
    psi = {"some": {"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 9}}
    assert found["cpu"] == {
        "usage": {"total": 7000, "kernel": 3000, "user": 4000},
        "throttling": {"periods": 2, "throttledPeriods": 1, "throttledTime": 5000},
        "psi": psi,
    }
    memory = found["memory"]
    assert memory["usage"] == {"limit": 200, "usage": 100, "max": 150, "failcnt": 4}
    assert memory["swap"] == {"limit": NO_LIMIT, "usage": 110, "failcnt": 0}
    assert (memory["cache"], memory["event_count"]["oom_kill"]) == (6, 1)
    assert found["pids"] == {"current": 3}
    rows = [
        {"major": 8, "minor": 16, "op": op, "value": n} for op, n in (("Read", 1), ("Write", 2))
    ]
    assert found["blkio"]["ioServiceBytesRecursive"] == rows
    assert [row["value"] for row in found["blkio"]["ioServicedRecursive"]] == [3, 4]
    assert found["hugetlb"] == {"2MB": {"failcnt": 8}}


def test_statistics_of_resctrl(tmp_path: Any) -> None:
    group = tmp_path / "box"
    info = tmp_path / "info/L3"
    info.mkdir(parents=True)
    group.mkdir()
    for name, text in (("cbm_mask", "fff"), ("min_cbm_bits", "1"), ("num_closids", "16")):
        (info / name).write_text(text + "\n")
    (tmp_path / "schemata").write_text("    L3:0=fff\n    MB:0=100\n")
    (group / "schemata").write_text("    L3:0=00f\n")
    assert read_resctrl(str(tmp_path), str(group)) == {
        "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 1, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=fff",
        "l3_cache_schema": "L3:0=00f",
    }
