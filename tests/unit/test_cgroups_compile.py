"""Tables: (spec, layout) -> steps, paths, or an error that names the property."""

import pytest
from lib.marks import resources_mark

from ocirun.cgroups import CgroupPlan, compile_cgroup, compile_update, joining
from ocirun.cgroups.mounts import Layout
from ocirun.cgroups.words import describe
from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.step import Step

ROOT = "/sys/fs/cgroup"
V1_NAMES = (
    "cpu",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "rdma",
    "name=systemd",
)


def v1(*names: str, own: str = "/", mode: str = "v1") -> Layout:
    mounts = {name: f"{ROOT}/{name.rpartition('=')[2]}" for name in names or V1_NAMES}
    return Layout(mode, mounts, dict.fromkeys(mounts, own))


def hybrid(*controllers: str, own: str = "/") -> Layout:
    where = v1("memory", "devices", own=own, mode="hybrid")
    where.mounts[""] = f"{ROOT}/unified"
    where.own[""] = own
    where.controllers = controllers
    return where


ALL_V2 = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma")


def v2(*controllers: str, own: str = "/") -> Layout:
    return Layout("v2", {"": ROOT}, {"": own}, controllers or ALL_V2)


def compiled(resources: object = None, where: Layout | None = None, path: str = "/t/c", **options):
    linux = {"cgroupsPath": path}
    if resources is not None:
        linux["resources"] = resources
    return compile_cgroup({"linux": linux}, where or v1(), "c1", **options)


def settings(plan: CgroupPlan) -> list[tuple[object, ...]]:
    """(pointer, file, value...) of the writes that a property of the spec asked for."""
    found = []
    for step in plan.steps:
        assert describe(step)
        if step.op in ("cgroup-write", "cgroup-check-usage") and step.pointer:
            file, *rest = step.args
            found.append((step.pointer, file.removeprefix(ROOT), *rest))
    return found


# --- where the cgroups are


@pytest.mark.spec("/linux/cgroupsPath")
@pytest.mark.parametrize(
    ("where", "path", "expected"),
    [
        (v1("memory"), "/a/b", {"memory": "/memory/a/b"}),
        (v1("memory", own="/own"), "/a", {"memory": "/memory/a"}),
        (v1("memory", own="/own"), "a/b", {"memory": "/memory/own/a/b"}),
        (v1("memory", own="/own"), None, {"memory": "/memory/own/c1"}),
        (v1("memory"), None, {"memory": "/memory/c1"}),
        (v1("memory"), "", {"memory": "/memory/c1"}),
        (v1("memory"), "//a/.//b/", {"memory": "/memory/a/b"}),
        (v1("memory"), "system.slice:x:y", {"memory": "/memory/system.slice:x:y"}),
        (v2(own="/u.slice/s.scope"), "/a", {"": "/a"}),
        (v2(own="/u.slice/s.scope"), "a", {"": "/u.slice/a"}),
        (v2(own="/u.slice/s.scope"), None, {"": "/u.slice/c1"}),
        (v2(own="/s.scope"), None, {"": "/c1"}),
        (v2(), None, {"": "/c1"}),
        (
            hybrid(own="/own"),
            None,
            {"memory": "/memory/own/c1", "devices": "/devices/own/c1", "": "/unified/own/c1"},
        ),
        (Layout("none", {}, {}), None, {}),
    ],
)
def test_paths(where, path, expected):
    linux = {} if path is None else {"cgroupsPath": path}
    plan = compile_cgroup({"linux": linux}, where, "c1")
    assert plan.paths == {key: ROOT + part for key, part in expected.items()}


@pytest.mark.parametrize("path", ["/", ".", "/../x", "a/../../b", "..", "a\0b", "a\nb", "x" * 256])
def test_paths_that_are_refused(path):
    with pytest.raises(InvalidConfig) as caught:
        compiled(path=path)
    assert caught.value.pointer == "/linux/cgroupsPath"


def test_a_spec_without_linux():
    assert compile_cgroup({}, v2(), "c1").paths == {"": f"{ROOT}/c1"}


def test_no_hierarchy_but_a_path_is_asked_for():
    with pytest.raises(Unsupported) as caught:
        compiled(where=Layout("none", {}, {}))
    assert caught.value.pointer == "/linux/cgroupsPath"


