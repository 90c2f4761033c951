"""Every step in words, and hints for the errors that have one."""

import errno

import pytest

from ocirun.cgroups.perform import _OPERATIONS
from ocirun.cgroups.words import _WORDS, describe, hint
from ocirun.plan.step import Step


def test_every_operation_has_words():
    assert set(_WORDS) == {*_OPERATIONS, "cgroup-join", "cgroup-scope"}


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Step("cgroup-mkdir", "", "/cg/x"), "make the cgroup /cg/x"),
        (
            Step("cgroup-enable", "", "/cg", ("pids",), ("pids", "cpu")),
            "enable the controllers pids, and where it can be had cpu for the cgroups below /cg",
        ),
        (
            Step("cgroup-inherit-cpuset", "", "/cg/x", "/cg"),
            "give /cg/x the CPUs and memory nodes of its parent",
        ),
        (Step("cgroup-write", "", "/cg/x/pids.max", "5"), "set pids.max to 5 in /cg/x"),
        (
            Step("cgroup-write", "", "/cg/x/devices.allow", "c 1:3 rwm"),
            "allow device c 1:3 rwm in /cg/x",
        ),
        (
            Step("cgroup-write", "", "/cg/x/memory.memsw.limit_in_bytes", "-1"),
            "lift memory.memsw.limit_in_bytes in /cg/x",
        ),
        (
            Step("cgroup-write", "", "/cg/x/io.bfq.weight", "10", "/cg/x/io.weight", "1"),
            "set io.bfq.weight to 10, or io.weight to 1, in /cg/x",
        ),
        (
            Step("cgroup-check-usage", "", "/cg/x/memory.current", 7),
            "check that memory.current is at most 7 in /cg/x",
        ),
        (
            Step("cgroup-devices-bpf", "", "/cg/x", (("c", 1, -1, "r", True),)),
            "attach a device program to /cg/x (allow c 1:* r)",
        ),
        (
            Step("cgroup-chown", "", "/cg/x", 1000),
            "give /cg/x to user 1000, with the files that may be delegated",
        ),
        (Step("cgroup-join", "", "/cg/x", 2), "put the process into /cg/x"),
    ],
)
def test_words(step, words):
    assert describe(step) == words


@pytest.mark.parametrize(
    ("op", "path", "number", "part"),
    [
        ("cgroup-write", "/cg/memory.max", errno.EBUSY, "cannot be reclaimed"),
        ("cgroup-write", "/cg/memory.memsw.limit_in_bytes", errno.EINVAL, "memory/limit"),
        ("cgroup-write", "/cg/cpuset.cpus", errno.EINVAL, "no such CPU"),
        ("cgroup-write", "/cg/devices.allow", errno.EPERM, "does not allow this device"),
        ("cgroup-write", "/cg/memory.swappiness", errno.ENOENT, "no such file"),
        ("cgroup-mkdir", "/cg/x", errno.EROFS, "read-only"),
        ("cgroup-mkdir", "/cg/x", errno.EACCES, "root"),
        ("cgroup-enable", "/cg/cgroup.subtree_control", errno.EBUSY, "processes of its own"),
    ],
)
def test_hints(op, path, number, part):
    assert part in hint(Step(op, ""), path, number)


def test_an_unknown_error_has_no_hint():
    assert hint(Step("cgroup-mkdir", ""), "/cg/x", errno.EIO) == ""
