"""Which cgroup hierarchies there are, and whether the caller can make cgroups in them."""

import os
from collections.abc import Iterator

from ocirun.cgroups import CgroupPlan, Layout, apply, compile_cgroup, layout, undo
from ocirun.cgroups.perform import open_doors
from ocirun.doctor.finding import Finding, attempt, read_file
from ocirun.errors import OcirunError
from ocirun.linux.clone import clone3
from ocirun.state.process import in_user_namespace

_WANTED = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")
_V1_NAMES = {"io": "blkio"}
_AREA = "cgroups"


def findings() -> Iterator[Finding]:
    """All of them."""
    where = layout()
    if where.mode == "none":
        mend = "mount -t cgroup2 none /sys/fs/cgroup"
        yield Finding(_AREA, "layout", False, "no hierarchy is mounted", mend)
        return
    points = dict.fromkeys(where.mounts.values())
    yield Finding(_AREA, "layout", True, f"{where.mode}: {', '.join(points)}")
    plan, reason = _compile(where)
    if not reason and plan is not None:
        reason = attempt(lambda: _make(plan))
    delegate = "a delegated cgroup: systemd-run --user --scope -p Delegate=yes COMMAND"
    mend = "" if not reason else delegate if os.geteuid() else "remount the hierarchies writable"
    detail = reason or "a cgroup can be made for a container"
    needed = os.geteuid() == 0 and not in_user_namespace()  # others do without (docs/rootless.md)
    yield Finding(_AREA, "making one", not reason, detail, mend, needed)
    if plan is not None and "" in plan.paths and not reason:
        reason = attempt(lambda: _born_inside(plan))
        detail = reason or "a process can be born in its cgroup"
        mend = "Linux 5.7" if reason else ""
        yield Finding(_AREA, "CLONE_INTO_CGROUP", not reason, detail, mend)
    yield from _controllers(where)


def _compile(where: Layout) -> tuple[CgroupPlan | None, str]:
    try:
        plan = compile_cgroup({"linux": {}}, where, f"ocirun-doctor-{os.getpid()}")
        # Handing controllers down would stay when the cgroup is gone.
        plan.steps = tuple(step for step in plan.steps if step.op != "cgroup-enable")
        return plan, ""
    except OcirunError as error:
        return None, error.message


def _make(plan: CgroupPlan) -> None:
    try:
        made = apply(plan)
    except OcirunError as error:
        raise OSError(error.errno, error.message, error.path) from None
    undo(made)


def _born_inside(plan: CgroupPlan) -> None:
    made = apply(plan)
    try:
        doors = open_doors(plan)
        pid = clone3(0, doors.into)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        doors.close()
    finally:
        undo(made)


def _controllers(where: Layout) -> Iterator[Finding]:
    if os.geteuid() != 0 and "" in where.mounts:
        offered = read_file(where.mounts[""] + where.own.get("", "") + "/cgroup.controllers")
        found = set(offered.split())
        mend = "systemctl edit user@.service, with [Service] Delegate=cpu cpuset io memory pids"
    else:
        found = set(where.controllers) | set(where.mounts)
        mend = "boot with cgroup_enable={name}, or a kernel with it"
    for name in _WANTED:
        version = "v2" if name in where.controllers else "v1"
        good = name in found or _V1_NAMES.get(name) in found
        detail = f"there ({version})" if good else "not there: limits of it are refused"
        yield Finding(
            _AREA, f"controller {name}", good, detail, "" if good else mend.format(name=name)
        )
