"""What CRIU is told: its messages, and which mounts of a container are not its own."""

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.criu import mounts
from ocirun.criu.protobuf import decode, encode
from ocirun.criu.service import Failed, Service, failure
from ocirun.errors import StateError, StepFailed
from ocirun.executor.criu import Here, Launch

# The first three are examples of the description of the encoding at protobuf.dev.
ENCODED = [
    ([(1, 150)], "089601"),
    ([(2, "testing")], "120774657374696e67"),
    ([(3, [(1, 150)])], "1a03089601"),
    ([(1, True), (2, False)], "08011000"),
    ([(1, -1)], "08ffffffffffffffffff01"),
    ([(37, "mnt[/a]:b")], "aa02096d6e745b2f615d3a62"),
    ([(16, b"\0\xff")], "82010200ff"),
]


@pytest.mark.parametrize(("message", "data"), ENCODED)
def test_messages(message: Any, data: str) -> None:
    assert encode(message).hex() == data


@given(st.dictionaries(st.integers(1, 1 << 20), st.integers(0, (1 << 64) - 1) | st.binary()))
def test_messages_are_read_as_they_were_written(fields: dict[int, Any]) -> None:
    assert decode(encode(list(fields.items()))) == fields


@pytest.mark.parametrize("data", ["08", "0880", "1205746573", "0d01000000", "08" + "ff" * 11])
def test_what_is_no_message(data: str) -> None:
    with pytest.raises(ValueError, match=r"field|number"):
        decode(bytes.fromhex(data))


def lines(*texts: str) -> list[mounts.Mount]:
    return [mounts.Mount(text.encode()) for text in texts]


OUTSIDE = lines(
    "20 1 8:1 / / rw shared:1 - ext4 /dev/sda rw",
    "21 20 0:5 / /dev rw shared:2 - devtmpfs devtmpfs rw",
    "22 20 0:22 / /sys rw - sysfs sysfs rw",
    "23 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
)
INSIDE = lines(
    "80 1 8:1 /bundle/rootfs / rw master:1 - ext4 /dev/sda rw",
    "81 80 0:41 / /proc rw - proc proc rw",
    "82 80 0:42 / /dev rw - tmpfs tmpfs rw",
    "83 80 0:22 / /sys ro - sysfs sysfs rw",
    "84 83 0:26 /x /sys/fs/cgroup ro - cgroup2 cgroup2 rw",
    "85 81 0:41 /sys /proc/sys ro - proc proc rw",
    "86 81 0:5 /null /proc/kcore rw master:2 - devtmpfs devtmpfs rw",
    "87 80 8:1 /bundle/rootfs/etc /etc ro master:1 - ext4 /dev/sda rw",
    r"88 80 8:1 /a\040b /mnt/a\040b ro master:1 - ext4 /dev/sda rw",
    "89 88 8:1 /elsewhere /mnt/a\\040b/below ro master:1 - ext4 /dev/sda rw",
)


def test_external_mounts() -> None:
    """The host's file systems, but for the container's root and the kernel's own."""
    found = [mount.point for mount in mounts.external(INSIDE, OUTSIDE)]
    assert found == ["/sys/fs/cgroup", "/proc/kcore", "/mnt/a b", "/mnt/a b/below"]


@pytest.mark.parametrize(
    ("points", "scattered"),
    [
        ((), False),
        (("/proc/kcore",), False),
        (("/mnt/a b",), False),
        (("/mnt/a b", "/mnt/a b/below"), True),
        (("/mnt/a b", "/proc/kcore"), False),
    ],
)
def test_scattered_mounts(points: tuple[str, ...], scattered: bool) -> None:
    found = [mount for mount in INSIDE if mount.point in points]
    assert mounts.are_scattered(found) is scattered


