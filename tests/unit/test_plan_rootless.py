"""Plans for a caller who is not root: who maps the ids, which cgroups there are, what is refused."""

from typing import Any

import pytest

from ocirun.cgroups import Layout
from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.compile import compile_plan
from ocirun.plan.host import Host
from ocirun.plan.step import Plan
from ocirun.plan.wire import decode, encode
from ocirun.spec.default import default_spec

ROOT = "/sys/fs/cgroup"
V2 = Layout("v2", {"": ROOT}, {"": "/user.slice/me/run.scope"}, ("cpu", "memory", "pids"))
HYBRID = Layout(
    "hybrid",
    {"": f"{ROOT}/unified", "pids": f"{ROOT}/pids", "devices": f"{ROOT}/devices"},
    {"": "/me/run", "pids": "/", "devices": "/"},
    ("cpu",),
)


class User(Host):
    """A user with uid 1000 and gid 100, to whom the cgroup `mine` is delegated."""

    def __init__(self, layout: Layout, mine: str = "-", capabilities: int = 0) -> None:
        super().__init__(layout, 1000, capabilities, egid=100, rootless=True)
        self.mine = mine

    def may_make(self, cgroup: str, own: str, version: int) -> bool:
        return (cgroup + "/").startswith(self.mine + "/")

    def may_write(self, path: str, missing: bool = False) -> bool:
        return path.startswith(self.mine + "/")

    def controllers(self, cgroup: str) -> tuple[str, ...]:
        return ("memory", "pids") if self.layout is V2 else ("cpu",)


