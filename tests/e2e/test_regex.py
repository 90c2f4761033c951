"""kill --regex and delete --regex: for all containers whose ids match, as crun has it."""

from collections.abc import Callable

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime


@pytest.fixture
def three(runtime: Runtime, make_bundle: Callable[..., Bundle]) -> list[str]:
    """The ids of three created containers: ...-a, ...-b, ...-bb."""
    ids = []
    for end in ("a", "b", "bb"):
        bundle = make_bundle().sleeper()
        bundle.id += f"-{end}"
        bundle.set("/linux/cgroupsPath", f"/ocirun-test/{bundle.id}")
        runtime.create(bundle).ok()
        ids.append(bundle.id)
    return ids


@pytest.mark.contract("`kill --regex`, `delete --regex`")
@pytest.mark.only("ocirun")
@pytest.mark.parametrize("pattern", ["b+$", "[-]b", "^e2e.*-bb?$"])
def test_kill_and_delete(runtime: Runtime, three: list[str], pattern: str) -> None:
    runtime.call("kill", "--regex", pattern, "KILL").ok()
    for one in three[1:]:
        runtime.wait_status(one, "stopped")
    assert runtime.status(three[0]) == "created"
    runtime.call("delete", "--regex", pattern).ok()
    assert runtime.containers() == three[:1]


@pytest.mark.only("ocirun")
def test_one_that_fails_does_not_stop_the_others(runtime: Runtime, three: list[str]) -> None:
    runtime.kill(three[2]).ok()
    runtime.wait_status(three[2], "stopped")
    result = runtime.call("delete", "-r", ".").failed("that is not stopped")
    assert result.err.count("that is not stopped") == 2
    assert runtime.containers() == three[:2]
    runtime.call("delete", "--regex", "--force", ".").ok()
    assert runtime.containers() == []


@pytest.mark.only("ocirun")
def test_nothing_matches(runtime: Runtime, three: list[str]) -> None:
    runtime.call("kill", "--regex", "nobody", "KILL").ok()
    assert [runtime.status(one) for one in three] == ["created"] * 3


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("command", ["kill", "delete"])
def test_no_pattern(runtime: Runtime, command: str) -> None:
    runtime.call(command, "--regex", "a(").failed("regular expression")
