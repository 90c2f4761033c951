"""Tables of the systemd driver: names, places, properties, and the text form of their values."""

import importlib
import socket
import sys
import threading
from pathlib import Path

import pytest
from lib.marks import resources_mark

from ocirun.cgroups import CgroupPlan, compile_cgroup, scopes, systemd
from ocirun.cgroups.bus import Bus, BusError
from ocirun.cgroups.devices import compile_devices
from ocirun.cgroups.gvariant import parse
from ocirun.cgroups.mounts import Layout
from ocirun.cgroups.properties import (
    INFINITY,
    bits,
    from_annotations,
    from_rules,
    without_limit,
)
from ocirun.cgroups.words import describe
from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.compile import compile_plan
from ocirun.plan.host import Host
from ocirun.plan.step import Plan, Step
from ocirun.plan.wire import decode, encode
from ocirun.spec.default import default_spec

ROOT = "/sys/fs/cgroup"
ALL_V2 = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma")
SYSTEM = systemd.Manager(False, "unix:path=/bus", {})
OWN = "/user.slice/user-7.slice/user@7.service"
USER = systemd.Manager(True, "unix:path=/user/bus", {"": OWN})


def v2() -> Layout:
    return Layout("v2", {"": ROOT}, {"": "/x"}, ALL_V2)


def v1(*names: str, mode: str = "v1") -> Layout:
    names = names or ("name=systemd", "memory", "cpu", "blkio", "pids", "devices")
    mounts = {name: f"{ROOT}/{name.rpartition('=')[2]}" for name in names}
    return Layout(mode, mounts, dict.fromkeys(mounts, "/x"))


def compiled(path: str | None = "a.slice:x:y", where=None, manager=SYSTEM, **spec) -> CgroupPlan:
    linux = {"resources": spec.pop("resources", {})}
    if path is not None:
        linux["cgroupsPath"] = path
    return compile_cgroup({"linux": linux, **spec}, where or v2(), "c1", manager=manager)


# --- names and places


@pytest.mark.spec("/linux/cgroupsPath")
@pytest.mark.parametrize(
    ("path", "manager", "slice_", "unit", "place"),
    [
        (None, SYSTEM, "system.slice", "ocirun-c1.scope", "/system.slice/ocirun-c1.scope"),
        ("", SYSTEM, "system.slice", "ocirun-c1.scope", "/system.slice/ocirun-c1.scope"),
        (None, USER, "user.slice", "ocirun-c1.scope", OWN + "/user.slice/ocirun-c1.scope"),
        ("::web", SYSTEM, "system.slice", "web.scope", "/system.slice/web.scope"),
        (":docker:web", SYSTEM, "system.slice", "docker-web.scope", None),
        ("a.slice:x:y", SYSTEM, "a.slice", "x-y.scope", "/a.slice/x-y.scope"),
        ("-.slice:x:y", SYSTEM, "-.slice", "x-y.scope", "/x-y.scope"),
        (
            "a-b-c.slice:x:y",
            SYSTEM,
            "a-b-c.slice",
            "x-y.scope",
            "/a.slice/a-b.slice/a-b-c.slice/x-y.scope",
        ),
        ("user.slice:libpod:y", USER, "user.slice", "libpod-y.scope", None),
    ],
)
def test_where_a_scope_is(path, manager, slice_, unit, place):
    plan = compiled(path, manager=manager)
    assert plan.scope is not None
    assert plan.scope.args[:3] == (unit, slice_, manager.bus)
    assert plan.scope.pointer == ("/linux/cgroupsPath" if path else "")
    if place:
        assert plan.scope.args[4] == place
        assert plan.paths == {"": ROOT + place}


@pytest.mark.parametrize(
    "path",
    [
        "a.slice", "/a/b", "a:b", "a:b:c:d", "a:b:c", "a/b.slice:x:y", "-a.slice:x:y", "a-.slice:x:y",
        "a--b.slice:x:y", ".slice:x:y", "a.slice:x:", "a.slice:x:y/z", "a.slice:x:y z", "../a.slice:x:y",
        "a.slice:x:" + "y" * 250,
    ],
)  # fmt: skip
def test_names_that_are_refused(path):
    with pytest.raises(InvalidConfig) as caught:
        compiled(path)
    assert caught.value.pointer == "/linux/cgroupsPath"
    assert caught.value.hint