# --- the order of the steps


def ops(plan: CgroupPlan) -> list[tuple[object, ...]]:
    return [(step.op, *step.args[:2]) for step in plan.steps if step.op != "cgroup-write"]


def test_steps_of_v1():
    where = v1("memory", "cpuset")
    where.mounts["cpu"] = where.mounts["cpuacct"] = ROOT + "/cpu,cpuacct"
    where.own["cpu"] = where.own["cpuacct"] = "/"
    plan = compiled(where=where)
    assert ops(plan) == [
        ("cgroup-mkdir", ROOT + "/memory/t/c"),
        ("cgroup-mkdir", ROOT + "/cpuset/t/c"),
        ("cgroup-mkdir", ROOT + "/cpu,cpuacct/t/c"),  # once for both controllers
        ("cgroup-inherit-cpuset", ROOT + "/cpuset/t/c", ROOT + "/cpuset"),
    ]
    assert [step.args for step in plan.join] == [
        (ROOT + "/memory/t/c", 1),
        (ROOT + "/cpuset/t/c", 1),
        (ROOT + "/cpu,cpuacct/t/c", 1),
    ]


def test_steps_of_v2():
    plan = compiled({"pids": {"limit": 5}}, v2("pids", "memory"))
    assert plan.steps[:3] == (
        Step("cgroup-enable", "/linux/cgroupsPath", ROOT, ("pids",), ("pids", "memory")),
        Step("cgroup-enable", "/linux/cgroupsPath", ROOT + "/t", ("pids",), ("pids", "memory")),
        Step("cgroup-mkdir", "/linux/cgroupsPath", ROOT + "/t/c"),
    )
    assert [step.op for step in plan.steps[3:]] == ["cgroup-devices-bpf", "cgroup-write"]
    assert plan.join == (Step("cgroup-join", "/linux/cgroupsPath", ROOT + "/t/c", 2),)


def test_hybrid_enables_only_what_is_needed():
    assert not any(step.op == "cgroup-enable" for step in compiled({}, hybrid("hugetlb")).steps)
    limits = {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}
    plan = compiled(limits, hybrid("hugetlb", "misc"))
    enabled = [step.args for step in plan.steps if step.op == "cgroup-enable"]
    assert enabled == [
        (ROOT + "/unified", ("hugetlb",), ("hugetlb",)),
        (ROOT + "/unified/t", ("hugetlb",), ("hugetlb",)),
    ]
    assert settings(plan)[0] == (
        "/linux/resources/hugepageLimits/0",
        "/unified/t/c/hugetlb.2MB.max",
        "0",
    )


def test_own_doing_has_no_pointer():
    plan = compile_cgroup({}, v1("memory"), "c1")
    assert {step.pointer for step in (*plan.steps, *plan.join)} == {""}


def test_joining_needs_the_paths_only():
    plan = compiled(where=hybrid())
    again = joining(plan.paths)
    assert again.steps == ()
    assert [step.args for step in again.join] == [step.args for step in plan.join]


# --- limits


def huge(index: str, size: str, limit: str, value: str) -> list[tuple[str, ...]]:
    """Limits of use and of reservation; an old kernel has the first only."""
    pointer, used = f"/hugepageLimits/{index}", f"hugetlb.{size}.{limit}"
    return [
        (pointer, used, value),
        (pointer, f"hugetlb.{size}.rsvd.{limit}", value, used, value),
    ]


MEMORY = {"limit": 1000, "reservation": 500, "swap": 3000}

