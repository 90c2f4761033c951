"""Options that change a mount that has flags already, on the mount itself and, with an "r", below it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lib import mountinfo
from lib.bundle import Bundle
from lib.runtime import Runtime

STRICT = "ro,nosuid,nodev,noexec,nodiratime,noatime,nosymfollow"

# option -> flags that it takes from a mount that has all of STRICT, flags that it gives
CLEARING = {
    "rw": ({"ro"}, {"rw"}),
    "suid": ({"nosuid"}, set()),
    "dev": ({"nodev"}, set()),
    "exec": ({"noexec"}, set()),
    "diratime": ({"nodiratime"}, set()),
    "symfollow": ({"nosymfollow"}, set()),
    "atime": ({"noatime"}, set()),
    "relatime": ({"noatime"}, {"relatime"}),
    "strictatime": ({"noatime", "relatime"}, set()),
    "norelatime": ({"noatime"}, set()),
    "nostrictatime": ({"noatime"}, {"relatime"}),
}
SETTING = {
    "ro": {"ro"},
    "nosuid": {"nosuid"},
    "nodev": {"nodev"},
    "noexec": {"noexec"},
    "nodiratime": {"nodiratime"},
    "noatime": {"noatime"},
    "nosymfollow": {"nosymfollow"},
}


def tree(folder: Path, options: str) -> Iterator[Path]:
    """A mount with a mount on its `sub`, both with these options."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    (folder / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", folder / "sub"], check=True)
    for place in (folder / "sub", folder):
        subprocess.run(["mount", "-o", f"remount,bind,{options}", place], check=True)
    yield folder
    subprocess.run(["umount", "--recursive", folder], check=True)


@pytest.fixture
def strict(bundle: Bundle) -> Iterator[Path]:
    yield from tree(bundle.path / "strict", STRICT)


@pytest.fixture
def loose(bundle: Bundle) -> Iterator[Path]:
    yield from tree(bundle.path / "loose", "rw")


def flags(runtime: Runtime, bundle: Bundle, source: Path, *options: str) -> list[set[str]]:
    """The flags that the container sees on the mount, and on the one below it."""
    bundle.mount("/mnt", "bind", str(source), "rbind", *options)
    text = runtime.probe(bundle)["mountinfo"]
    return [mountinfo.find(text, point).flags for point in ("/mnt", "/mnt/sub")]


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize("option", CLEARING)
def test_clearing(runtime: Runtime, bundle: Bundle, strict: Path, option: str) -> None:
    top, below = flags(runtime, bundle, strict, option)
    taken, given = CLEARING[option]
    assert not taken & top
    assert given <= top
    assert set(STRICT.split(",")) <= below


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize("option", CLEARING)
def test_clearing_recursively(runtime: Runtime, bundle: Bundle, strict: Path, option: str) -> None:
    taken, given = CLEARING[option]
    for seen in flags(runtime, bundle, strict, f"r{option}"):
        assert not taken & seen
        assert given <= seen
        assert set(STRICT.split(",")) - taken <= seen, "other flags must stay"


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize("option", SETTING)
def test_setting(runtime: Runtime, bundle: Bundle, loose: Path, option: str) -> None:
    top, below = flags(runtime, bundle, loose, option)
    assert SETTING[option] <= top
    assert not SETTING[option] & below


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize("option", SETTING)
def test_setting_recursively(runtime: Runtime, bundle: Bundle, loose: Path, option: str) -> None:
    for seen in flags(runtime, bundle, loose, f"r{option}"):
        assert SETTING[option] <= seen