def test_a_default_name_that_is_no_units():
    with pytest.raises(InvalidConfig) as caught:
        compile_cgroup({}, v2(), "a+b", manager=SYSTEM)
    assert (caught.value.pointer, "slice:prefix:name" in caught.value.hint) == ("", True)


@pytest.mark.parametrize(
    ("where", "manager", "path"),
    [
        (v1("memory"), SYSTEM, "a.slice:x:y"),
        (v1(), USER, "a.slice:x:y"),
        (v2(), SYSTEM, "a.slice:x:y.slice"),
    ],
)
def test_what_systemd_cannot_do(where, manager, path):
    with pytest.raises(Unsupported) as caught:
        compiled(path, where, manager)
    assert caught.value.pointer == "/linux/cgroupsPath"
    assert caught.value.hint


def test_steps_on_v2():
    plan = compiled(resources={"pids": {"limit": 5}})
    assert [step.op for step in plan.steps] == [
        "cgroup-ensure",
        "cgroup-devices-bpf",
        "cgroup-write",
    ]
    assert plan.join == ()  # systemd has put it there


def test_controllers_that_systemd_does_not_know_are_enabled():
    huge = {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}
    plan = compiled(manager=USER, resources={**huge, "pids": {"limit": 5}})
    enabled = [step.args for step in plan.steps if step.op == "cgroup-enable"]
    wanted = (("hugetlb",), ("hugetlb",))
    assert enabled == [(ROOT + OWN, *wanted), (f"{ROOT}{OWN}/a.slice", *wanted)]


def test_steps_on_v1():
    manager = systemd.Manager(False, "unix:path=/bus", {"memory": "/m", "name=systemd": ""})
    plan = compiled(where=v1("name=systemd", "memory"), manager=manager)
    inner = "/a.slice/x-y.scope"
    assert plan.paths == {
        "name=systemd": f"{ROOT}/systemd{inner}",
        "memory": f"{ROOT}/memory/m{inner}",
    }
    assert [step.args for step in plan.join] == [(f"{ROOT}/memory/m{inner}", 1)]
    assert [step.args[0] for step in plan.steps] == list(plan.paths.values())


def test_a_plan_with_a_scope_is_the_same_after_a_journey():
    plan = Plan("c1", "/b")
    plan.cgroup = compiled(resources={"cpu": {"cpus": "0-3"}})
    found = decode(encode(plan)).cgroup
    assert found is not None
    assert found.scope == plan.cgroup.scope
    plan.cgroup = compile_cgroup({}, v2(), "c1")
    assert decode(encode(plan)).cgroup.scope is None


@pytest.mark.parametrize("variable", ["DBUS_SYSTEM_BUS_ADDRESS", ""])
def test_facts_about_the_manager(monkeypatch, variable):
    files = {
        "/proc/self/uid_map": b"         0          0 4294967295\n",
        "/proc/1/cgroup": b"3:cpu,cpuacct:/x\n1:name=systemd:/init.scope\n0::/y/init.scope\n",
    }
    monkeypatch.setattr(systemd, "read", files.__getitem__)
    monkeypatch.setattr(systemd.posix, "geteuid", lambda: 0)
    monkeypatch.setattr(systemd.posix, "environ", {variable.encode(): b"unix:path=/z"})
    found = systemd.manager()
    assert found.user is False
    assert found.bus == "unix:path=" + ("/z" if variable else "/run/dbus/system_bus_socket")
    assert found.cgroups == {"cpu": "/x", "cpuacct": "/x", "name=systemd": "", "": "/y"}


@pytest.mark.parametrize(
    ("euid", "uid_map", "own", "environ", "bus", "cgroup"),
    [
        (
            7,
            b"0 0 4294967295",
            b"0::/a/user@7.service/b",
            {},
            "/run/user/7/bus",
            "/a/user@7.service",
        ),
        (7, b"0 0 4294967295", b"0::/a/user@7.service", {}, "/run/user/7/bus", "/a/user@7.service"),
        (7, b"0 0 4294967295", b"0::/s.scope", {b"XDG_RUNTIME_DIR": b"/r"}, "/r/bus", OWN),
        (0, b"0 7 1\n1 100000 65536", b"0::/s.scope", {}, "/run/user/7/bus", OWN),
        (
            7,
            b"0 0 4294967295",
            b"0::/s.scope",
            {b"DBUS_SESSION_BUS_ADDRESS": b"unix:path=/d"},
            "/d",
            OWN,
        ),
    ],
)
def test_facts_about_the_manager_of_a_user(monkeypatch, euid, uid_map, own, environ, bus, cgroup):
    files = {"/proc/self/uid_map": uid_map, "/proc/self/cgroup": own}
    monkeypatch.setattr(systemd, "read", files.__getitem__)
    monkeypatch.setattr(systemd.posix, "geteuid", lambda: euid)
    monkeypatch.setattr(systemd.posix, "environ", environ)
    found = systemd.manager()
    assert (found.user, found.bus, found.cgroups) == (True, "unix:path=" + bus, {"": cgroup})