V1_CASES = [
    ({"memory": {}}, []),
    ({"memory": {"limit": 0}}, []),
    ({"memory": {"limit": 1000}}, [("/memory/limit", "memory.limit_in_bytes", "1000")]),
    (
        {"memory": {"limit": -1}},
        [
            (
                "/memory/limit",
                "memory.memsw.limit_in_bytes",
                "-1",
                "memory.limit_in_bytes",
                "-1",
            ),
            ("/memory/limit", "memory.limit_in_bytes", "-1"),
        ],
    ),
    (
        {"memory": MEMORY},
        [
            ("/memory/swap", "memory.memsw.limit_in_bytes", "-1"),
            ("/memory/limit", "memory.limit_in_bytes", "1000"),
            ("/memory/swap", "memory.memsw.limit_in_bytes", "3000"),
            ("/memory/reservation", "memory.soft_limit_in_bytes", "500"),
        ],
    ),
    (
        {"memory": {"limit": 1000, "swap": -1}},
        [
            ("/memory/swap", "memory.memsw.limit_in_bytes", "-1"),
            ("/memory/limit", "memory.limit_in_bytes", "1000"),
        ],
    ),
    ({"memory": {"swap": -1}}, [("/memory/swap", "memory.memsw.limit_in_bytes", "-1")]),
    (
        {"memory": {"kernel": 7, "kernelTCP": 8, "swappiness": 0, "disableOOMKiller": True}},
        [
            ("/memory/kernel", "memory.kmem.limit_in_bytes", "7"),
            ("/memory/kernelTCP", "memory.kmem.tcp.limit_in_bytes", "8"),
            ("/memory/swappiness", "memory.swappiness", "0"),
            ("/memory/disableOOMKiller", "memory.oom_control", "1"),
        ],
    ),
    (
        {"memory": {"disableOOMKiller": False, "checkBeforeUpdate": True}},
        [("/memory/disableOOMKiller", "memory.oom_control", "0")],
    ),
    (
        {"memory": {"useHierarchy": True}},
        [("/memory/useHierarchy", "memory.use_hierarchy", "1")],
    ),
    (
        {
            "cpu": {
                "shares": 512,
                "quota": 5000,
                "period": 10000,
                "burst": 0,
                "idle": 1,
                "realtimeRuntime": 3,
                "realtimePeriod": 4,
                "cpus": "0-1",
                "mems": "0",
            }
        },
        [
            ("/cpu/shares", "cpu.shares", "512"),
            ("/cpu/quota", "cpu.cfs_quota_us", "-1"),
            ("/cpu/period", "cpu.cfs_period_us", "10000"),
            ("/cpu/burst", "cpu.cfs_burst_us", "0"),
            ("/cpu/quota", "cpu.cfs_quota_us", "5000"),
            ("/cpu/realtimePeriod", "cpu.rt_period_us", "4"),
            ("/cpu/realtimeRuntime", "cpu.rt_runtime_us", "3"),
            ("/cpu/idle", "cpu.idle", "1"),
            ("/cpu/cpus", "cpuset.cpus", "0-1"),
            ("/cpu/mems", "cpuset.mems", "0"),
        ],
    ),
    ({"cpu": {"quota": -1}}, [("/cpu/quota", "cpu.cfs_quota_us", "-1")]),
    (
        {"cpu": {"idle": 0, "shares": 2}},
        [("/cpu/idle", "cpu.idle", "0"), ("/cpu/shares", "cpu.shares", "2")],
    ),
    ({"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": ""}}, []),
    ({"pids": {"limit": 5}}, [("/pids/limit", "pids.max", "5")]),
    ({"pids": {"limit": 0}}, [("/pids/limit", "pids.max", "1")]),
    ({"pids": {"limit": -1}}, [("/pids/limit", "pids.max", "max")]),
    ({"pids": {}}, []),
    (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 9}, {"pageSize": "1GB", "limit": 8}]},
        [
            *huge("0", "2MB", "limit_in_bytes", "9"),
            *huge("1", "1GB", "limit_in_bytes", "8"),
        ],
    ),
    (
        {
            "blockIO": {
                "weight": 100,
                "leafWeight": 50,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 60, "leafWeight": 70}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 5}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 1, "rate": 7}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 1, "rate": 8}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 2, "rate": 6}],
            }
        },
        [
            ("/blockIO/weight", "blkio.weight", "100", "blkio.bfq.weight", "100"),
            ("/blockIO/leafWeight", "blkio.leaf_weight", "50", "blkio.bfq.leaf_weight", "50"),
            (
                "/blockIO/weightDevice/0/weight",
                "blkio.weight_device",
                "8:0 60",
                "blkio.bfq.weight_device",
                "8:0 60",
            ),
            (
                "/blockIO/weightDevice/0/leafWeight",
                "blkio.leaf_weight_device",
                "8:0 70",
                "blkio.bfq.leaf_weight_device",
                "8:0 70",
            ),
            ("/blockIO/throttleReadBpsDevice/0", "blkio.throttle.read_bps_device", "8:1 5"),
            ("/blockIO/throttleWriteBpsDevice/0", "blkio.throttle.write_bps_device", "8:1 7"),
            ("/blockIO/throttleReadIOPSDevice/0", "blkio.throttle.read_iops_device", "8:1 8"),
            ("/blockIO/throttleWriteIOPSDevice/0", "blkio.throttle.write_iops_device", "8:2 6"),
        ],
    ),
    (
        {"network": {"classID": 7, "priorities": [{"name": "eth0", "priority": 3}]}},
        [
            ("/network/classID", "net_cls.classid", "7"),
            ("/network/priorities/0", "net_prio.ifpriomap", "eth0 3"),
        ],
    ),
    (
        {"rdma": {"mlx/5": {"hcaHandles": 3, "hcaObjects": 4}, "idle": {}}},
        [("/rdma/mlx~15", "rdma.max", "mlx/5 hca_handle=3 hca_object=4")],
    ),
]

