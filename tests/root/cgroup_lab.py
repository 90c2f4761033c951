"""What the tests of cgroups share: a place for cgroups, and processes in them."""

import ctypes
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ocirun import cgroups
from ocirun.cgroups.files import write

# A folder of this test run alone, below the one that all tests may use.
TOP = f"/ocirun-test/cgroups-{os.getpid()}"


def device_rules(*rules: dict) -> dict:
    return {"devices": list(rules)}


def spec(path: str, resources: dict | None = None) -> dict:
    return {"linux": {"cgroupsPath": path, "resources": resources or {}}}


@contextmanager
def controllers_put_back(where: cgroups.Layout) -> Iterator[None]:
    """Afterwards the v2 root hands down no more controllers than before."""
    root = where.mounts[""]
    before = read(f"{root}/cgroup.subtree_control").split()
    try:
        yield
    finally:
        for directory in (root + os.path.dirname(TOP), root):
            try:
                for name in read(f"{directory}/cgroup.subtree_control").split():
                    if name not in before:
                        write(f"{directory}/cgroup.subtree_control", f"-{name}")
            except OSError:  # gone, or in use by others
                pass


@contextmanager
def place(name: str, where: cgroups.Layout) -> Iterator[str]:
    """A cgroupsPath for one test; afterwards none of its cgroups may be left."""
    path = f"{TOP}/{name}"
    yield path
    tops = [point + TOP for point in dict.fromkeys(where.mounts.values())]
    left = [top + "/" + name for top in tops if os.path.isdir(top + "/" + name)]
    for directory in tops:  # whatever the test did, the machine must be clean for the next one
        cgroups.kill({"": directory})
        cgroups.remove({"": directory})
        try:
            os.rmdir(os.path.dirname(directory))
        except OSError:  # in use by others, or never made
            pass
    assert not left, f"cgroups are left: {left}"


@contextmanager
def process(body: Callable[[], None], plan: cgroups.CgroupPlan | None = None) -> Iterator[int]:
    """A child that is in the cgroups of `plan` before it runs `body`; killed at the end."""
    ready, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.read(ready, 1)
            body()
            status = 0
        except OSError as error:
            status = error.errno or 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    try:
        if plan is not None:
            cgroups.attach(plan, pid)
        os.write(go, b"x")
        yield pid
    finally:
        os.close(ready)
        os.close(go)
        if not ended(pid):
            if plan is not None and "freezer" in plan.paths:
                # A test that failed in between must not hang: v1 frozen means not even killed.
                write(f"{plan.paths['freezer']}/freezer.state", "THAWED")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def sleep() -> None:
    time.sleep(60)


def ended(pid: int) -> bool:
    """Whether a child is gone, reaped or not; it stays as it is."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None and bool(
            os.waitpid(pid, 0)
        )
    except ChildProcessError:
        return True


def status_of(body: Callable[[], None], plan: cgroups.CgroupPlan) -> int:
    """Exit status of `body` in the cgroups of `plan`: 0, the errno of its OSError, or -signal."""
    with process(body, plan) as pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.005)


def read(file: str) -> str:
    with open(file) as stream:
        return stream.read().strip()


def in_v2_view(body: Callable[[], None]) -> None:
    """Run `body` in a process whose /sys/fs/cgroup is a pure v2 tree; its failure is ours."""
    libc = ctypes.CDLL(None, use_errno=True)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            private_recursive, new_mount_namespace = 0x44000, 0x20000
            assert libc.unshare(new_mount_namespace) == 0, os.strerror(ctypes.get_errno())
            assert libc.mount(b"none", b"/", None, private_recursive, None) == 0
            if cgroups.layout().mode != "v2":
                assert libc.mount(b"none", b"/sys/fs/cgroup", b"cgroup2", 0, None) == 0
            body()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-30000:])
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader) as stream:
        text = stream.read()
    assert os.waitpid(pid, 0)[1] == 0, text