def test_a_users_scope_needs_no_cgroup_that_the_user_may_make():
    spec = default_spec(rootless=True)
    spec["linux"]["resources"] = {
        "devices": [{"allow": True, "type": "c", "major": 10, "access": "r"}],
        "pids": {"limit": 5},
    }
    host = Host(v2(), 7, 0, rootless=True, manager=USER)
    plan = compile_plan(spec, host, "c1", "/b")
    assert plan.cgroup is not None
    assert plan.cgroup.paths == {"": f"{ROOT}{OWN}/user.slice/ocirun-c1.scope"}
    assert [step.op for step in plan.cgroup.steps] == ["cgroup-ensure", "cgroup-write"]
    names = properties(plan.cgroup)
    assert names["TasksMax"] == 5
    assert not {"DevicePolicy", "DeviceAllow"} & set(names)
    assert "devices is not enforced" in " ".join(plan.warnings)


# --- properties


def properties(plan: CgroupPlan) -> dict[str, object]:
    assert plan.scope is not None
    assert describe(plan.scope)
    return {name: value for name, _, value, _, _ in plan.scope.args[3]}


OF_EVERY_SCOPE = set(properties(compiled()))

V2_CASES = [
    ({"memory": {"limit": 1000}}, {"MemoryMax": 1000}),
    (
        {"memory": {"limit": 1000, "swap": 3000, "reservation": 500}},
        {"MemoryMax": 1000, "MemorySwapMax": 2000, "MemoryLow": 500},
    ),
    ({"memory": {"limit": -1}}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}),
    ({"memory": {"limit": 9, "swap": -1}}, {"MemoryMax": 9, "MemorySwapMax": INFINITY}),
    ({"cpu": {"shares": 1024}}, {"CPUWeight": 100}),
    ({"cpu": {"idle": 1}}, {"CPUWeight": 0}),
    ({"cpu": {"idle": 0}}, {}),
    (
        {"cpu": {"quota": 50000, "period": 100000}},
        {"CPUQuotaPerSecUSec": 500000, "CPUQuotaPeriodUSec": 100000},
    ),
    (
        {"cpu": {"quota": 12345, "period": 100000, "burst": 5}},
        {"CPUQuotaPerSecUSec": 130000, "CPUQuotaPeriodUSec": 100000},
    ),
    (
        {"cpu": {"quota": -1, "period": 10000}},
        {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 10000},
    ),
    ({"cpu": {"cpus": "0-1,9", "mems": "0"}}, {"AllowedCPUs": b"\x03\x02", "AllowedMemoryNodes": b"\x01"}),
    ({"cpu": {"cpus": "no list"}}, {}),
    ({"pids": {"limit": 5}}, {"TasksMax": 5}),
    ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}),
    ({"blockIO": {"weight": 1000}}, {"IOWeight": 10000}),
    ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}}, {}),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 9}]}, {}),
    (
        {"unified": {"memory.high": "5", "memory.min": "max", "cpu.max": "20000 10000"}},
        {
            "MemoryHigh": 5,
            "MemoryMin": INFINITY,
            "CPUQuotaPerSecUSec": 2000000,
            "CPUQuotaPeriodUSec": 10000,
        },
    ),
    ({"unified": {"memory.max": "1G", "cpu.max": "what ever"}}, {}),
]  # fmt: skip

V1_CASES = [
    ({"memory": {"limit": 1000, "swap": 2000}}, {"MemoryLimit": 1000}),
    ({"memory": {"limit": -1}}, {"MemoryLimit": INFINITY}),
    (
        {"cpu": {"shares": 1, "quota": 5000, "period": 10000}},
        {"CPUShares": 2, "CPUQuotaPerSecUSec": 500000, "CPUQuotaPeriodUSec": 10000},
    ),
    ({"cpu": {"quota": -1}}, {"CPUQuotaPerSecUSec": INFINITY}),
    ({"pids": {"limit": 5}}, {"TasksMax": 5}),
    ({"blockIO": {"weight": 500}}, {"BlockIOWeight": 500}),
]


