"""doctor: what it finds is so, and it leaves nothing."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from lib.runtime import Runtime
from lib.terminal import Terminal
from lib.user import User

pytestmark = pytest.mark.only("ocirun")


def findings(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{one['area']}: {one['name']}": one for one in document["findings"]}


def test_root_can_run_containers(runtime: Runtime) -> None:
    document = runtime.call("doctor", "--format", "json").ok().json
    assert document["canRun"] is True
    found = findings(document)
    for kind in ("pid", "mount", "network", "ipc", "uts", "user"):
        assert found[f"namespaces: {kind}"]["good"], kind
    assert found["mounts: overlay"]["good"]
    assert found["cgroups: making one"]["good"]
    assert found["programs: newuidmap"]["good"] == bool(shutil.which("newuidmap"))
    assert all(one["mend"] for one in found.values() if not one["good"])
    assert not any(one["mend"] for one in found.values() if one["good"])


def test_lines_in_a_pipe(runtime: Runtime) -> None:
    lines = runtime.call("doctor").ok().out.splitlines()
    assert "ok       namespaces: pid: can be made" in lines
    assert lines[-1].startswith("Containers can be run.")
    assert all(line.startswith(("ok ", "limited ", "missing ")) for line in lines[:-1])


def test_table_on_a_terminal(runtime: Runtime) -> None:
    with Terminal() as terminal:
        terminal.spawn(runtime.argv("doctor"))
        assert terminal.wait(60) == 0
        assert b"\x1b[" in terminal.seen
        assert b"namespaces" in terminal.seen


# (what a caller lacks, the finding that tells, whether containers can still be run)
LACKING = [
    (("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"), "caller: capabilities", False),
    (("setpriv", "--bounding-set=-mknod", "--inh-caps=-mknod"), "caller: capabilities", True),
    (
        ("unshare", "--user", "--map-root-user", "sh", "-c",
         "echo 0 >/proc/sys/user/max_pid_namespaces; exec \"$@\"", "sh"),
        "namespaces: pid",
        False,
    ),
    (
        ("unshare", "--user", "--map-root-user", "sh", "-c",
         "echo 0 >/proc/sys/user/max_user_namespaces; exec \"$@\"", "sh"),
        "namespaces: user",
        True,
    ),
    (("unshare", "--mount", "sh", "-c", "umount -a -t cgroup,cgroup2 || :; exec \"$@\"", "sh"),
     "cgroups: layout", True),
    (("env", "PATH=/nonexistent"), "programs: CRIU", True),
]  # fmt: skip


@pytest.mark.parametrize(("prefix", "name", "able"), LACKING)
def test_what_is_missing_is_found(
    runtime: Runtime, prefix: tuple[str, ...], name: str, able: bool
) -> None:
    if "umount" in str(prefix) and Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("systemd's own cgroups cannot be unmounted")
    result = runtime.call("doctor", "--format", "json", prefix=prefix)
    finding = findings(result.json)[name]
    assert not finding["good"]
    assert finding["mend"]
    assert (result.status, result.json["canRun"]) == ((0, True) if able else (1, False))


def test_a_switch_that_is_off_is_named(runtime: Runtime) -> None:
    """What mends it is the very command."""
    script = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh")
    found = findings(runtime.call("doctor", "--format", "json", prefix=prefix).json)
    assert found["namespaces: user"]["mend"] == "sysctl -w user.max_user_namespaces=15000"


def test_user(runtime: Runtime, user: User) -> None:
    document = runtime.call("doctor", "--format", "json").json
    found = findings(document)
    assert found["caller: user"]["detail"].endswith("containers are rootless")
    assert found["namespaces: user"]["needed"]
    assert document["canRun"] == all(one["good"] for one in document["findings"] if one["needed"])


def test_it_leaves_nothing(runtime: Runtime, tmp_path: Path) -> None:
    before = sorted(os.listdir("/tmp"))
    runtime.call("doctor").ok()
    assert sorted(os.listdir("/tmp")) == before
