"""The modules that each hot command may load (docs/architecture.md, "The import budget").

Each command runs in a fresh interpreter that is started as the launcher starts it.
What it has loaded at its end, beyond the bare interpreter's own modules, is pinned:
a module more costs every container about 0.1 ms, so it is added here on purpose or
not at all.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lib.seccomp import docker_profile

from ocirun.spec.default import default_spec
from ocirun.spec.fastjson import dumps

CHECKOUT = Path(__file__).parents[2]

RECORD = f"""
import sys
bare = set(sys.modules)
sys.path[:0] = [{str(CHECKOUT)!r}, {sysconfig.get_path("purelib")!r}]
import posix
me, end = posix.getpid(), posix._exit
def record_and_end(status):
    if posix.getpid() == me:  # not the child that becomes the container
        with open(posix.environ[b"RECORD"], "w") as file:
            file.write(" ".join(set(sys.modules) - bare))
    end(status)
posix._exit = record_and_end
from ocirun.cli.entry import main
main()
"""


def names(text: str) -> set[str]:
    return set(text.split())


ENTRY = names("""
    ocirun ocirun.errors ocirun.cli ocirun.cli.entry ocirun.cli.log ocirun.cli.options
    ocirun.cli.output ocirun.cli.quick ocirun.cli.table
""")
VERSION = ENTRY | names("ocirun.version ocirun.spec ocirun.spec.default")
API = ENTRY | names("""
    _json fcntl ocirun.api ocirun.cli.hot ocirun.runtime ocirun.runtime.settings
    ocirun.spec ocirun.spec.fastjson ocirun.state ocirun.state.process ocirun.state.store
""")
STATE = API | {"ocirun.runtime.state"}
START = API | names("_socket ocirun.executor ocirun.executor.protocol ocirun.runtime.start")
KILL = API | names("select ocirun.runtime.kill")
DELETE = API | names("""
    errno ocirun.cgroups ocirun.cgroups.files ocirun.cgroups.tree ocirun.runtime.delete
""")
CREATE = API | names("""
    _ctypes _socket errno gc
    ocirun.cgroups ocirun.cgroups.compile ocirun.cgroups.devices ocirun.cgroups.files
    ocirun.cgroups.mounts ocirun.cgroups.perform
    ocirun.executor ocirun.executor.child ocirun.executor.command ocirun.executor.copyup
    ocirun.executor.filesystem ocirun.executor.identity ocirun.executor.places
    ocirun.executor.parent ocirun.executor.paths ocirun.executor.protocol
    ocirun.linux ocirun.linux.clone ocirun.linux.ffi ocirun.linux.fs ocirun.linux.mount
    ocirun.linux.process
    ocirun.plan ocirun.plan.compile ocirun.plan.devices ocirun.plan.host ocirun.plan.mounts
    ocirun.plan.namespaces ocirun.plan.options ocirun.plan.process ocirun.plan.rootfs
    ocirun.plan.security ocirun.plan.step ocirun.plan.sysctl ocirun.plan.values
    ocirun.runtime.create ocirun.runtime.handover ocirun.spec.fastcheck ocirun.spec.load
    ocirun.spec.strict
""")
FILTERED = names("""
    _blake2 ocirun.plan.seccomp ocirun.seccomp ocirun.seccomp.cache ocirun.executor.confine
    ocirun.linux.seccomp ocirun.spec.strict_linux
""")
"""With a seccomp filter that has been compiled before."""
RUN = CREATE | DELETE | {"ocirun.runtime.run"}

EXEC = RUN - {"ocirun.cgroups.tree"} | {
    "ocirun.cgroups.below",
    "ocirun.plan.exec",
    "ocirun.runtime.exec",
}
PAUSE = API | names("errno ocirun.cgroups ocirun.cgroups.files ocirun.cgroups.tree")
UPDATE = API | names("""
    errno ocirun.cgroups ocirun.cgroups.change ocirun.cgroups.compile ocirun.cgroups.devices
    ocirun.cgroups.files ocirun.cgroups.mounts ocirun.cgroups.perform ocirun.cgroups.resources
    ocirun.cgroups.update ocirun.cgroups.wishes ocirun.cli.limits
    ocirun.plan ocirun.plan.step ocirun.runtime.update
    ocirun.spec.fastcheck ocirun.spec.load ocirun.spec.strict ocirun.spec.strict_linux
""")
VERSIONS = names("ocirun.cgroups.v1 ocirun.cgroups.v2")
"""One of them, or both, as the host has its cgroups."""
STATS = API | names("""
    select ocirun.cgroups ocirun.cgroups.files ocirun.cgroups.stats ocirun.runtime.events