@pytest.mark.parametrize(
    ("where", "resources", "expected"),
    [
        pytest.param(where, *case, marks=resources_mark(case[0]))
        for where, cases in ((v2(), V2_CASES), (v1(), V1_CASES))
        for case in cases
    ],
)
def test_limits_are_properties(where, resources, expected):
    plan = compiled(where=where, resources=resources)
    found = {k: v for k, v in properties(plan).items() if k not in OF_EVERY_SCOPE}
    found.pop("BlockIOAccounting", None)
    assert found == expected


def test_a_property_knows_what_asked_for_it():
    plan = compiled(resources={"cpu": {"shares": 5}})
    assert plan.scope is not None
    asked = {name: pointer for name, _, _, _, pointer in plan.scope.args[3]}
    assert asked["CPUWeight"] == "/linux/resources/cpu/shares"


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("0", b"\x01"),
        ("8", b"\x00\x01"),
        ("0-2, 4", b"\x17"),
        ("3-1", None),
        ("", None),
        ("0-", None),
        ("99999999", None),
        ("a", None),
    ],
)
def test_bits(text, mask):
    assert bits(text) == mask


@pytest.mark.parametrize(
    ("rules", "policy", "expected"),
    [
        ([], "strict", {"/dev/char/1:3": "rwm", "char-136": "rwm", "char-*": "m", "block-*": "m"}),
        ([{"allow": True}], "auto", {}),
        ([{"allow": True, "type": "c"}], "strict", {"char-*": "rwm", "block-*": "m"}),
        (
            [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}],
            "strict",
            {"/dev/char/10:229": "r"},
        ),
        ([{"allow": True, "type": "b", "major": 8, "access": "rw"}], "strict", {"block-8": "rw"}),
        ([{"allow": True, "type": "b", "minor": 1, "access": "r"}], "strict", {"block-*": "rm"}),
        (
            [
                {"allow": True, "type": "b", "major": 8, "access": "r"},
                {"allow": False, "type": "b", "major": 8, "access": "r"},
            ],
            "strict",
            {"block-8": None},
        ),
        (
            [
                {"allow": True, "type": "b", "major": 8, "minor": 1, "access": "rw"},
                {"allow": True, "type": "b", "major": 9, "minor": 1, "access": "rw"},
                {"allow": False, "type": "b", "major": 8, "access": "w"},
            ],
            "strict",
            {"/dev/block/8:1": "r", "/dev/block/9:1": "rw"},
        ),
        (
            [
                {"allow": True, "type": "b", "major": 8, "access": "rw"},
                {"allow": False, "type": "b", "major": 8, "minor": 1, "access": "w"},
            ],
            "strict",
            {"block-8": "rw"},  # more than the rules; these hold besides
        ),
        (
            [
                {"allow": True, "type": "c", "major": 5, "access": "rw"},
                {"allow": False, "type": "a", "access": "rwm"},
            ],
            "strict",
            {"char-5": None, "/dev/char/1:3": "rwm"},
        ),
    ],
)
def test_device_rules_are_properties(rules, policy, expected):
    found = from_rules(compile_devices({"linux": {"resources": {"devices": rules}}}))
    assert found[0][2] == policy
    listed = dict(found[1][2])
    assert {name: listed.get(name) for name in expected} == expected
    assert bool(listed) == bool(expected)


PREFIX = "org.systemd.property."


def test_annotations_are_properties():
    found = from_annotations(
        {PREFIX + "CollectMode": "'inactive'", PREFIX + "TimeoutStopSec": "2", "other": "x"}
    )
    assert [one[:3] for one in found] == [
        ("CollectMode", "s", "inactive"),
        ("TimeoutStopUSec", "t", 2000000),
    ]
    plan = compiled(annotations={PREFIX + "CollectMode": "'inactive'"})
    assert properties(plan)["CollectMode"] == "inactive"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("X", "1"), ("A.b", "1"), ("Ünder", "1"), ("PIDs", "[1]"), ("Slice", "'x.slice'"),
        ("Delegate", "false"), ("After", "[]"), ("After", ""), ("After", "x"), ("After", "'x"),
        ("TimeoutStopSec", "true"), ("TimeoutStopSec", "'x'"), ("TimeoutStopSec", "-1"),
    ],
)  # fmt: skip
def test_annotations_that_are_refused(name, text):
    with pytest.raises(InvalidConfig) as caught:
        from_annotations({PREFIX + name: text})
    assert caught.value.pointer == f"/annotations/{PREFIX}{name}"


