"""Tests that only a lab can run: `@pytest.mark.lab("v2", ...)` names what they need.

On any other machine they skip, by name. In a lab that provides it, such a test must
run: there a skip is a failure.
"""

import os
from typing import Any

import pytest

NEEDS = {
    "v2": "a pure v2 hierarchy with cpu, io, memory and pids",
    "cpuset": "cpuset on v2",
    "hugetlb": "hugetlb on v2",
    "systemd": "systemd as init",
    "disk": "a disk that may be spoilt",
    "swap": "a swap device",
    "criu": "a CRIU that knows this kernel",
    "weights": "weights of block devices",
}


def provided() -> set[str]:
    """What the lab that this runs in has; nothing outside of one."""
    return set(os.environ.get("OCIRUN_LAB_PROVIDES", "").split())


def missing(item: pytest.Item) -> str:
    """Why a marked test cannot run here, or ""."""
    needs = {name for mark in item.iter_markers("lab") for name in mark.args}
    if unknown := needs - set(NEEDS):
        raise pytest.UsageError(f"{item.nodeid}: mark.lab knows no {', '.join(sorted(unknown))}")
    lacks = sorted(needs - provided())
    return f"needs {' and '.join(NEEDS[name] for name in lacks)}: runs in a lab" if lacks else ""


def forbid_skip(item: pytest.Item, report: Any) -> None:
    """Makes a failure of the skip of a test that this lab exists for."""
    if report.skipped and item.get_closest_marker("lab") and not missing(item):
        report.outcome = "failed"
        report.longrepr = f"skipped in a lab that has what it needs: {report.longrepr}"