""")

ON_SOME_HOSTS = names("ocirun.cgroups.devicebpf ocirun.linux.bpf")
"""Where the device rules of cgroups v2 are a BPF program."""


Budget = Callable[[str], set[str]]


@pytest.fixture
def loaded_by(tmp_path: Path) -> Budget:
    """Run a command line, which must succeed; return the modules that it loaded."""

    def run(line: str) -> set[str]:
        record = tmp_path / "record"
        record.unlink(missing_ok=True)
        root = str(tmp_path / "state")
        done = subprocess.run(
            [sys.executable, "-ISXutf8", "-c", RECORD, "--root", root, *line.split()],
            env={"RECORD": str(record)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=30,
        )
        assert done.returncode == 0
        return set(record.read_text().split())

    return run


def test_list(loaded_by: Budget) -> None:
    assert loaded_by("list") == STATE


def test_version(loaded_by: Budget, tmp_path: Path) -> None:
    record = tmp_path / "record"
    command = [sys.executable, "-ISXutf8", "-c", RECORD, "--version"]
    subprocess.run(command, env={"RECORD": str(record)}, check=True, stdout=subprocess.DEVNULL)
    assert set(record.read_text().split()) == VERSION


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    """A bundle with the default spec, whose program is busybox."""
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("needs busybox (Debian: busybox-static)")
    folder = tmp_path / "bundle"
    (folder / "rootfs/bin").mkdir(parents=True)
    shutil.copy(busybox, folder / "rootfs/bin/sh")
    spec: dict[str, Any] = default_spec()
    spec["process"].update(terminal=False, args=["sh", "-c", ":"])
    spec["linux"]["cgroupsPath"] = f"/ocirun-test/budget-{os.getpid()}"
    (folder / "config.json").write_text(dumps(spec))
    yield folder
    for cgroup in Path("/sys/fs/cgroup").glob("*/ocirun-test"):
        with suppress(OSError):  # another test's containers are in there
            cgroup.rmdir()


@pytest.mark.root
def test_the_life_of_a_container(loaded_by: Budget, bundle: Path) -> None:
    try:
        assert loaded_by(f"create -b {bundle} x") - ON_SOME_HOSTS == CREATE
        assert loaded_by("state x") == STATE
        assert loaded_by("kill x WINCH") == KILL
        assert loaded_by("start x") == START
        assert loaded_by("delete --force x") == DELETE
        assert loaded_by(f"run -b {bundle} x") - ON_SOME_HOSTS == RUN
    finally:
        loaded_by("delete --force x")


@pytest.mark.root
def test_what_is_done_to_a_container(loaded_by: Budget, bundle: Path) -> None:
    """Engines call these, some of them every few seconds."""
    try:
        config = bundle / "config.json"
        spec = json.loads(config.read_text())
        spec["process"]["args"] = ["sh", "-c", "while :; do sleep 1; done"]
        config.write_text(dumps(spec))
        shutil.copy(bundle / "rootfs/bin/sh", bundle / "rootfs/bin/sleep")
        loaded_by(f"create -b {bundle} x")
        loaded_by("start x")
        assert loaded_by("exec x sh -c :") == EXEC
        assert loaded_by("pause x") == PAUSE | {"ocirun.runtime.pause"}
        assert loaded_by("resume x") == PAUSE | {"ocirun.runtime.pause"}
        assert loaded_by("ps -f json x") == PAUSE | {"ocirun.runtime.ps"}
        assert loaded_by("update --pids-limit 50 x") - VERSIONS == UPDATE
        assert loaded_by("events --stats x") == STATS
    finally:
        loaded_by("delete --force x")


@pytest.mark.root
def test_a_filter_that_is_compiled_already(loaded_by: Budget, bundle: Path) -> None:
    """The second container with a profile loads neither libseccomp nor its binding nor ctypes."""
    config = bundle / "config.json"
    spec = json.loads(config.read_text())
    for no_new_privileges in (True, False):
        spec["process"]["noNewPrivileges"] = no_new_privileges
        spec["linux"]["seccomp"] = docker_profile()
        config.write_text(dumps(spec))
        if no_new_privileges:
            assert {"pyseccomp", "ctypes"} <= loaded_by(f"run -b {bundle} x")
        assert loaded_by(f"run -b {bundle} x") - ON_SOME_HOSTS == RUN | FILTERED


def test_python_modules_of_the_library_are_never_among_them() -> None:
    """Of the standard library only modules in C belong on the hot path."""
    allowed = {"_ctypes", "_json", "_socket", "errno", "fcntl", "gc", "select"}
    every = ENTRY | VERSION | STATE | START | KILL | DELETE | CREATE | RUN
    assert {name for name in every if not name.startswith("ocirun")} == allowed
    assert {name for name in FILTERED if not name.startswith("ocirun")} == {"_blake2"}