@pytest.mark.parametrize(
    ("text", "signature", "value"),
    [
        ("true", "b", True),
        (" false ", "b", False),
        ("5", "i", 5),
        ("-5", "i", -5),
        ("0x10", "i", 16),
        ("uint64 18446744073709551615", "t", 2**64 - 1),
        ("byte 255", "y", 255),
        ("2.5", "d", 2.5),
        ("double 2", "d", 2.0),
        ("'it\\'s'", "s", "it's"),
        ('"x y"', "s", "x y"),
        ("objectpath '/a'", "o", "/a"),
        ("['a', 'b']", "as", ("a", "b")),
        ("[1, 2,]", "ai", (1, 2)),
        ("[uint32 1, 2]", "au", (1, 2)),
        ("@as []", "as", ()),
        ("@at [1]", "at", (1,)),
        ("@t 1", "t", 1),
        ("('a', true)", "(sb)", ("a", True)),
        ("[('a', 'b'), ('c', 'd')]", "a(ss)", (("a", "b"), ("c", "d"))),
    ],
)
def test_gvariants(text, signature, value):
    assert parse(text) == (signature, value)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "[]", "[1, 'a']", "['a'", "(1", "'a", "1 2", "byte 256", "uint32 -1", "@as 'x'",
        "@s 1", "@b 1", "2147483648", "'\\q'", "(['a'],)", "[" * 50 + "]" * 50, "@" * 50, "1.2.3",
    ],
)  # fmt: skip
def test_what_is_no_gvariant(text):
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_words():
    found = [
        ("Delegate", "b", True, 0, ""),
        ("TasksMax", "t", INFINITY, 0, ""),
        ("AllowedCPUs", "ay", b"\x03\x01", 0, ""),
        ("DeviceAllow", "a(ss)", (("char-*", "m"),), 0, ""),
        ("After", "as", ("a", "b"), 0, ""),
    ]
    step = Step("cgroup-scope", "", "x.scope", "a.slice", "", tuple(found), "")
    assert describe(step) == (
        "have systemd make x.scope in a.slice (Delegate=yes, TasksMax=infinity, "
        "AllowedCPUs=0b100000011, DeviceAllow=[char-*:m], After=[a b])"
    )


# --- the bus


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "cannot use"),
        ("tcp:host=x", "cannot use"),
        ("unix:path", "cannot use"),
        ("unix:path=/no/such/socket", "cannot connect"),
    ],
)
def test_addresses_that_lead_nowhere(address, words):
    with pytest.raises(BusError) as caught:
        Bus(address, 1)
    assert words in caught.value.words


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "no answer in time"),
        (b"", "closed the connection"),
        (b"REJECTED EXTERNAL\r\nERROR\r\n", "does not let this user in"),
        (b"DATA\r\nOK 123\r\n", "no answer in time"),
    ],
)
def test_a_bus_that_does_not_answer(tmp_path: Path, answer, words):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/bus")
        listener.listen()
        kept = []

        def serve() -> None:
            client = listener.accept()[0]
            if answer is not None:
                client.recv(100)
                client.sendall(answer)
            if answer == b"":
                client.close()
            kept.append(client)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(BusError) as caught:
            Bus(f"unix:path={tmp_path}/bus", 0.3)
        thread.join()
        assert words in caught.value.words
        for client in kept:
            client.close()


def test_without_the_library(monkeypatch):
    monkeypatch.delitem(sys.modules, "ocirun.cgroups.bus")
    monkeypatch.setitem(sys.modules, "jeepney", None)
    with pytest.raises(Unsupported) as caught:
        importlib.import_module("ocirun.cgroups.bus")
    assert ("jeepney" in caught.value.message, bool(caught.value.hint)) == (True, True)


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        ("t", INFINITY),
        ("ay", b""),
        ("s", "auto"),
        ("a(ss)", ()),
    ],
)
def test_a_property_without_limit(signature: str, value: object) -> None:
    """What systemd is told again when an update fails and there was nothing before."""
    told = ("Any", signature, 1, 0, "/linux/resources")
    assert without_limit(told)[2] == value
    scopes._variant(signature, value)  # of a form that can be sent