def spec(**linux: Any) -> dict[str, Any]:
    made: dict[str, Any] = default_spec(rootless=True)
    made["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 1000, "size": 1}]
    made["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100, "size": 1}]
    made["linux"].update(linux)
    return made


def plan(host: Host, made: dict[str, Any]) -> Plan:
    return compile_plan(made, host, "box", "/bundle")


RANGE = [
    {"containerID": 0, "hostID": 1000, "size": 1},
    {"containerID": 1, "hostID": 100000, "size": 65536},
]
OTHER = [{"containerID": 0, "hostID": 1001, "size": 1}]


@pytest.mark.parametrize(
    ("linux", "capabilities", "helpers", "deny"),
    [
        ({}, 0, (), True),
        ({"uidMappings": RANGE}, 0, ("uid",), True),
        ({"gidMappings": RANGE}, 0, ("gid",), False),
        ({"uidMappings": RANGE, "gidMappings": RANGE}, 0, ("uid", "gid"), False),
        ({"uidMappings": OTHER}, 0, ("uid",), True),
        ({"uidMappings": RANGE, "gidMappings": RANGE}, 1 << 6 | 1 << 7, (), False),
        ({"uidMappings": RANGE, "gidMappings": RANGE}, 1 << 7, ("gid",), False),
    ],
    ids=["own", "uids", "gids", "both", "another's", "privileged", "half"],
)
def test_who_writes_the_maps(
    linux: dict[str, Any], capabilities: int, helpers: tuple[str, ...], deny: bool
) -> None:
    made = decode(encode(plan(User(V2, capabilities=capabilities), spec(**linux))))
    assert (made.helpers, made.deny_setgroups) == (helpers, deny)


def test_first_ids() -> None:
    linux = {"uidMappings": [{"containerID": 7, "hostID": 1000, "size": 1}]}
    made = spec(**linux)
    made["process"]["user"]["uid"] = 7
    steps = plan(User(V2), made).child
    assert next(step.args for step in steps if step.op == "become-root") == (7, 0)


# The cgroup's path in the session, which is what is delegated.
SLICE = f"{ROOT}/user.slice/me"


@pytest.mark.parametrize(
    ("layout", "mine", "linux", "paths"),
    [
        (V2, "-", {}, None),
        (V2, SLICE, {}, {"": f"{SLICE}/box"}),
        (V2, SLICE, {"cgroupsPath": "/user.slice/me/x"}, {"": f"{SLICE}/x"}),
        (V2, SLICE, {"resources": {"pids": {"limit": 5}}}, {"": f"{SLICE}/box"}),
        (V2, "-", {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}, None),
        (V2, "-", {"resources": {"memory": {}, "pids": {}, "cpu": {}}}, None),
        (HYBRID, "-", {}, None),
        (HYBRID, f"{ROOT}/unified/me", {}, {"": f"{ROOT}/unified/me/run/box"}),
        (HYBRID, f"{ROOT}/pids", {}, {"pids": f"{ROOT}/pids/box"}),
        (HYBRID, f"{ROOT}/devices", {}, None),
    ],
)
def test_cgroups(
    layout: Layout, mine: str, linux: dict[str, Any], paths: dict[str, str] | None
) -> None:
    found = plan(User(layout, mine), spec(**linux)).cgroup
    assert (found and found.paths) == paths
    for step in found.steps if found else ():
        assert step.op != "cgroup-devices-bpf"
        assert str(step.args[0]).startswith(mine), f"{step} is above what is delegated"


def test_device_rules_are_told() -> None:
    rules = {"devices": [{"allow": False, "access": "rwm"}]}
    assert any("not enforced" in word for word in plan(User(V2), spec(resources=rules)).warnings)
    assert not plan(User(V2), spec()).warnings


@pytest.mark.parametrize(
    ("layout", "mine", "linux", "pointer"),
    [
        (V2, "-", {"resources": {"pids": {"limit": 5}}}, "/linux/resources/pids/limit"),
        (V2, "-", {"cgroupsPath": "/x"}, "/linux/cgroupsPath"),
        (V2, SLICE, {"cgroupsPath": "/x"}, "/linux/cgroupsPath"),
        (V2, SLICE, {"resources": {"cpu": {"shares": 5}}}, "/linux/resources/cpu/shares"),
        (
            HYBRID,
            f"{ROOT}/unified/me",
            {"resources": {"pids": {"limit": 5}}},
            "/linux/resources/pids/limit",
        ),
    ],
)
def test_limits_that_cannot_be_had(
    layout: Layout, mine: str, linux: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(Unsupported) as caught:
        plan(User(layout, mine), spec(**linux))
    assert caught.value.pointer == pointer
    assert "Delegate=yes" in caught.value.hint


def test_without_cgroups_there_are_no_limits() -> None:
    host = User(V2, SLICE)
    host.managed = False
    assert plan(host, spec(resources={"pids": {"limit": 5}})).cgroup is None


@pytest.mark.parametrize(
    ("option", "fine"),
    [("gid=0", True), ("uid=0", True), ("gid=1", False), ("uid=65536", False), ("mode=5", True)],
)
def test_owners_of_a_mount(option: str, fine: bool) -> None:
    made = spec()
    entry = {"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["ro", option]}
    made["mounts"].append(entry)
    if fine:
        plan(User(V2), made)
        return
    with pytest.raises(InvalidConfig) as caught:
        plan(User(V2), made)
    assert caught.value.pointer == "/mounts/7/options/1"


def test_the_hosts_sys_is_read_only_in_all_its_parts() -> None:
    """CVE-2023-25809."""
    steps = [step for step in plan(User(V2), spec()).child if step.op == "bind"]
    tree = next(step.args for step in steps if step.args[0] == b"/sys")
    assert tree[5] & 1, "MOUNT_ATTR_RDONLY of the tree"
    view = next(step.args for step in steps if step.args[0] == b"/sys/fs/cgroup")
    assert (view[1], view[5] & 1) == (ROOT.encode(), 1)


def test_own_cgroup_is_the_view() -> None:
    steps = [step for step in plan(User(V2, SLICE), spec()).child if step.op == "bind"]
    view = next(step.args for step in steps if step.args[0] == b"/sys/fs/cgroup")
    assert view[1] == f"{SLICE}/box".encode()
