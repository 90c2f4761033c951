"""Making cgroups while others make and remove the same ones; folders of any file system serve."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ocirun.cgroups import perform
from ocirun.cgroups.files import CallFailed, mkdir


def others(monkeypatch: pytest.MonkeyPatch, acts: dict[int, Callable[[], None]]) -> None:
    """Has somebody else act just before the nth mkdir(2)."""
    calls = 0

    def watched(path: str) -> None:
        nonlocal calls
        calls += 1
        acts.get(calls, lambda: None)()
        mkdir(path)

    monkeypatch.setattr(perform, "mkdir", watched)


def test_another_one_makes_the_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the third: a/b/c, a/b and a were not there."""
    others(monkeypatch, {4: lambda: os.mkdir(tmp_path / "a/b")})
    made: list[str] = []
    perform._mkdir(made, f"{tmp_path}/a/b/c")
    assert made == [f"{tmp_path}/a", f"{tmp_path}/a/b/c"]


def test_another_one_gives_up_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had made the parent, which is gone again when its child is made."""
    parent = tmp_path / "a"
    others(monkeypatch, {2: parent.mkdir, 3: parent.rmdir})
    made: list[str] = []
    perform._mkdir(made, f"{parent}/b")
    assert made == [str(parent), f"{parent}/b"]


def test_what_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CallFailed) as failed:
        perform._mkdir([], f"{tmp_path}/file/a")
    assert failed.value.errno == errno.ENOTDIR
