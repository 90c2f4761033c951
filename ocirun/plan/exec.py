"""A further process in a container that runs: `exec`. Pure.

The process joins the namespaces of init, is put into the container's cgroups, and becomes
what config.md, "Process", says, by the same steps as init. Nothing of the root file system
is touched.
"""

from ocirun.errors import InvalidConfig
from ocirun.plan.host import Host
from ocirun.plan.namespaces import KINDS, Namespaces, first_ids
from ocirun.plan.process import compile_process
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import encode, join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.cgroups import CgroupPlan

_FILES = {"network": "net", "mount": "mnt"}


def compile_exec(
    spec: "dict[str, Any]",
    host: Host,
    container_id: str,
    bundle: str,
    pid: int,
    cgroup: "CgroupPlan | None",
    *,
    keyring: bool = True,
) -> Plan:
    """Compile the plan of a process that joins a container.

    Args:
        spec: the container's config, with the new process in the place of its own.
        host: facts about the machine.
        container_id, bundle: of the container.
        pid: of its init.
        cgroup: how the container's cgroups are joined; None: not at all.
        keyring: join the container's session keyring.

    Raises InvalidConfig, Unsupported.
    """
    plan = Plan(container_id, bundle)
    spaces = Namespaces()
    linux = spec.get("linux") or {}
    plan.joins = joins(spec, pid)
    for step in plan.joins:
        spaces.joined[str(step.args[0])] = step.pointer
    plan.cgroup = cgroup
    steps = plan.child
    steps += entrance(plan, spec)
    steps.append(Step("session", ""))
    if keyring:
        steps.append(Step("keyring", "", b"_ses." + container_id.encode()))
    steps.append(inside(spec, bundle))
    _terminal(plan, spec["process"])
    cwd = spec["process"]["cwd"]
    if not cwd.startswith("/"):
        raise InvalidConfig("the working directory must be absolute", pointer="/process/cwd")
    encode(cwd, "/process/cwd")
    compile_process(plan, spec, host, spaces)
    if linux.get("seccomp"):
        from ocirun.plan.seccomp import compile_seccomp

        compile_seccomp(plan, spec, host, spaces)
    _affinity(plan)
    return plan


def joins(spec: "dict[str, Any]", pid: int) -> list[Step]:
    """The steps that join the namespaces of a container's init."""
    found = []
    for index, entry in enumerate((spec.get("linux") or {}).get("namespaces") or ()):
        kind = entry["type"]
        path = f"/proc/{pid}/ns/{_FILES.get(kind, kind)}".encode()
        found.append(Step("setns", f"/linux/namespaces/{index}", kind, path))
    # The order of KINDS is that of creation: the user namespace first.
    order = list(KINDS)
    return sorted(found, key=lambda step: order.index(str(step.args[0])))


def entrance(plan: Plan, spec: "dict[str, Any]") -> list[Step]:
    """The first steps of a process that joins a container, by its `joins`."""
    steps = [Step("await", "")]
    user = next((step for step in plan.joins if step.args[0] == "user"), None)
    if user is not None:
        made = Namespaces()
        if (spec.get("linux") or {}).get("uidMappings"):
            made.new["user"] = user.pointer
        steps.append(Step("become-root", user.pointer, *first_ids(spec, made)))
    steps.append(Step("undumpable", ""))
    return steps


def inside(spec: "dict[str, Any]", bundle: str) -> Step:
    """The step into the container's root, after its mount namespace has been joined.

    It is the top of a namespace that was new. In one that the container has joined itself, init
    has entered it with chroot(2).
    """
    for index, entry in enumerate((spec.get("linux") or {}).get("namespaces") or ()):
        if entry["type"] == "mount" and entry.get("path"):
            rootfs = encode(join(bundle, spec["root"]["path"]), "/root/path")
            return Step("inside", f"/linux/namespaces/{index}", rootfs)
    return Step("inside", "")


def _terminal(plan: Plan, process: "dict[str, Any]") -> None:
    if not process.get("terminal"):
        return
    plan.terminal = True
    size = process.get("consoleSize")
    if size:
        plan.size = (size["height"], size["width"])
    plan.child.append(Step("terminal", "/process/terminal", plan.size))


def _affinity(plan: Plan) -> None:
    """The processors before and after it joins its cgroups (config.md, execCPUAffinity)."""
    for step in plan.exec:
        first = step.args[0] == "initial"
        place = 0 if first else 1 + [other.op for other in plan.child].index("await")
        plan.child.insert(place, step)
    plan.exec = []