def test_names_and_sources(tmp_path: Path) -> None:
    """A link in the image leads to the mount point; what is mounted below goes with it."""
    (tmp_path / "mnt/a b/below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("mnt")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/kcore").touch()
    spec = {
        "mounts": [{"destination": "/link/a b", "type": "bind", "source": "data"}],
        "linux": {"maskedPaths": ["/proc/kcore", "/proc/none"]},
    }
    root = os.open(tmp_path, os.O_DIRECTORY)
    named = mounts.names(mounts.external(INSIDE, OUTSIDE), spec, root, {})
    os.close(root)
    assert named == {
        "/sys/fs/cgroup": "/sys/fs/cgroup",
        "/proc/kcore": "/dev/null",
        "/mnt/a b": "/link/a b",
        "/mnt/a b/below": "/mnt/a b/below",
    }
    found = mounts.sources(["/link/a b/below", "cgroup-own:"], spec, "/b", {"": "/cg/x"}, {})
    assert found["/link/a b"] == "/b/data"
    assert found["/link/a b/below"] == "/b/data/below"
    assert found["/dev/null"] == "/dev/null"
    assert found["cgroup-own:"] == "/cg/x"


def test_failure_tells_the_first_cause_and_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    many = [f"(00.{n}) line {n}" for n in range(40)]
    many[30] = "(00.30) Error (criu/x.c:7): the reason"
    many[39] = "(00.39) Error (criu/cr-dump.c:2053): Dumping FAILED."
    log.write_text("\n".join(many) + "\n")
    error = failure(Failed("", 52), "checkpoint x", str(log))
    assert error.message == "criu cannot checkpoint x: the reason"
    assert error.lines[-1] == many[39]
    assert len(error.lines) == 12
    assert failure(Failed("no more", 1), "x", str(tmp_path / "none")).message.endswith(": no more")


SHOW = """#!{python} -IS
import posix
links = [posix.readlink(f"/proc/self/fd/{{fd}}") for fd in (0, 1, 2, 7, 8, 9, 10, 11, 12)]
open("{out}", "w").write("\\n".join(links))
"""


@pytest.mark.parametrize("taken", range(3, 13))
def test_descriptors_of_criu(tmp_path: Path, taken: int) -> None:
    """They have their numbers whatever the numbers are that this process has free."""
    program, out = tmp_path / "criu", tmp_path / "out"
    program.write_text(SHOW.format(python=sys.executable, out=out))
    program.chmod(0o755)
    for name in ("images", "work", "held"):
        (tmp_path / name).mkdir()
    opened = []
    while not opened or opened[-1] < taken:
        opened.append(os.open("/dev/null", os.O_RDONLY))
    held = os.open(tmp_path / "held", os.O_RDONLY)
    launch = Launch(str(program), str(tmp_path / "images"), str(tmp_path / "work"))
    launch.held = [held]
    Service(launch, Here()).close()
    for fd in (*opened, held):
        os.close(fd)
    streams = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)]
    assert out.read_text().splitlines() == [
        *streams,
        *streams,
        *(str(tmp_path / name) for name in ("images", "work", "held")),
    ]


def test_criu_that_cannot_be_executed(tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as caught:
        Service(Launch(str(tmp_path / "missing")), Here())
    assert caught.value.errno == errno.ENOENT


ENTRIES = [{"destination": "/a"}, {"destination": "/b/"}, {"destination": "/c"}]


def test_mounts_that_config_json_does_not_have(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    mounts.keep(fd, {"/a": "/a"}, True, ENTRIES)
    os.close(fd)
    kept = mounts.Kept(str(tmp_path))
    assert (kept.names, kept.scattered) == (["/a"], True)
    assert kept.added_to({"mounts": [{"destination": "/x/../b"}, ENTRIES[2]]}) == [ENTRIES[0]]
    assert kept.added_to({}) == ENTRIES


def test_checkpoint_of_another_runtime(tmp_path: Path) -> None:
    kept = mounts.Kept(str(tmp_path))
    assert (kept.names, kept.scattered, kept.entries) == ([], False, [])


@pytest.mark.parametrize("text", ["[]", "{}", '{"names": [], "scattered": true, "mounts": []}'])
def test_damaged_names(tmp_path: Path, text: str) -> None:
    (tmp_path / mounts.FILE).write_text(text)
    with pytest.raises(StateError, match="damaged"):
        mounts.Kept(str(tmp_path))
