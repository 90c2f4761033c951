"""Real cgroups in a pure v2 view of this machine: its own mount namespace, cgroup2 on top.

Controllers that v1 holds are missing in this view; most machines of that kind have
hugetlb there. Each test runs in a process of its own, see `in_v2_view`.
"""

import ctypes
import errno
import functools
import os

import pytest
from cgroup_lab import (
    TOP,
    controllers_put_back,
    ended,
    in_v2_view,
    place,
    process,
    read,
    sleep,
    spec,
    status_of,
    until,
)

from ocirun import cgroups
from ocirun.cgroups import tree
from ocirun.errors import StepFailed, Unsupported

pytestmark = pytest.mark.root

CLONE_INTO_CGROUP = 0x200000000
SIGCHLD = 17


def viewed(test):
    """Run the test in the view, with a place of its own; its controllers are put back."""

    @functools.wraps(test)
    def wrapper():
        def body() -> None:
            where = cgroups.layout()
            assert where.mode == "v2"
            with controllers_put_back(where), place(test.__name__, where) as path:
                test(where, path)

        in_v2_view(body)

    del wrapper.__wrapped__  # its arguments are no fixtures
    return wrapper


def made(where, path: str, resources: dict | None = None) -> cgroups.CgroupPlan:
    plan = cgroups.compile_cgroup(spec(path, resources), where, "c1")
    cgroups.apply(plan)
    return plan


def open_status(plan: cgroups.CgroupPlan, path: str, flags: int) -> int:
    return status_of(lambda: os.close(os.open(path, flags)), plan)


@viewed
def test_from_nothing_to_nothing(where, path):
    plan = made(where, path)
    assert list(plan.paths) == [""]
    with process(sleep, plan) as pid:
        assert read(f"/proc/{pid}/cgroup").splitlines()[-1] == f"0::{path}"
        assert cgroups.processes(plan.paths) == [pid]
        cgroups.kill(plan.paths)
        assert ended(pid)
    cgroups.remove(plan.paths)
    cgroups.remove(plan.paths)
    assert cgroups.processes(plan.paths) == []


@viewed
def test_a_process_is_born_inside(where, path):
    plan = made(where, path)
    doors = cgroups.open_doors(plan)
    assert doors.tasks == []
    arguments = (
        CLONE_INTO_CGROUP.to_bytes(8, "little")
        + bytes(24)
        + SIGCHLD.to_bytes(8, "little")
        + bytes(40)
        + doors.into.to_bytes(8, "little")
    )
    pid = ctypes.PyDLL(None).syscall(435, arguments, len(arguments))
    if pid == 0:
        sleep()
        os._exit(0)
    assert pid > 0
    assert cgroups.processes(plan.paths) == [pid]
    doors.close()
    cgroups.kill(plan.paths)
    os.waitpid(pid, 0)
    cgroups.remove(plan.paths)


DENY = {"allow": False, "access": "rwm"}
KMSG = {"type": "c", "major": 1, "minor": 11, "allow": True}


@pytest.mark.skipif(not os.path.exists("/dev/kmsg"), reason="needs /dev/kmsg")
@viewed
def test_the_device_program_holds(where, path):
    for rules, read_status, write_status in (
        ([], errno.EPERM, errno.EPERM),
        ([DENY], errno.EPERM, errno.EPERM),
        ([DENY, {**KMSG, "access": "r"}], 0, errno.EPERM),
        ([DENY, KMSG, {**KMSG, "access": "r", "allow": False}], errno.EPERM, 0),
        ([{"allow": True}, {**KMSG, "allow": False}], errno.EPERM, errno.EPERM),
        ([{"allow": True}], 0, 0),
    ):
        plan = made(where, path, {"devices": rules})
        assert open_status(plan, "/dev/null", os.O_RDWR) == 0
        assert open_status(plan, "/dev/urandom", os.O_RDONLY) == 0
        assert open_status(plan, "/dev/kmsg", os.O_RDONLY) == read_status
        assert open_status(plan, "/dev/kmsg", os.O_WRONLY) == write_status
        cgroups.remove(plan.paths)


