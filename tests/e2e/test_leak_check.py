"""The leak check itself: every kind of leftover is found, and swept."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lib import leaks


def mount(folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)


def cgroup(folder: Path) -> None:
    path = Path(leaks.hierarchies()[0], "ocirun-test", f"{leaks.PREFIX}leak", "below")
    path.mkdir(parents=True)


def process(folder: Path) -> None:
    subprocess.run(["sh", "-c", "sleep 1000 & exit"], check=True)


def process_in_cgroup(folder: Path) -> None:
    path = Path(leaks.hierarchies()[0], "ocirun-test", f"{leaks.PREFIX}leak")
    path.mkdir(parents=True)
    subprocess.run(["sh", "-c", f"sleep 1000 & echo $! > {path}/cgroup.procs"], check=True)


def owner_of_a_device(folder: Path) -> None:
    os.chown("/dev/zero", 1, 1)


@pytest.mark.parametrize("leak", [mount, cgroup, process, process_in_cgroup, owner_of_a_device])
def test_leak_is_found_and_swept(folder: Path, leak: Callable[[Path], None]) -> None:
    before = leaks.Snapshot.take()
    leak(folder)
    try:
        assert leaks.leaks_since(before, seconds=0)
    finally:
        leaks.sweep(before)
    assert leaks.leaks_since(before) == []


def test_descriptor_is_found() -> None:
    before = leaks.Snapshot.take()
    fd = os.open("/", os.O_RDONLY)
    try:
        assert leaks.leaks_since(before, seconds=0) == [f"descriptor: {fd}"]
    finally:
        os.close(fd)
    assert leaks.leaks_since(before) == []
