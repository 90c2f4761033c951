"""What docs/spec-coverage.md is made with sees what it should, and what is missing."""

import marshal

import pytest

from ocirun.plan.compile import compile_plan
from ocirun.plan.wire import encode
from ocirun.spec.validate import validate_config
from tests.lib import cases, properties
from tools import gen_coverage, observe


def seen(patch: cases.Patch, pointer: str) -> tuple[set[str], set[str], set[str]]:
    """(planned, executed, refused) of the property at `pointer` in a changed base config."""
    spec = cases.apply(gen_coverage.base(), patch)
    place = properties.split(pointer)
    found: tuple[observe.Places, ...] = ({}, {}, {})
    observe.readers(spec, found[0])
    observe.executors(spec, [place], found[1], found[2])
    row = properties.row_of(place)
    assert row is not None
    planned, executed, refused = (places.get(row, set()) for places in found)
    return planned, executed, refused


@pytest.mark.parametrize(
    ("patch", "pointer", "planner", "executor"),
    [
        ({"/process/user/umask": 7}, "/process/user/umask", "plan.process._identity", "executor.identity.umask"),
        ({"/hostname": "x"}, "/hostname", "plan.compile._names", "executor.identity.hostname"),
        ({"/process/oomScoreAdj": 7}, "/process/oomScoreAdj", "plan.process.compile_process", "executor.parent.Birth.prepare"),
        ({}, "/linux/namespaces/0/type", "plan.namespaces.compile_namespaces", "executor.parent.bear"),
        ({"/linux/resources/pids": {"limit": 7}}, "/linux/resources/pids/limit", "cgroups.wishes.pids", "cgroups.perform._write"),
        ({"/hooks/poststop": [{"path": "/x"}]}, "/hooks/poststop/0/path", "plan.process.compile_hooks", "runtime.delete.run_poststop"),
    ],
)  # fmt: skip
def test_places(patch: cases.Patch, pointer: str, planner: str, executor: str) -> None:
    planned, executed, refused = seen(patch, pointer)
    assert planner in planned
    assert executor in executed
    assert not refused


def test_a_property_without_effect_has_no_place() -> None:
    assert seen({"/process/user/username": "x"}, "/process/user/username") == (set(), set(), set())


@pytest.mark.parametrize(
    "pointer",
    [
        pytest.param(pointer, marks=pytest.mark.spec(pointer))
        for pointer in (*properties.OTHER_PLATFORMS, *properties.OF_WINDOWS)
    ],
)
def test_other_platforms_change_nothing_and_are_told(pointer: str) -> None:
    """They may be in a config that is for several platforms."""
    row = properties.split(pointer)
    config = cases.apply(gen_coverage.base(), {pointer: gen_coverage.foreign(row)})
    findings = validate_config(config)
    assert [f.message for f in findings if f.severity == "warning" and f.pointer == pointer] == [
        "has no effect on Linux"
    ]
    assert not [f for f in findings if f.severity == "error"]
    host = observe.host(observe.LAYOUTS[0])
    plans = [compile_plan(c, host, "web", "/bundle") for c in (config, gen_coverage.base())]
    # Not the bytes: marshal writes a value that it has seen before as a reference.
    assert marshal.loads(encode(plans[0])) == marshal.loads(encode(plans[1]))


def test_what_the_compiler_refuses_is_refused() -> None:
    patch = {"/mounts/-": {"destination": "/proc/fs", "type": "tmpfs"}}
    _, executed, refused = seen(patch, "/mounts/7/destination")
    assert not executed
    assert refused == {"plan.mounts._check_destination"}


@pytest.mark.parametrize(
    ("mark", "count"),
    [
        ("/process/args", 1),
        ("/process/args/*", 1),
        ("/process/rlimits/0/soft", 1),
        ("/hooks/*/*/path", 6),
        ("/linux/sysctl/*", 1),
        ("/process/argv", 0),
        ("/process/cwd/deeper", 0),
        ("", 0),
    ],
)
def test_marks(mark: str, count: int) -> None:
    assert len(properties.matching(mark)) == count


def test_every_operation_has_an_executor() -> None:
    for op in ("mount", "bind", "device", "umask", "console", "cgroup-write"):
        assert op in observe.tables()
    assert observe.users("uid_map")
    assert observe.users("no_such_field_of_a_plan") == ()