@pytest.mark.skipif(not os.path.exists("/dev/kmsg"), reason="needs /dev/kmsg")
@viewed
def test_the_program_of_an_earlier_container_goes(where, path):
    plan = made(where, path, {"devices": [DENY]})
    assert open_status(plan, "/dev/kmsg", os.O_RDONLY) == errno.EPERM
    before = len(os.listdir("/proc/self/fd"))
    made(where, path, {"devices": [{"allow": True}]})
    assert open_status(plan, "/dev/kmsg", os.O_RDONLY) == 0
    assert len(os.listdir("/proc/self/fd")) == before
    assert programs(plan) == 1
    cgroups.remove(plan.paths)


def programs(plan: cgroups.CgroupPlan) -> int:
    from ocirun.linux import bpf

    directory = os.open(plan.paths[""], os.O_RDONLY)
    found = len(bpf.attached(directory, bpf.CGROUP_DEVICE))
    os.close(directory)
    return found


@pytest.mark.skipif(not os.path.exists("/dev/kmsg"), reason="needs /dev/kmsg")
@viewed
def test_an_update_replaces_the_device_program_in_one_step(where, path):
    from ocirun.linux import bpf

    plan = made(where, path, {"devices": [DENY, KMSG]})
    update = cgroups.compile_update({"devices": [DENY]}, where, plan.paths, "1.0.2")
    bpf.attach = bpf.detach = None  # this process is the test's own: only REPLACE is left
    cgroups.apply(update)
    assert open_status(plan, "/dev/kmsg", os.O_RDONLY) == errno.EPERM
    assert programs(plan) == 1
    cgroups.remove(plan.paths)


@pytest.mark.skipif(not os.path.exists("/dev/kmsg"), reason="needs /dev/kmsg")
@viewed
def test_device_programs_of_a_kernel_that_cannot_replace(where, path):
    from ocirun.linux import bpf

    def replace(*_: object) -> None:
        raise OSError(errno.EINVAL, "")

    plan = made(where, path, {"devices": [DENY, KMSG]})
    bpf.replace = replace
    for rules, status in (([DENY], errno.EPERM), ([DENY, KMSG], 0)):
        cgroups.apply(cgroups.compile_update({"devices": rules}, where, plan.paths, "1.0.2"))
        assert open_status(plan, "/dev/kmsg", os.O_RDONLY) == status
        assert programs(plan) == 1
    cgroups.remove(plan.paths)


@viewed
def test_the_cgroup_is_given_to_the_containers_user(where, path):
    config = spec(path)
    config["process"] = {"user": {"uid": 1234}}
    config["mounts"] = [{"destination": "/sys/fs/cgroup", "source": "cgroup", "options": ["rw"]}]
    config["linux"]["namespaces"] = [{"type": "cgroup"}]
    plan = cgroups.compile_cgroup(config, where, "c1")
    cgroups.apply(plan)
    directory = plan.paths[""]
    delegated = read("/sys/kernel/cgroup/delegate").split()
    owners = {name: os.stat(f"{directory}/{name}").st_uid for name in os.listdir(directory)}
    wanted = {name: 1234 if name in delegated else 0 for name in owners}
    assert (os.stat(directory).st_uid, owners) == (1234, wanted)

    def divide() -> None:
        os.setresuid(1234, 1234, 1234)
        os.mkdir(f"{directory}/inner")
        with open(f"{directory}/inner/cgroup.procs", "w") as file:
            file.write("0")
        with open(f"{directory}/cgroup.max.depth", "w") as file:  # not among the delegated
            file.write("3")

    assert status_of(divide, plan) == errno.EACCES
    assert os.path.isdir(f"{directory}/inner")
    cgroups.remove(plan.paths)


