"""The layout of a machine from the two files of /proc/self, for kinds of machines."""

import pytest

from ocirun.cgroups.mounts import Layout, layout, mount_facts, parse

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:8 master:2 - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""
HYBRID_OWN = "4:cpu,cpuacct:/\n3:memory:/user/a:b\n2:perf_event:/\n1:name=systemd:/init.scope\n0::/init.scope\n"

V2 = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


def always(point: str, device: str) -> bool:
    return True


def read(mountinfo: str, own: str, visible=always) -> Layout:
    return parse(mountinfo.encode(), own.encode(), visible)


def test_hybrid():
    found = read(HYBRID, HYBRID_OWN)
    assert found.mode == "hybrid"
    assert found.mounts == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "name=systemd": "/sys/fs/cgroup/systemd",
        "": "/sys/fs/cgroup/unified",
    }
    assert found.own == {
        "cpu": "/",
        "cpuacct": "/",
        "memory": "/user/a:b",
        "name=systemd": "/init.scope",
        "": "/init.scope",
    }


def test_v1_without_the_unified_mount():
    lines = HYBRID.splitlines(keepends=True)
    found = read("".join(lines[:-1]), HYBRID_OWN)
    assert found.mode == "v1"
    assert "" not in found.mounts


def test_pure_v2():
    found = read(V2, "0::/user.slice/x.scope\n")
    assert (found.mode, found.mounts, found.own) == (
        "v2",
        {"": "/sys/fs/cgroup"},
        {"": "/user.slice/x.scope"},
    )


def test_v2_over_a_hybrid_tree_hides_what_is_below_it():
    text = HYBRID + "99 31 0:38 / /sys/fs/cgroup rw - cgroup2 none rw\n"
    top = {"/sys/fs/cgroup": "0:38"}
    found = read(text, HYBRID_OWN, lambda point, device: top.get(point) == device)
    assert (found.mode, found.mounts) == ("v2", {"": "/sys/fs/cgroup"})


def test_a_v1_hierarchy_besides_a_pure_v2_tree_is_not_ours():
    text = V2 + "50 30 0:50 / /sys/fs/cgroup/net_cls rw - cgroup none rw,net_cls\n"
    found = read(text, "5:net_cls:/\n0::/x\n")
    assert (found.mode, found.mounts) == ("v2", {"": "/sys/fs/cgroup"})


def test_the_mount_below_sys_fs_cgroup_wins():
    extra = "20 1 0:32 / /dev/cg/memory rw - cgroup none rw,memory\n"
    assert read(extra + HYBRID, HYBRID_OWN).mounts["memory"] == "/sys/fs/cgroup/memory"
    only = read(extra, HYBRID_OWN)
    assert (only.mode, only.mounts) == ("v1", {"memory": "/dev/cg/memory"})


def test_a_mount_elsewhere_of_a_like_name_does_not_count_as_below_it():
    extra = "20 1 0:32 / /sys/fs/cgroup-old/memory rw - cgroup none rw,memory\n"
    assert read(extra + HYBRID, HYBRID_OWN).mounts["memory"] == "/sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("root", "own", "expected"),
    [
        ("/", "/", "/"),
        ("/", "/a/b", "/a/b"),
        ("/docker/c1", "/docker/c1", "/"),  # bind mount, no cgroup namespace
        ("/docker/c1", "/docker/c1/x", "/x"),
        ("/docker/c1", "/docker/c12/x", "/"),  # no path component in common
        ("/docker/c1", "/elsewhere", "/"),
        ("/../..", "/", "/"),  # a namespace entered without a mount of its own
        ("/", "/../x", "/"),  # own cgroup outside the namespace
    ],
)
def test_own_path_as_seen_from_the_root_of_the_mount(root, own, expected):
    found = read(f"30 24 0:26 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", f"0::{own}\n")
    assert found.own == {"": expected}


def test_octal_escapes_in_mount_points():
    text = "30 24 0:26 / /sys/fs/cgroup/a\\040b\\134c rw - cgroup c rw,memory\n"
    seen = []
    found = read(text, "1:memory:/\n", lambda point, device: not seen.append((point, device)))
    assert found.mounts == {"memory": "/sys/fs/cgroup/a b\\c"}
    assert seen == [("/sys/fs/cgroup/a b\\c", "0:26")]


def test_no_cgroups_at_all():
    found = read("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", "0::/\n")
    assert (found.mode, found.mounts, found.own) == ("none", {}, {})


def test_a_file_system_with_cgroup_in_its_name_is_not_one():
    text = "31 23 0:28 / /x - cgroup rw - tmpfs a - cgroup rw,memory\n"
    assert read(text, "1:memory:/\n").mode == "none"


def test_mount_facts_of_v1_and_hybrid():
    entries, aliases = mount_facts(read(HYBRID, HYBRID_OWN))
    assert entries == (
        ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct", "cpu"),
        ("memory", "/sys/fs/cgroup/memory", "memory", "memory"),
        ("systemd", "/sys/fs/cgroup/systemd", "none,name=systemd", "name=systemd"),
    )
    assert aliases == (("cpu", "cpu,cpuacct"), ("cpuacct", "cpu,cpuacct"))


def test_mount_facts_of_v2():
    assert mount_facts(read(V2, "0::/\n")) == ((("", "/sys/fs/cgroup", "", ""),), ())


def test_this_machine_is_read_without_an_error():
    found = layout()
    assert found.mode in ("v1", "hybrid", "v2", "none")
    assert set(found.own) == set(found.mounts)
    assert (found.mode == "none") == (not found.mounts)
