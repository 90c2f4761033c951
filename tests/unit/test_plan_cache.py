"""Plans that are kept: as bytes, and with another id in them."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.cgroups.mounts import Layout
from ocirun.plan.compile import compile_plan
from ocirun.plan.host import Host
from ocirun.plan.step import Plan, Step
from ocirun.plan.wire import decode, encode
from ocirun.runtime.cache import Cache

BASE = json.loads((Path(__file__).parent.parent / "lib/base-config.json").read_text())
V1 = Layout(
    "v1", {"memory": "/cg/memory", "devices": "/cg/devices"}, {"memory": "/x", "devices": "/"}
)
V2 = Layout("v2", {"": "/sys/fs/cgroup"}, {"": "/user"}, ("memory", "pids"))
HOOKS = {"createRuntime": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 3}]}
ID = st.text("abcXYZ019_+-.", min_size=0, max_size=40).map("id".__add__)


def compiled(name: str, layout: Layout, **patch: object) -> Plan:
    spec = {**BASE, **patch}
    return compile_plan(spec, Host(layout), name, "/bundle")


def facts(plan: Plan) -> dict[str, object]:
    """All of a plan as values that can be compared."""
    found = {name: value for name, value in vars(plan).items() if name != "encoded"}
    cgroup = plan.cgroup
    found["cgroup"] = cgroup and (cgroup.steps, cgroup.join, cgroup.paths)
    found["hooks"] = {
        name: [[getattr(hook, slot) for slot in sorted(hook.__slots__)] for hook in hooks]
        for name, hooks in plan.hooks.items()
        if hooks
    }
    return found


@pytest.mark.parametrize("layout", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("patch", [{}, {"hooks": HOOKS}, {"hostname": "other"}])
def test_a_plan_survives_its_bytes(layout: Layout, patch: dict[str, object]) -> None:
    plan = compiled("web", layout, **patch)
    assert facts(decode(encode(plan))) == facts(plan)


@given(ID, ID)
def test_a_kept_plan_is_the_plan_of_the_id(first: str, second: str) -> None:
    cache = Cache()
    for layout in (V1, V2):
        for name in (first, second, second[::-1].replace(".", "_")):
            plan, data = cache.plan((layout,), name, lambda id, on=layout: compiled(id, on))
            assert facts(plan) == facts(compiled(name, layout))
            assert (data is None) == (len(name) < 8)
            assert data is None or facts(decode(data)) == facts(plan)


def test_a_plan_is_compiled_once() -> None:
    made: list[str] = []
    cache = Cache()

    def make(name: str) -> Plan:
        made.append(name)
        return compiled(name, V1)

    for number in range(100):
        cache.plan(("key",), f"container-{number:03d}", make)
    assert len(made) == 1
    cache.plan(("other key",), "container-100", make)
    assert len(made) == 2


def test_what_marshal_cannot_write_is_compiled_each_time() -> None:
    def make(name: str) -> Plan:
        plan = Plan(name, "/bundle")
        plan.child.append(Step("odd", "", object()))
        return plan

    plan, data = Cache().plan(("key",), "container-1", make)
    assert plan.id == "container-1"
    assert data is None


def test_a_changed_config_is_another_spec(tmp_path: Path) -> None:
    cache = Cache()
    config = tmp_path / "config.json"
    config.write_text(json.dumps(BASE))
    first = cache.load(str(tmp_path))
    assert cache.load(str(tmp_path))[1] is first[1]
    config.write_text(json.dumps({**BASE, "hostname": "other"}))
    assert cache.load(str(tmp_path))[1]["hostname"] == "other"


def test_the_cache_is_bounded() -> None:
    cache = Cache()
    for number in range(200):
        cache.plan((number,), "container-1", lambda name: compiled(name, V1))
    assert len(cache._plans) <= 64


def test_a_fork_reads_the_mount_table_for_itself() -> None:
    """The open file is shared after a fork, and with it what has been seen of its changes."""
    cache = Cache()
    host = cache.host(Host)
    assert cache.host(Host) is host
    table = cache._table
    child = os.fork()
    if child == 0:
        fresh = cache.host(Host)
        os._exit(0 if fresh is not host and cache.host(Host) is fresh else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert cache.host(Host) is host
    assert cache._table == table
    cache.close()