V2_CASES = [
    ({"memory": {"limit": 1000}}, [("/memory/limit", "memory.max", "1000")]),
    (
        {"memory": MEMORY},
        [
            ("/memory/swap", "memory.swap.max", "2000"),
            ("/memory/limit", "memory.max", "1000"),
            ("/memory/reservation", "memory.low", "500"),
        ],
    ),
    (
        {"memory": {"limit": 1000, "swap": 1000}},
        [("/memory/swap", "memory.swap.max", "0"), ("/memory/limit", "memory.max", "1000")],
    ),
    (
        {"memory": {"limit": 1000, "swap": -1}},
        [
            ("/memory/swap", "memory.swap.max", "max", "memory.max", "1000"),
            ("/memory/limit", "memory.max", "1000"),
        ],
    ),
    (
        {"memory": {"limit": -1}},
        [
            ("/memory/limit", "memory.swap.max", "max", "memory.max", "max"),
            ("/memory/limit", "memory.max", "max"),
        ],
    ),
    ({"memory": {"swap": -1}}, [("/memory/swap", "memory.swap.max", "max")]),
    ({"memory": {"reservation": -1}}, [("/memory/reservation", "memory.low", "max")]),
    (
        {"memory": {"limit": 1000, "checkBeforeUpdate": True}},
        [
            ("/memory/checkBeforeUpdate", "memory.current", 1000),
            ("/memory/limit", "memory.max", "1000"),
        ],
    ),
    (
        {"memory": {"kernel": 0, "kernelTCP": -1, "disableOOMKiller": False, "useHierarchy": True}},
        [],
    ),
    ({"cpu": {"shares": 1024}}, [("/cpu/shares", "cpu.weight", "100")]),
    ({"cpu": {"shares": 2}}, [("/cpu/shares", "cpu.weight", "1")]),
    ({"cpu": {"shares": 1}}, [("/cpu/shares", "cpu.weight", "1")]),
    ({"cpu": {"shares": 2000}}, [("/cpu/shares", "cpu.weight", "170")]),
    ({"cpu": {"shares": 262144}}, [("/cpu/shares", "cpu.weight", "10000")]),
    ({"cpu": {"shares": 9999999}}, [("/cpu/shares", "cpu.weight", "10000")]),
    ({"cpu": {"quota": 5, "period": 10}}, [("/cpu/quota", "cpu.max", "5 10")]),
    ({"cpu": {"quota": 5}}, [("/cpu/quota", "cpu.max", "5 100000")]),
    ({"cpu": {"quota": -1, "period": 10}}, [("/cpu/quota", "cpu.max", "max 10")]),
    ({"cpu": {"period": 10}}, [("/cpu/period", "cpu.max", "max 10")]),
    (
        {"cpu": {"quota": 9, "burst": 4, "idle": 1, "cpus": "0", "mems": "0"}},
        [
            ("/cpu/quota", "cpu.max", "max"),
            ("/cpu/burst", "cpu.max.burst", "4"),
            ("/cpu/quota", "cpu.max", "9 100000"),
            ("/cpu/idle", "cpu.idle", "1"),
            ("/cpu/cpus", "cpuset.cpus", "0"),
            ("/cpu/mems", "cpuset.mems", "0"),
        ],
    ),
    ({"pids": {"limit": 0}}, [("/pids/limit", "pids.max", "1")]),
    ({"pids": {"limit": -1}}, [("/pids/limit", "pids.max", "max")]),
    (
        {"cpu": {"idle": 0, "shares": 2}},
        [("/cpu/idle", "cpu.idle", "0"), ("/cpu/shares", "cpu.weight", "1")],
    ),
    (
        {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]}},
        [("/blockIO/throttleReadBpsDevice/0", "io.max", "8:0 rbps=max")],
    ),
    (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 9}]},
        huge("0", "2MB", "max", "9"),
    ),
    (
        {
            "blockIO": {
                "weight": 10,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}],
            }
        },
        [
            ("/blockIO/weight", "io.bfq.weight", "10", "io.weight", "1"),
            (
                "/blockIO/weightDevice/0/weight",
                "io.bfq.weight",
                "8:0 1000",
                "io.weight",
                "8:0 10000",
            ),
            ("/blockIO/throttleReadBpsDevice/0", "io.max", "8:0 rbps=1"),
            ("/blockIO/throttleWriteBpsDevice/0", "io.max", "8:0 wbps=2"),
            ("/blockIO/throttleReadIOPSDevice/0", "io.max", "8:0 riops=3"),
            ("/blockIO/throttleWriteIOPSDevice/0", "io.max", "8:0 wiops=4"),
        ],
    ),
    ({"rdma": {"m": {"hcaHandles": 3}}}, [("/rdma/m", "rdma.max", "m hca_handle=3")]),
    (
        {"unified": {"memory.high": "55", "cgroup.max.depth": "2"}},
        [
            ("/unified/memory.high", "memory.high", "55"),
            ("/unified/cgroup.max.depth", "cgroup.max.depth", "2"),
        ],
    ),
]


