"""The plans of `mounts add` and `mounts remove`: what is joined, done ahead, and inside."""

from typing import Any

import pytest

from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.adding import compile_added, compile_removed
from ocirun.plan.host import Host
from ocirun.plan.step import Plan
from ocirun.plan.wire import decode, encode
from ocirun.spec.default import default_spec

MAPS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def spec_of(mounts: list[dict[str, Any]], user: bool = False, **linux: Any) -> dict[str, Any]:
    spec = default_spec()
    spec["linux"] |= linux
    if user:
        spec["linux"]["namespaces"].append({"type": "user"})
        spec["linux"] |= {"uidMappings": MAPS, "gidMappings": MAPS}
    return {**spec, "mounts": mounts}


def added(*mounts: dict[str, Any], user: bool = False, **linux: Any) -> Plan:
    return compile_added(spec_of([*mounts], user, **linux), Host(), "box", "/b", 42, {})


def bind(*options: str) -> dict[str, Any]:
    return {"destination": "/mnt", "source": "data", "options": ["rbind", *options]}


def new(type: str) -> dict[str, Any]:
    return {"destination": "/mnt", "type": type}


JOINS = [
    (bind(), []),
    (new("tmpfs"), []),
    (new("proc"), ["pid"]),
    (new("sysfs"), ["network"]),
    (new("mqueue"), ["ipc"]),
]


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize(("mount", "kinds"), JOINS)
def test_only_what_is_needed_is_joined(mount: Any, kinds: list[str], user: bool) -> None:
    plan = added(mount, user=user)
    joined = [step.args[0] for step in plan.joins if step.op == "setns"]
    assert sorted(map(str, joined)) == sorted([*kinds, *(["user"] if user else [])])
    assert [s.args for s in plan.joins if s.op == "enter-later"] == [("mount", b"/proc/42/ns/mnt")]


def test_what_is_the_hosts_is_done_before_the_container_is_entered() -> None:
    plan = added(bind("ro"), new("tmpfs"), bind(), user=True)
    assert [step.op for step in plan.child] == [
        "await", "become-root", "undumpable", "session", "propagation",
        "ahead", "ahead", "ahead", "enter", "inside",
        "bind", "mount", "bind", "leave",
    ]  # fmt: skip
    ahead = [plan.child[step.args[0]] for step in plan.child if step.op == "ahead"]  # type: ignore[index]
    assert ahead == plan.child[10:13]
    assert [step.pointer for step in ahead] == ["/mounts/0", "/mounts/1", "/mounts/2"]
    assert ahead[0].args[1] == b"/b/data"


@pytest.mark.parametrize(
    ("wanted", "words", "flags"),
    [("", (), 0), ("rslave", (), 1), ("slave", (), 0), ("rshared", ("private",), 1)],
)
def test_propagation_of_the_root(wanted: str, words: tuple[str, ...], flags: int) -> None:
    plan = added(bind(*words), rootfsPropagation=wanted)
    step = next(step for step in plan.child if step.op == "bind")
    assert len(step.args[7]) == flags  # type: ignore[arg-type]


def test_removed_in_reverse() -> None:
    mounts = [{"destination": "/a"}, {"destination": "/a/../b"}]
    plan = compile_removed(spec_of(mounts), "box", "/b", 42)
    steps = [step for step in plan.child if step.op == "unmount"]
    assert [step.args[0] for step in steps] == [b"/a/../b", b"/a"]
    assert {b"/", b"/proc", b"/sys", b"/dev/null", b"/proc/kcore"} <= set(steps[0].args[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["/", "/.", "//proc/", "/sys/../dev", "/proc/kcore", "/proc/sys"])
def test_own_places(place: str) -> None:
    spec = spec_of([{"destination": place}])
    with pytest.raises(Unsupported, match="cannot be unmounted") as caught:
        compile_removed(spec, "box", "/b", 42)
    assert caught.value.pointer == "/mounts/0/destination"
    with pytest.raises((Unsupported, InvalidConfig)):
        added({"destination": place, "type": "tmpfs"})


def test_place_with_a_mask_below() -> None:
    with pytest.raises(Unsupported, match="cover /etc/keys, which is a masked path"):
        added({"destination": "/etc", "type": "tmpfs"}, maskedPaths=["/etc/keys"])
    added({"destination": "/et", "type": "tmpfs"}, maskedPaths=["/etc/keys"])


def test_it_can_be_sent() -> None:
    plan = added(bind(), user=True)
    again = decode(encode(plan))
    assert (again.child, again.joins, again.unshare) == (plan.child, plan.joins, plan.unshare)
