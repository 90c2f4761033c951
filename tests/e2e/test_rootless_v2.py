"""A user's containers in a delegated cgroup of a pure v2 hierarchy. For the labs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.leaks import PREFIX
from lib.runtime import Runtime
from lib.user import UID, User, give

pytestmark = [pytest.mark.lab("v2"), pytest.mark.only("ocirun")]

ROOT = Path("/sys/fs/cgroup")
MB = 1 << 20


@pytest.fixture
def session(user: User, runtime: Runtime) -> Iterator[Path]:
    """The runtime runs in a cgroup, which is root's as that of a login is."""
    place = ROOT / f"ocirun-test/{PREFIX}user/session"
    place.mkdir(parents=True)
    for path in (ROOT, *list(place.parents)[1::-1]):
        (path / "cgroup.subtree_control").write_text("+memory +pids")
    enter = f'echo $$ > {place}/cgroup.procs && exec "$@"'
    runtime.prefix = ("sh", "-c", enter, "sh", *runtime.prefix)
    yield place
    runtime.clear()
    place.rmdir()
    place.parent.rmdir()


@pytest.fixture
def delegated(session: Path) -> Path:
    """The cgroup above is the user's, as systemd delegates one."""
    for place in (session.parent, session):
        files = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
        give([place, *(place / name for name in files)])
    return session.parent


def test_limits(runtime: Runtime, box: Bundle, delegated: Path) -> None:
    box.set("/linux/resources", {"memory": {"limit": 64 * MB}, "pids": {"limit": 20}})
    runtime.create(box.sleeper()).ok()
    made = delegated / box.id
    assert made.stat().st_uid == UID
    assert (made / "memory.max").read_text() == f"{64 * MB}\n"
    assert (made / "pids.max").read_text() == "20\n"
    assert (made / "cgroup.procs").read_text().split() == [str(runtime.state(box.id)["pid"])]
    runtime.delete(box.id, "--force").ok()
    assert not made.exists()


def test_out_of_memory(runtime: Runtime, box: Bundle, delegated: Path) -> None:
    box.set("/linux/resources", {"memory": {"limit": 16 * MB}})
    box.sh("exec tail -c 100000000 /dev/zero > /dev/null")
    assert runtime.run(box).status == 137


@pytest.mark.parametrize("fresh", [False, True], ids=["shared", "namespace"])
def test_view(runtime: Runtime, box: Bundle, delegated: Path, fresh: bool) -> None:
    """The container sees its own cgroup, and with a cgroup namespace nothing above it."""
    if fresh:
        box.namespace("cgroup")
    box.sh("cat /sys/fs/cgroup/cgroup.procs; cat /proc/self/cgroup")
    procs, *_, own = runtime.run(box).ok().out.splitlines()
    assert procs == "1"
    assert own == ("0::/" if fresh else f"0::/{(delegated / box.id).relative_to(ROOT)}")


def test_without_delegation(runtime: Runtime, box: Bundle, session: Path) -> None:
    box.sh("cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x 2>&1")
    said = runtime.run(box).out
    assert said.startswith(f"0::/{session.relative_to(ROOT)}\n")
    assert "Read-only" in said
    box.set("/linux/resources", {"pids": {"limit": 20}})
    runtime.run(box).failed("/linux/resources/pids/limit", "Delegate=yes")