@viewed
def test_device_rules_without_the_capability(where, path):
    from ocirun.linux.process import capset

    def body() -> None:
        kept = (1 << 41) - 1 & ~(1 << 21 | 1 << 39 | 1 << 12)  # SYS_ADMIN, BPF, NET_ADMIN
        kept &= int(read("/proc/self/status").partition("CapEff:")[2].split()[0], 16)
        capset(kept, kept, 0)
        try:
            made(where, path, {"devices": [DENY]})
        except StepFailed as error:
            assert error.errno == errno.EPERM
            assert error.pointer == "/linux/resources/devices"
            assert error.syscall.startswith("bpf(BPF_PROG_LOAD")
            assert "CAP_BPF" in error.hint
            os._exit(42)

    with process(body) as pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert not os.path.exists(where.mounts[""] + TOP)


@viewed
def test_nested_cgroups_are_killed_and_removed(where, path):
    plan = made(where, path)
    inner_path = plan.paths[""] + "/in/ner"
    os.makedirs(inner_path)
    inner_plan = cgroups.joining({"": inner_path})
    with process(sleep, plan) as outer, process(sleep, inner_plan) as inner:
        assert cgroups.processes(plan.paths) == sorted([outer, inner])
        cgroups.kill(plan.paths)
        until(lambda: ended(outer) and ended(inner))
    cgroups.remove(plan.paths)


@viewed
def test_cgroup_kill_does_it_alone(where, path):
    plan = made(where, path)
    if not os.path.exists(plan.paths[""] + "/cgroup.kill"):
        cgroups.remove(plan.paths)
        return  # Linux before 5.14
    tree._signal = lambda *_: None  # this process is the test's own
    with process(sleep, plan) as pid:
        cgroups.kill(plan.paths)
        assert ended(pid)
    cgroups.remove(plan.paths)


@viewed
def test_a_frozen_container_is_killed(where, path):
    plan = made(where, path)
    with process(sleep, plan) as pid:
        cgroups.freeze(plan.paths)
        assert "frozen 1" in read(plan.paths[""] + "/cgroup.events")
        cgroups.thaw(plan.paths)
        until(lambda: "frozen 0" in read(plan.paths[""] + "/cgroup.events"))
        cgroups.freeze(plan.paths)
        with pytest.raises(StepFailed):
            made(where, path)
        cgroups.kill(plan.paths)
        assert ended(pid)
    cgroups.remove(plan.paths)


@viewed
def test_a_cgroup_in_use_is_refused(where, path):
    plan = made(where, path)
    with process(sleep, plan):
        with pytest.raises(StepFailed) as caught:
            made(where, path)
        assert "not empty" in caught.value.message
        cgroups.kill(plan.paths)
    cgroups.remove(plan.paths)


@viewed
def test_a_missing_controller_is_never_skipped(where, path):
    if "memory" in where.controllers:
        where.controllers = tuple(name for name in where.controllers if name != "memory")
    with pytest.raises(Unsupported) as caught:
        made(where, path, {"memory": {"limit": 64 << 20}})
    assert caught.value.pointer == "/linux/resources/memory/limit"
    assert not os.path.exists(where.mounts[""] + TOP)


HUGE = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}


@pytest.mark.skipif(
    "hugetlb" not in cgroups.layout().controllers, reason="needs hugetlb on the v2 hierarchy"
)
@viewed
def test_controllers_are_handed_down_to_the_container(where, path):
    plan = made(where, path + "/deep/er", HUGE)
    assert read(f"{plan.paths['']}/hugetlb.2MB.max") == str(4 << 20)
    cgroups.remove({"": where.mounts[""] + path})


@pytest.mark.skipif(
    "hugetlb" not in cgroups.layout().controllers, reason="needs hugetlb on the v2 hierarchy"
)
@viewed
def test_a_cgroup_with_processes_hands_nothing_down(where, path):
    parent = cgroups.compile_cgroup(spec(path), where, "c1")
    cgroups.apply(parent)
    with process(sleep, parent):
        with pytest.raises(StepFailed) as caught:
            made(where, path + "/child", HUGE)
        assert caught.value.errno == errno.EBUSY
        assert caught.value.pointer == "/linux/cgroupsPath"
        assert "processes of its own" in caught.value.hint
        assert os.path.isdir(parent.paths[""])
        assert not os.path.exists(parent.paths[""] + "/child")
        made(where, path + "/child")  # without a need for it, it is no failure
        cgroups.kill(parent.paths)
    cgroups.remove(parent.paths)