def marked(cases):
    """The cases, each with the properties of its resources."""
    return [
        pytest.param(*case, marks=resources_mark(next(v for v in case if isinstance(v, dict))))
        for case in cases
    ]


@pytest.mark.parametrize(("resources", "expected"), marked(V1_CASES))
def test_limits_on_v1(resources, expected):
    def place(file: str) -> str:
        return f"/{file.partition('.')[0]}/t/c/{file}"

    found = settings(compiled(resources, v1()))
    assert found == [
        (
            "/linux/resources" + pointer,
            place(file),
            value,
            *([ROOT + place(other[0]), other[1]] if other else []),
        )
        for pointer, file, value, *other in expected
    ]


@pytest.mark.parametrize(("resources", "expected"), marked(V2_CASES))
def test_limits_on_v2(resources, expected):
    plan = compiled(resources, v2())
    assert settings(plan) == [
        (
            "/linux/resources" + pointer,
            f"/t/c/{file}",
            value,
            *([f"{ROOT}/t/c/{other[0]}", other[1]] if other else []),
        )
        for pointer, file, value, *other in expected
    ]
    needed = {step.args[1] for step in plan.steps if step.op == "cgroup-enable"}
    wanted = {file.partition(".")[0] for _, file, *_ in expected if not file.startswith("cgroup.")}
    assert {name for names in needed for name in names} == wanted