@pytest.mark.parametrize(
    ("options", "top", "below"),
    [
        (["rro", "rw"], "rw", "ro"),
        (["ro", "rrw"], "ro", "rw"),
        (["rnoexec", "rexec"], "rw", "rw"),
        (["rnoatime", "noexec", "exec"], "noatime", "noatime"),
    ],
)
def test_the_mounts_own_word_counts_for_itself(
    runtime: Runtime, bundle: Bundle, loose: Path, options: list[str], top: str, below: str
) -> None:
    seen = flags(runtime, bundle, loose, *options)
    assert top in seen[0]
    assert below in seen[1]
    assert not {"noexec"} & (seen[0] | seen[1])


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize(
    ("first", "options", "flags", "superblock"),
    [
        (["rw"], ["ro", "nosuid"], {"ro", "nosuid"}, {"rw"}),
        (["ro", "noexec"], ["rw", "exec"], {"rw"}, set()),
        (["size=1m"], ["size=2m"], {"rw"}, {"size=2048k"}),
        (["sync"], ["async", "nodev"], {"nodev"}, set()),
        (["rw"], ["lazytime"], {"rw"}, {"lazytime"}),
        (["rw"], ["rnoexec"], {"noexec"}, set()),
    ],
)
@pytest.mark.only("ocirun")  # the others take the mount's flags anew, or the data for naught
def test_remount(
    runtime: Runtime, bundle: Bundle, first: list[str], options: list[str], flags: set[str],
    superblock: set[str],
) -> None:  # fmt: skip
    bundle.mount("/mnt", "tmpfs", "tmpfs", *first)
    bundle.mount("/mnt", "tmpfs", "tmpfs", "remount", *options)
    seen = [m for m in mountinfo.parse(runtime.probe(bundle)["mountinfo"]) if m.point == "/mnt"]
    assert len(seen) == 1
    assert flags <= seen[0].flags
    assert not {"ro", "noexec"} & seen[0].flags - flags
    assert superblock <= seen[0].super
    assert not ({"sync"} & seen[0].super)


def test_remount_of_a_bind_mount(runtime: Runtime, bundle: Bundle, loose: Path) -> None:
    """The old way to a read-only bind mount, as in fstab."""
    bundle.mount("/mnt", "bind", str(loose), "bind")
    bundle.mount("/mnt", "bind", str(loose), "bind", "remount", "ro")
    seen = [m for m in mountinfo.parse(runtime.probe(bundle)["mountinfo"]) if m.point == "/mnt"]
    assert "ro" in seen[-1].flags
    assert "rw" in seen[-1].super


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(
    ("mount", "word"),
    [
        ({"source": "/etc", "options": ["bind", "sync"]}, "sync"),
        ({"source": "/etc", "options": ["bind", "lazytime"]}, "lazytime"),
        ({"source": "/etc", "options": ["rbind", "iversion"]}, "iversion"),
        ({"source": "/etc", "options": ["bind", "tmpcopyup"]}, "tmpcopyup"),
        ({"source": "/etc", "options": ["bind", "size=1m"]}, "size"),
        ({"source": "/etc", "options": ["bind", "nonsense"]}, "nonsense"),
        ({"type": "proc", "options": ["tmpcopyup"]}, "tmpcopyup"),
        ({"type": "tmpfs", "options": ["remount", "tmpcopyup"]}, "tmpcopyup"),
        ({"type": "cgroup", "options": ["tmpcopyup"]}, "tmpcopyup"),
        ({"type": "cgroup", "options": ["sync"]}, "sync"),
        ({"type": "cgroup", "options": ["memory"]}, "memory"),
    ],
)
def test_nothing_is_accepted_and_ignored(
    runtime: Runtime, bundle: Bundle, mount: dict[str, Any], word: str
) -> None:
    bundle.add("/mounts", {"destination": "/mnt", **mount})
    runtime.run(bundle).failed(word)


@pytest.mark.parametrize(
    "option", ["async", "nolazytime", "nomand", "noiversion", "loud", "silent"]
)
def test_words_that_ask_for_nothing_are_fine(
    runtime: Runtime, bundle: Bundle, option: str, loose: Path
) -> None:
    without = flags(runtime, bundle, loose)
    assert flags(runtime, bundle.drop_mount("/mnt"), loose, option) == without
