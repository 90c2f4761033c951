"""The compiler: (spec, host facts) -> Plan. Pure, and the same every time.

The order of the child's steps is the order in which they happen; it is decided
here and nowhere else.
"""

from ocirun.cgroups import compile_cgroup
from ocirun.plan.devices import compile_devices
from ocirun.plan.host import Host
from ocirun.plan.mounts import compile_mounts
from ocirun.plan.namespaces import Namespaces, await_cgroup, compile_namespaces, first_ids
from ocirun.plan.process import compile_hooks, compile_process
from ocirun.plan.rootfs import compile_paths, compile_pivot, compile_root
from ocirun.plan.step import Plan, Step
from ocirun.plan.sysctl import compile_sysctl
from ocirun.plan.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def compile_plan(
    spec: "dict[str, Any]",
    host: Host,
    container_id: str,
    bundle: str,
    *,
    keyring: bool = True,
    pivot: bool = True,
    notify: str = "",
) -> Plan:
    """Compile the plan of a container.

    Args:
        spec: config.json, valid (`spec.load`).
        host: facts about the machine.
        container_id: the container's id.
        bundle: absolute path of the bundle.
        keyring: give the container a session keyring of its own.
        pivot: use pivot_root(2); False where the host's root is a ramfs.
        notify: folder with the container's socket for sd_notify(3), or "".

    Raises:
        InvalidConfig, Unsupported: with the JSON pointer of what asked for it.
    """
    plan = Plan(container_id, bundle)
    spaces = compile_namespaces(plan, spec)
    compile_hooks(plan, spec)
    _outside(plan, spec, host, spaces)
    if host.rootless:
        from ocirun.plan.rootless import compile_rootless

        compile_rootless(plan, spec, host, spaces)
    elif host.managed and host.layout is not None:
        plan.cgroup = compile_cgroup(
            spec, host.layout, container_id, manager=host.manager, euid=host.euid
        )
    steps = plan.child
    if spaces.private("user"):
        # Nothing works before the mappings are written and the process is root in there.
        steps.append(Step("await", ""))
        spaces.awaited = True
        pointer = spaces.new.get("user") or spaces.joined["user"]
        steps.append(Step("become-root", pointer, *first_ids(spec, spaces)))
    else:
        steps.append(Step("undumpable", ""))
    steps.append(Step("session", ""))
    if keyring:
        steps.append(Step("keyring", "", b"_ses." + container_id.encode()))
    _names(plan, spec)
    if "network" in spaces.new:
        steps.append(Step("loopback", spaces.new["network"]))
    compile_root(plan, spec, host, spaces)
    late, again = compile_mounts(plan, spec, host, spaces)
    if notify:
        from ocirun.plan.notify import VARIABLE, mount_of

        steps.append(mount_of(notify))
    await_cgroup(plan, spaces)
    compile_devices(plan, spec, spaces)
    _terminal(plan, spec)
    cwd = spec["process"]["cwd"]
    if cwd != "/":
        steps.append(Step("make-directory", "/process/cwd", encode(cwd, "/process/cwd")))
    compile_paths(plan, spec, host)
    if any(plan.hooks.get(name) for name in ("prestart", "createRuntime", "createContainer")):
        steps.append(Step("hooks", "/hooks"))
    compile_sysctl(plan, spec, spaces)
    steps.extend(late)
    compile_pivot(plan, spec, spaces, pivot, again)
    if spaces.private("user"):
        # Not earlier: it makes /proc/self/fd root's, and this process is not that root.
        steps.append(Step("undumpable", ""))
    compile_process(plan, spec, host, spaces)
    if (spec.get("linux") or {}).get("seccomp"):
        from ocirun.plan.seccomp import compile_seccomp

        compile_seccomp(plan, spec, host, spaces)
    if notify:
        plan.env.append(VARIABLE)
    return plan


def _outside(plan: Plan, spec: "dict[str, Any]", host: Host, spaces: Namespaces) -> None:
    """What the parent does outside for few containers."""
    linux = spec.get("linux") or {}
    if linux.get("netDevices"):
        from ocirun.plan.netdevices import compile_net_devices

        compile_net_devices(plan, spec, spaces)
    if linux.get("intelRdt") is not None:
        from ocirun.plan.resctrl import compile_resctrl

        compile_resctrl(plan, spec, host)


def _names(plan: Plan, spec: "dict[str, Any]") -> None:
    for name, op in (("hostname", "hostname"), ("domainname", "domainname")):
        if spec.get(name):
            plan.child.append(Step(op, "/" + name, encode(spec[name], "/" + name)))


def _terminal(plan: Plan, spec: "dict[str, Any]") -> None:
    process = spec["process"]
    if not process.get("terminal"):
        return
    plan.terminal = True
    size = process.get("consoleSize")
    if size:
        plan.size = (size["height"], size["width"])
    plan.child.append(Step("console", "/process/terminal", plan.size))
