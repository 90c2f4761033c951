"""The strict rules: a plain config, a change, and the places of the problems."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_mutants import unhurried

from ocirun.spec import fastjson, strict
from ocirun.spec.default import default_spec
from ocirun.spec.fastcheck import check_config

DROP = object()
TWO_IDS = [{"containerID": 0, "hostID": 1000, "size": 2}]


def changed(config, changes):
    """`config` with a value put at each pointer ("-": appended to a list)."""
    config = copy.deepcopy(config)
    for pointer, value in changes.items():
        *path, last = [t.replace("~1", "/").replace("~0", "~") for t in pointer.split("/")[1:]]
        target = config
        for name in path:
            target = target[int(name)] if isinstance(target, list) else target.setdefault(name, {})
        if isinstance(target, list):
            target.append(value) if last == "-" else target.__setitem__(int(last), value)
        elif value is DROP:
            del target[last]
        else:
            target[last] = value
    return config


def user_namespace(**linux):
    return {
        "/linux/namespaces/-": {"type": "user"},
        "/linux/uidMappings": TWO_IDS,
        "/linux/gidMappings": TWO_IDS,
        **{f"/linux/{name}": value for name, value in linux.items()},
    }


def overlapping(side):
    first = {"containerID": 0, "hostID": 0, "size": 10}
    second = {"containerID": 100, "hostID": 100, "size": 10}
    return [second, {**first, side: 91}, {"containerID": 50, "hostID": 50, "size": 1}]


HOOK = {"path": "/bin/true"}
R, S = "/linux/resources", "/linux/seccomp"
ARG = {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}
NOTIFY = {"names": ["open"], "action": "SCMP_ACT_NOTIFY"}
EXECVE = {"names": ["read", "execve"], "action": "SCMP_ACT_ALLOW"}
ERRNO = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "listenerPath": "/x",
    "syscalls": [EXECVE],
}

GOOD = [
    {},
    {"/process": DROP},
    {"/ociVersion": "1.0.2-dev"},
    {"/ociVersion": "0.5.0-dev"},
    {"/ociVersion": "1.99.0-rc.1.x-y+build.007"},
    {"/process/env": ["A=", "B=x=y", "_= "]},
    {"/process/env": []},
    {"/process/oomScoreAdj": -1000},
    {"/process/oomScoreAdj": 1000},
    {"/process/user": {"uid": 2**32 - 2, "gid": 2**32 - 2, "umask": 0o777}},
    {"/process/consoleSize": {"height": 65535, "width": 0}},
    {"/process/consoleSize": {"height": 99999, "width": 99999}, "/process/terminal": False},
    {"/process/ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7}},
    {"/process/scheduler": {"policy": "SCHED_OTHER", "nice": -20}},
    {"/process/rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]},
    {"/mounts/-": {"destination": "relative", "type": "tmpfs"}},
    {"/mounts/-": {"destination": "/x", "source": "x", "options": ["rbind"]}},
    {"/mounts/-": {"destination": "/x", "options": ["remount", "ro"]}},
    {"/mounts/-": {"destination": "/x", "options": ["remount", "bind", "ro"]}},
    {"/hooks": {"poststop": [HOOK | {"env": ["A=b"], "timeout": 1}], "unknown": [7]}},
    {"/annotations": {"a": ""}},
    {"/linux/namespaces/1/path": "/proc/1/ns/net"},
    {"/linux/namespaces/1/path": ""},
    {"/hostname": "", "/linux/namespaces": [{"type": "mount"}]},
    {"/hostname": "x" * 64, "/domainname": "y" * 64},
    {"/linux/maskedPaths": [], "/linux/readonlyPaths": [], "/linux/namespaces": [{"type": "uts"}]},
    {"/linux/cgroupsPath": "/a/..b/c.."},
    {"/linux/cgroupsPath": "system.slice:ocirun:id"},
    {f"{R}/devices": [{"allow": True, "type": t, "access": "mr"} for t in "abc"]},
    user_namespace(),
    user_namespace() | {"/process/user": {"uid": 1, "gid": 1, "additionalGids": [0]}},
    {"/linux/namespaces/-": {"type": "user", "path": "/proc/1/ns/user"}, "/process/user/uid": 7},
    user_namespace(uidMappings=[{"containerID": 0, "hostID": 2**32 - 2, "size": 1}]),
    user_namespace() | {"/mounts/0/options": ["idmap"]},
    {"/mounts/0/uidMappings": TWO_IDS, "/mounts/0/gidMappings": TWO_IDS},
    {
        "/linux/namespaces/-": {"type": "time"},
        "/linux/timeOffsets": {"boottime": {"secs": -1, "nanosecs": 999999999}},
    },
    {"/linux/devices": [{"path": "/dev/fifo", "type": "p"}]},
    {"/linux/devices": [{"path": "/dev/x", "type": "b", "major": 4095, "minor": 1048575}]},
    {"/linux/netDevices": {"eth0": {"name": "a23456789012345"}, "eth1": {}}},
    {"/linux/sysctl": {"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.1/x": "1"}},
    {"/linux/sysctl": {"net.ipv4.conf.eth0/1.x": "1", "fs.mqueue.msg_max": "1", "kernel.sem": "1"}},
    {"/linux/sysctl": {"kernel.hostname": "x"}, "/hostname": DROP},
    {"/linux/sysctl": {"kernel.domainname": "x"}},
    {"/linux/netDevices": {"a": {"name": "eth%d"}, "b": {"name": "eth%d"}}},
    {"/linux/intelRdt": {"closID": "/"}},
    {f"{R}/memory": {"swappiness": 100}},
    {f"{R}/unified": {"memory.high": "1", "a..b": ""}},
    {f"{R}/rdma": {"a": {"hcaObjects": 1}}},
    {f"{R}/blockIO/weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]},
    {f"{R}/blockIO/throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]},
    {S: {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x", "listenerMetadata": "y"}},
    {
        S: ERRNO
        | {
            "syscalls": [
                NOTIFY,
                {"names": ["x"], "action": "SCMP_ACT_TRACE", "errnoRet": 1},
                EXECVE,
            ]
        }
    },
    {"/linux/intelRdt": {"closID": "a..b"}},
    {"/annotations": {"x": "the text \\x00 is no NUL"}},
]

BAD = [
    ({"/ociVersion": "1.0"}, "/ociVersion"),
    ({"/ociVersion": "01.0.0"}, "/ociVersion"),
    ({"/ociVersion": "1.0.0-"}, "/ociVersion"),
    ({"/ociVersion": "1.0.0-01"}, "/ociVersion"),
    ({"/ociVersion": "1.0.0+"}, "/ociVersion"),
    ({"/ociVersion": "1.0.0-a_b"}, "/ociVersion"),
    ({"/ociVersion": "1.0.٣"}, "/ociVersion"),
    ({"/ociVersion": "9" * 5000 + ".0.0"}, "/ociVersion"),
    ({"/ociVersion": ""}, "/ociVersion"),
    ({"/ociVersion": "2.0.0"}, "/ociVersion"),
    ({"/root": DROP}, "/root"),
    ({"/root/path": ""}, "/root/path"),
    ({"/process/args": DROP}, "/process/args"),
    ({"/process/args": []}, "/process/args"),
    ({"/process/args": ["", "x"]}, "/process/args/0"),
    ({"/process/cwd": "tmp"}, "/process/cwd"),
    ({"/process/cwd": ""}, "/process/cwd"),
    ({"/process/env": ["A=b", "C"]}, "/process/env/1"),
    ({"/process/env": ["=b", ""]}, "/process/env/0", "/process/env/1"),
    ({"/process/oomScoreAdj": -1001}, "/process/oomScoreAdj"),
    ({"/process/oomScoreAdj": 1001}, "/process/oomScoreAdj"),
    ({"/process/consoleSize": {"height": 65536, "width": 80}}, "/process/consoleSize/height"),
    (
        {"/process/ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 8}},
        "/process/ioPriority/priority",
    ),
    (
        {"/process/ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": -1}},
        "/process/ioPriority/priority",
    ),
    ({"/process/scheduler": {"policy": "SCHED_OTHER", "nice": 20}}, "/process/scheduler/nice"),
    ({"/process/user/uid": 2**32 - 1}, "/process/user/uid"),
    ({"/process/user/gid": 2**32 - 1}, "/process/user/gid"),
    ({"/process/user/additionalGids": [1, 2**32 - 1]}, "/process/user/additionalGids/1"),
    ({"/process/user/additionalGids": [1] * 65537}, "/process/user/additionalGids"),
    ({"/process/user/umask": 512}, "/process/user/umask"),
    ({"/process/rlimits": [{"type": "RLIMIT_X", "soft": 0, "hard": 0}]}, "/process/rlimits/0/type"),
    (
        {"/process/rlimits/-": {"type": "RLIMIT_NOFILE", "soft": 0, "hard": 0}},
        "/process/rlimits/1/type",
    ),
    ({"/process/rlimits/0/soft": 1025}, "/process/rlimits/0/soft"),
    ({"/mounts/0/destination": ""}, "/mounts/0/destination"),
    ({"/mounts/0/options": ["bind"], "/mounts/0/source": DROP}, "/mounts/0/source"),
    ({"/mounts/0/type": "bind", "/mounts/0/source": ""}, "/mounts/0/source"),
    ({"/mounts/0/type": DROP}, "/mounts/0/type"),
    ({"/mounts/0/uidMappings": TWO_IDS}, "/mounts/0/gidMappings"),
    ({"/mounts/0/gidMappings": TWO_IDS}, "/mounts/0/uidMappings"),
    ({"/mounts/0/options": ["ridmap"]}, "/mounts/0/options"),
    (
        {"/mounts/0/uidMappings": overlapping("hostID"), "/mounts/0/gidMappings": TWO_IDS},
        "/mounts/0/uidMappings/1/hostID",
    ),
    ({"/hooks": {"poststart": [HOOK, {"path": "bin/x"}]}}, "/hooks/poststart/1/path"),
    ({"/hooks": {"prestart": [HOOK | {"env": ["x"]}]}}, "/hooks/prestart/0/env/0"),
    ({"/annotations": {"": "x"}}, "/annotations/"),
    ({"/linux/namespaces/-": {"type": "pid"}}, "/linux/namespaces/5"),
    ({"/linux/namespaces/1/path": "ns"}, "/linux/namespaces/1/path"),
    ({"/linux/namespaces/3": {"type": "cgroup"}}, "/hostname"),
    (
        {"/linux/namespaces/3": {"type": "cgroup"}, "/hostname": DROP, "/domainname": "x"},
        "/domainname",
    ),
    ({"/hostname": "ü" * 33}, "/hostname"),
    ({"/linux/maskedPaths/2": "proc"}, "/linux/maskedPaths/2"),
    ({"/linux/readonlyPaths/0": ""}, "/linux/readonlyPaths/0"),
    (
        {"/linux/namespaces/4": {"type": "cgroup"}},
        "/linux/maskedPaths",
        "/linux/readonlyPaths",
    ),
    ({"/linux/cgroupsPath": "/a/../b"}, "/linux/cgroupsPath"),
    ({f"{R}/devices": [{"allow": True, "type": "x"}]}, f"{R}/devices/0/type"),
    ({f"{R}/devices": [{"allow": True, "access": "rx"}]}, f"{R}/devices/0/access"),
    # strict_linux
    ({"/linux/uidMappings": TWO_IDS}, "/linux/uidMappings"),
    ({"/linux/namespaces/-": {"type": "user"}}, "/linux/uidMappings", "/linux/gidMappings"),
    (user_namespace() | {"/process/user/uid": 2}, "/process/user/uid"),
    (user_namespace() | {"/process/user/gid": 2}, "/process/user/gid"),
    (user_namespace() | {"/process/user/additionalGids": [1, 9]}, "/process/user/additionalGids/1"),
    (user_namespace(uidMappings=[TWO_IDS[0] | {"containerID": 1}]), "/process/user/uid"),
    (
        user_namespace(uidMappings=[*TWO_IDS, {"containerID": 9, "hostID": 9, "size": 0}]),
        "/linux/uidMappings/1/size",
    ),
    (
        user_namespace(uidMappings=[{"containerID": 0, "hostID": 2**32 - 2, "size": 2}]),
        "/linux/uidMappings/0/hostID",
    ),
    (
        user_namespace(gidMappings=[*TWO_IDS, {"containerID": 2**32 - 1, "hostID": 1, "size": 1}]),
        "/linux/gidMappings/1/containerID",
    ),
    (
        user_namespace(uidMappings=overlapping("containerID")) | {"/process/user/uid": 50},
        "/linux/uidMappings/1/containerID",
    ),
    (
        user_namespace(
            uidMappings=[{"containerID": i, "hostID": i, "size": 1} for i in range(341)]
        ),
        "/linux/uidMappings",
    ),
    ({"/linux/timeOffsets": {"boottime": {"secs": 1}}}, "/linux/timeOffsets"),
    (
        {
            "/linux/namespaces/-": {"type": "time"},
            "/linux/timeOffsets": {"monotonic": {"nanosecs": 10**9}},
        },
        "/linux/timeOffsets/monotonic/nanosecs",
    ),
    ({"/linux/devices": [{"path": "fifo", "type": "p"}]}, "/linux/devices/0/path"),
    ({"/linux/devices": [{"path": "/x", "type": "c", "major": 1}]}, "/linux/devices/0/minor"),
    (
        {"/linux/devices": [{"path": "/x", "type": "c", "major": -1, "minor": 0}]},
        "/linux/devices/0/major",
    ),
    (
        {"/linux/devices": [{"path": "/x", "type": "u", "major": 0, "minor": 2**20}]},
        "/linux/devices/0/minor",
    ),
    ({"/linux/netDevices": {"eth0": {"name": "a2345678901234567"}}}, "/linux/netDevices/eth0/name"),
    ({"/linux/netDevices": {"a/b": {}}}, "/linux/netDevices/a~1b"),
    ({"/linux/netDevices": {"": {"name": "x"}}}, "/linux/netDevices/"),
    ({"/linux/netDevices": {"a": {"name": "b"}, "b": {}}}, "/linux/netDevices/b/name"),
    (
        {"/linux/netDevices": {"a": {}}, "/linux/namespaces/1": {"type": "cgroup"}},
        "/linux/netDevices",
    ),
    ({"/linux/sysctl": {"kernel.core_pattern": "x"}}, "/linux/sysctl/kernel.core_pattern"),
    ({"/linux/sysctl": {"vm.swappiness": "x"}}, "/linux/sysctl/vm.swappiness"),
    ({"/linux/sysctl": {"net/../kernel/x": "x"}}, "/linux/sysctl/net~1..~1kernel~1x"),
    ({"/linux/sysctl": {"net.//.kernel.x": "x"}}, "/linux/sysctl/net.~1~1.kernel.x"),
    ({"/linux/sysctl": {"net..x": "x"}}, "/linux/sysctl/net..x"),
    ({"/linux/sysctl": {"/net/x": "x"}}, "/linux/sysctl/~1net~1x"),
    ({"/linux/sysctl": {"network.x": "x"}}, "/linux/sysctl/network.x"),
    ({"/linux/sysctl": {"user.max_ipc_namespaces": "x"}}, "/linux/sysctl/user.max_ipc_namespaces"),
    (
        {"/linux/sysctl": {"net.core.somaxconn": "x"}, "/linux/namespaces/1": {"type": "cgroup"}},
        "/linux/sysctl/net.core.somaxconn",
    ),
    (
        {"/linux/sysctl": {"kernel.shmmax": "x"}, "/linux/namespaces/2": {"type": "cgroup"}},
        "/linux/sysctl/kernel.shmmax",
    ),
    ({f"{R}/memory": {"swappiness": 101}}, f"{R}/memory/swappiness"),
    ({f"{R}/unified": {"../cgroup.procs": "1"}}, f"{R}/unified/..~1cgroup.procs"),
    ({f"{R}/unified": {"..": "1"}}, f"{R}/unified/.."),
    ({f"{R}/rdma": {"a/b": {}}}, f"{R}/rdma/a~1b"),
    ({f"{R}/blockIO/weightDevice": [{"major": 8, "minor": 0}]}, f"{R}/blockIO/weightDevice/0"),
    (
        {f"{R}/blockIO/throttleWriteIOPSDevice": [{"major": 8, "minor": 0}]},
        f"{R}/blockIO/throttleWriteIOPSDevice/0/rate",
    ),
    ({S: {"defaultAction": "SCMP_ACT_NOTIFY"}}, f"{S}/defaultAction"),
    ({S: {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}}, f"{S}/listenerMetadata"),
    ({S: ERRNO | {"defaultAction": "SCMP_ACT_ALLOW"}}, f"{S}/defaultErrnoRet"),
    ({S: ERRNO | {"syscalls": [NOTIFY | {"errnoRet": 1}, EXECVE]}}, f"{S}/syscalls/0/errnoRet"),
    ({S: ERRNO | {"defaultErrnoRet": 4095}}, f"{S}/defaultErrnoRet"),
    ({S: ERRNO | {"syscalls": []}}, S),
    ({S: ERRNO | {"syscalls": [EXECVE | {"action": "SCMP_ACT_TRAP"}]}}, S),
    ({S: {"defaultAction": "SCMP_ACT_KILL_PROCESS"}}, S),
    (
        {
            S: ERRNO
            | {
                "syscalls": [EXECVE | {"action": "SCMP_ACT_KILL", "args": [ARG]}],
                "listenerPath": "",
            }
        },
        S,
    ),
    ({S: ERRNO | {"syscalls": [EXECVE, NOTIFY], "listenerPath": ""}}, f"{S}/syscalls/1/action"),
    (
        {S: ERRNO | {"syscalls": [NOTIFY | {"args": [ARG | {"index": 6}]}, EXECVE]}},
        f"{S}/syscalls/0/args/0/index",
    ),
    ({"/linux/intelRdt": {"closID": "a/b"}}, "/linux/intelRdt/closID"),
    ({"/linux/sysctl": {"kernel.hostname": "x"}}, "/linux/sysctl/kernel.hostname"),
    (
        {"/linux/sysctl": {"kernel/domainname": "x"}, "/domainname": "y"},
        "/linux/sysctl/kernel~1domainname",
    ),
    ({"/linux/devices": [{"path": "/a", "type": "p", "uid": 2**32 - 1}]}, "/linux/devices/0/uid"),
    ({"/linux/netDevices": {"a": {"name": "%d%d"}}}, "/linux/netDevices/a/name"),
    ({"/linux/netDevices": {"a": {"name": "eth%s"}}}, "/linux/netDevices/a/name"),
    ({"/linux/netDevices": {"a": {"name": "eth%d0"}}}, "/linux/netDevices/a/name"),
    ({"/linux/intelRdt": {"closID": ".."}}, "/linux/intelRdt/closID"),
    # NUL, anywhere
    ({"/process/args/0": "a\0b"}, "/process/args/0"),
    ({"/mounts/3/options/0": "\0"}, "/mounts/3/options/0"),
    ({"/root/path": "rootfs\0"}, "/root/path"),
    ({"/annotations": {"a/\0": "x", "b": "\0"}}, "/annotations/a~1\0", "/annotations/b"),
]


@pytest.mark.parametrize("changes", GOOD, ids=map(str, range(len(GOOD))))
def test_what_is_right_is_accepted(changes):
    config = changed(default_spec(), changes)
    assert check_config(config)
    assert strict.check(config) == []


@pytest.mark.parametrize(
    ("changes", "pointers"), [(c, p) for c, *p in BAD], ids=[b[1] for b in BAD]
)
def test_what_is_wrong_is_found(changes, pointers):
    config = changed(default_spec(), changes)
    assert check_config(config), "the schema must leave this to the strict rules"
    found = strict.check(config)
    assert sorted(pointer for pointer, _, _ in found) == sorted(pointers)
    for _, message, hint in found:
        assert message
        assert message[-1] != "."
        assert hint[-1:] != "."


def test_everything_is_found_at_once():
    changes = {}
    expected = set()
    for change, *pointers in [BAD[0], BAD[15], BAD[17], BAD[24], BAD[44], BAD[-1]]:
        changes |= change
        expected |= set(pointers)
    found = strict.check(changed(default_spec(), changes))
    assert {pointer for pointer, _, _ in found} == expected
    assert len(expected) >= 6


numbers = st.integers(0, 40) | st.sampled_from([2**32 - 1, 2**32 - 2, 2**31])
ranges = st.fixed_dictionaries({"containerID": numbers, "hostID": numbers, "size": numbers})


@unhurried()
@given(st.lists(ranges, max_size=6))
def test_a_map_is_refused_exactly_when_the_kernel_would(entries):
    from ocirun.spec.strict_linux import mappings

    found = []
    mappings(entries, "", found)

    def covered(side):  # user_namespaces(7): no id twice, none beyond the last
        spans = [(e[side], e[side] + e["size"]) for e in entries]
        return all(end <= 2**32 - 1 for _, end in spans) and all(
            a[1] <= b[0] or b[1] <= a[0] for i, a in enumerate(spans) for b in spans[:i]
        )

    good = all(e["size"] for e in entries) and covered("containerID") and covered("hostID")
    assert bool(found) is not good


@unhurried()
@given(st.integers(), st.integers(), st.integers())
def test_versions(major, minor, patch):
    text = f"{major}.{minor}.{patch}"
    parsed = strict.version(text)
    if min(major, minor, patch) < 0 or max(map(len, text.split("."))) >= 20:
        assert parsed is None
    else:
        assert parsed == (major, minor, patch)


def test_it_runs_on_what_loads_returns():
    assert strict.check(fastjson.loads(fastjson.dumps(default_spec()).encode())) == []