UNSUPPORTED = [
    (v2(), {"memory": {"kernel": 1}}, "/memory/kernel"),
    (v2(), {"memory": {"kernelTCP": 1}}, "/memory/kernelTCP"),
    (v2(), {"memory": {"swappiness": 0}}, "/memory/swappiness"),
    (v2(), {"memory": {"disableOOMKiller": True}}, "/memory/disableOOMKiller"),
    (v2(), {"memory": {"useHierarchy": False}}, "/memory/useHierarchy"),
    (v2(), {"cpu": {"realtimeRuntime": 1}}, "/cpu/realtimeRuntime"),
    (v2(), {"cpu": {"realtimePeriod": 1}}, "/cpu/realtimePeriod"),
    (v2(), {"blockIO": {"leafWeight": 10}}, "/blockIO/leafWeight"),
    (
        v2(),
        {"blockIO": {"weightDevice": [{"major": 1, "minor": 1, "leafWeight": 10}]}},
        "/blockIO/weightDevice/0/leafWeight",
    ),
    (v2(), {"network": {"classID": 1}}, "/network/classID"),
    (v2(), {"network": {"priorities": [{"name": "a", "priority": 1}]}}, "/network/priorities/0"),
    (v2("hugetlb"), {"memory": {"limit": 5}}, "/memory/limit"),
    (v2("hugetlb"), {"cpu": {"quota": 5}}, "/cpu/quota"),
    (v2("cpu"), {"cpu": {"cpus": "0"}}, "/cpu/cpus"),
    (v2("cpu"), {"pids": {"limit": 5}}, "/pids/limit"),
    (v2("cpu"), {"blockIO": {"weight": 50}}, "/blockIO/weight"),
    (v2("cpu"), {"unified": {"memory.high": "1"}}, "/unified/memory.high"),
    (v1(), {"unified": {"memory.high": "1"}}, "/unified/memory.high"),
    (v1(), {"unified": {"cgroup.max.depth": "1"}}, "/unified/cgroup.max.depth"),
    (hybrid("hugetlb"), {"pids": {"limit": 5}}, "/pids/limit"),
    (hybrid("hugetlb"), {"rdma": {"x": {"hcaHandles": 1}}}, "/rdma/x"),
    (v1("memory"), {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, "/hugepageLimits/0"),
    (v1("memory"), {"devices": [{"allow": False, "access": "rwm"}]}, "/devices"),
    (Layout("none", {}, {}), {"memory": {"limit": 5}}, "/memory/limit"),
    (Layout("none", {}, {}), {"devices": [{"allow": False}]}, "/devices"),
]


@pytest.mark.parametrize(("where", "resources", "pointer"), marked(UNSUPPORTED))
def test_what_the_machine_cannot_do_is_never_skipped(where, resources, pointer):
    with pytest.raises(Unsupported) as caught:
        compile_cgroup({"linux": {"resources": resources}}, where, "c1")
    assert caught.value.pointer == "/linux/resources" + pointer
    assert caught.value.hint


@pytest.mark.parametrize(
    ("where", "resources", "pointer"),
    [
        (v1(), {"memory": {"limit": 5, "swap": 4}}, "/memory/swap"),
        (v2(), {"memory": {"limit": 5, "swap": 4}}, "/memory/swap"),
        (v2(), {"memory": {"swap": 4}}, "/memory/swap"),
        (v2(), {"memory": {"limit": -1, "swap": 4}}, "/memory/swap"),
        (v2(), {"unified": {"../x": "1"}}, "/unified/..~1x"),
        (v2(), {"unified": {"nodot": "1"}}, "/unified/nodot"),
        (v2(), {"unified": {"memory.a/b": "1"}}, "/unified/memory.a~1b"),
        (v1(), {"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}, "/hugepageLimits/0"),
    ],
)
def test_wishes_that_make_no_sense(where, resources, pointer):
    with pytest.raises(InvalidConfig) as caught:
        compiled(resources, where)
    assert caught.value.pointer == "/linux/resources" + pointer


@pytest.mark.parametrize(
    "resources",
    [{}, {"memory": {}}, {"pids": {}}, {"cpu": {"shares": 0}}, {"network": {}}, {"unified": {}}],
)
@pytest.mark.parametrize("where", [v2("misc"), v1("memory"), Layout("none", {}, {})])
def test_no_wish_needs_no_controller(resources, where):
    compile_cgroup({"linux": {"resources": resources}}, where, "c1")


@pytest.mark.spec("/linux/resources/pids/limit")
@pytest.mark.parametrize(
    ("version", "limit", "value"),
    [
        ("1.0.2-dev", 0, "max"),
        ("1.2.1", 0, "max"),
        ("1.2.1", 5, "5"),
        ("1.2.1", -1, "max"),
        ("1.3.0", 0, "1"),
        ("1.3.0", -1, "max"),
        ("2.0.0", 0, "1"),
    ],
)
def test_a_pids_limit_of_0_is_none_before_1_3(version, limit, value):
    spec = {"ociVersion": version, "linux": {"resources": {"pids": {"limit": limit}}}}
    assert settings(compile_cgroup(spec, v2(), "c1"))[-1][-1] == value


# --- whose the cgroup is

CGROUP_MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
NEW = [{"type": "cgroup"}, {"type": "user"}]


@pytest.mark.parametrize(
    ("where", "spaces", "options", "user", "owner"),
    [
        (v2(), NEW, ["rw"], 0, 100000),
        (v2(), NEW, [], 7, 100007),
        (v2(), NEW, ["rw"], 1000, 5000),
        (v2(), NEW, ["rw"], 999, None),  # not mapped
        (v2(), [{"type": "cgroup"}], ["rw"], 7, 7),
        (v2(), [{"type": "cgroup"}], ["rw"], 0, None),  # root's already
        (v2(), NEW, ["nosuid", "ro"], 0, None),
        (v2(), NEW, ["rro"], 0, None),
        (v2(), [{"type": "user"}], ["rw"], 0, None),
        (v2(), [{"type": "user"}, {"type": "cgroup", "path": "/x"}], ["rw"], 0, None),
        (v1(), NEW, ["rw"], 0, None),
        (hybrid(), NEW, ["rw"], 0, None),
    ],
)
@pytest.mark.spec("/mounts/*/options", "/linux/uidMappings/*/hostID")
def test_who_gets_the_cgroup(where, spaces, options, user, owner):
    mappings = [
        {"containerID": 0, "hostID": 100000, "size": 100},
        {"containerID": 1000, "hostID": 5000, "size": 1},
    ]
    spec = {
        "mounts": [{"destination": "/proc"}, {**CGROUP_MOUNT, "options": options}],
        "process": {"user": {"uid": user}},
        "linux": {"namespaces": spaces, "uidMappings": mappings, "cgroupsPath": "/t"},
    }
    steps = compile_cgroup(spec, where, "c1").steps
    found = [step for step in steps if step.op == "cgroup-chown"]
    expected = [Step("cgroup-chown", "/mounts/1", ROOT + "/t", owner)] if owner else []
    assert found == expected
    assert not any(
        step.op == "cgroup-chown" for step in compile_cgroup(spec, where, "c1", euid=1000).steps
    )


@pytest.mark.parametrize("change", [{"source": "other"}, {"destination": "/cg"}])
def test_another_mount_gives_nobody_the_cgroup(change):
    spec = {"mounts": [{**CGROUP_MOUNT, **change}], "process": {"user": {"uid": 7}}}
    spec["linux"] = {"namespaces": [{"type": "cgroup"}]}
    assert not any(step.op == "cgroup-chown" for step in compile_cgroup(spec, v2(), "c1").steps)


# --- new limits for a container that exists


def test_an_update_touches_what_is_named_and_nothing_else():
    paths = {"memory": ROOT + "/memory/x", "devices": ROOT + "/devices/x"}
    where = v1("memory", "devices")
    plan = compile_update({"memory": {"limit": 5}}, where, paths, "1.0.2")
    assert settings(plan) == [
        ("/linux/resources/memory/limit", "/memory/x/memory.limit_in_bytes", "5")
    ]
    assert (plan.join, len(plan.steps)) == ((), 1)


def test_an_update_of_device_rules_brings_the_default_ones():
    rule = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}
    plan = compile_update({"devices": [rule]}, v2(), {"": ROOT + "/x"}, "1.0.2")
    assert [step.op for step in plan.steps] == ["cgroup-devices-bpf"]
    assert ("c", 1, 11, "r", True) in plan.steps[0].args[1]
    assert ("c", 1, 3, "rwm", True) in plan.steps[0].args[1]


def test_an_update_reads_old_documents_as_they_were_meant():
    plan = compile_update({"pids": {"limit": 0}}, v2(), {"": ROOT + "/x"}, "1.0.2")
    assert settings(plan)[-1][-1] == "max"


def test_an_update_that_cannot_be_done_is_refused():
    with pytest.raises(Unsupported):
        compile_update({"pids": {"limit": 3}}, v2("cpu"), {"": ROOT + "/x"}, "1.0.2")
