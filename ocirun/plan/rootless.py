"""What is different for a caller who is not root. Loaded only then; pure, but for Host's answers.

Belongs here: what a user cannot have is refused with the property that asks for it; who
writes the id mappings; which cgroups the user may make. Does not belong here: how a
mapping is written (`executor.subids`).

Sources: user_namespaces(7); cgroup-v2.rst, "Delegation".
"""

from ocirun.cgroups import CgroupPlan, Layout, compile_cgroup
from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.host import Host
from ocirun.plan.namespaces import Namespaces
from ocirun.plan.options import is_bind
from ocirun.plan.step import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN = 6, 7, 21
_DELEGATE = (
    "let systemd delegate one (`systemd-run --user --scope -p Delegate=yes ocirun ...`), "
    "or remove {}"
)


def compile_rootless(plan: Plan, spec: "dict[str, Any]", host: Host, spaces: Namespaces) -> None:
    """Set the mappings' writers and `cgroup` of the plan.

    Raises InvalidConfig, Unsupported for what the caller cannot have.
    """
    if not host.has(_CAP_SYS_ADMIN) and not spaces.private("user"):
        raise InvalidConfig(
            "a container of an ordinary user needs a user namespace",
            pointer="/linux/namespaces",
            hint="`ocirun spec --rootless` writes such a config; or run as root",
        )
    linux = spec.get("linux") or {}
    if "user" in spaces.new:
        _choose_writers(plan, linux, host)
        _refuse_groups(plan, spec)
        refuse_unmapped_owners(spec)
    if host.managed and host.layout is not None:
        plan.cgroup = _cgroups(plan, spec, host, host.layout)


def _choose_writers(plan: Plan, linux: "dict[str, Any]", host: Host) -> None:
    """A process may map its own id by itself (user_namespaces(7)); newuidmap(1) maps the rest."""
    helpers = []
    for name, own, capability in (
        ("uid", host.euid, _CAP_SETUID),
        ("gid", host.egid, _CAP_SETGID),
    ):
        entries = linux[name + "Mappings"]
        alone = len(entries) == 1 and (entries[0]["hostID"], entries[0]["size"]) == (own, 1)
        if not alone and not host.has(capability):
            helpers.append(name)
    plan.helpers = tuple(helpers)
    # Or else a group that takes rights away could be left.
    plan.deny_setgroups = "gid" not in helpers and not host.has(_CAP_SETGID)


def _refuse_groups(plan: Plan, spec: "dict[str, Any]") -> None:
    if plan.deny_setgroups and (spec["process"].get("user") or {}).get("additionalGids"):
        raise InvalidConfig(
            "a user who maps but the own group cannot set additional groups",
            pointer="/process/user/additionalGids",
            hint="map a range of groups, which newgidmap(1) does; or remove additionalGids",
        )


def refuse_unmapped_owners(spec: "dict[str, Any]") -> None:
    """Refuse a mount that would give its files to an id that is not mapped."""
    linux = spec["linux"]
    for index, entry in enumerate(spec.get("mounts") or ()):
        words = entry.get("options") or ()
        if is_bind(entry):
            continue
        for place, word in enumerate(words):
            name, _, value = word.partition("=")
            if name not in ("uid", "gid") or not value.isdigit():
                continue
            if not _is_mapped(linux[name + "Mappings"], int(value)):
                raise InvalidConfig(
                    f"the mount option {word} names an id that is not mapped",
                    pointer=f"/mounts/{index}/options/{place}",
                    hint=f"remove the option, or add the id to linux.{name}Mappings",
                )


def _is_mapped(entries: "list[dict[str, int]]", value: int) -> bool:
    return any(0 <= value - entry["containerID"] < entry["size"] for entry in entries)


def _cgroups(plan: Plan, spec: "dict[str, Any]", host: Host, layout: Layout) -> CgroupPlan | None:
    """The cgroups that the caller may make; None if there are none, and no limit needs one."""
    _warn_of_devices(plan, spec)
    if host.manager is not None:
        return _scope(plan, spec, host, layout)
    full = compile_cgroup(spec, layout, plan.id, euid=host.euid)
    limits = [step for step in full.steps if _is_limit(step)]
    usable = {
        key: layout.mounts[key]
        for key, path in full.paths.items()
        # Device rules of v1 and v2 both want privileges over the machine.
        if key != "devices" and host.may_make(path, _own(layout, key), version=1 if key else 2)
    }
    linux = spec.get("linux") or {}
    if not usable:
        if limits:
            raise Unsupported(
                "limits need a cgroup, and this user may not make one",
                pointer=limits[0].pointer,
                hint=_DELEGATE.format("linux.resources"),
            )
        if linux.get("cgroupsPath"):
            raise Unsupported(
                "this user may not make a cgroup there",
                pointer="/linux/cgroupsPath",
                hint=_DELEGATE.format("linux.cgroupsPath"),
            )
        return None
    own = {key: layout.own[key] for key in usable}
    offered = host.controllers(full.paths[""]) if "" in usable else ()
    part = Layout(layout.mode, usable, own, offered)
    try:
        found = compile_cgroup(_without_devices(spec), part, plan.id, euid=host.euid)
    except Unsupported as error:  # `full` was possible, so it is for want of a hierarchy
        raise Unsupported(
            "the controller for this limit is not delegated to the user",
            pointer=error.pointer,
            hint=_DELEGATE.format("the limit"),
        ) from None
    steps = tuple(step for step in found.steps if _is_allowed(step, host))
    return CgroupPlan(steps, found.join, found.paths)


def _scope(plan: Plan, spec: "dict[str, Any]", host: Host, layout: Layout) -> CgroupPlan:
    """What systemd makes for the user: it knows who may have what."""
    asked = _without_devices(spec)
    found = compile_cgroup(asked, layout, plan.id, manager=host.manager, euid=host.euid)
    steps = tuple(step for step in found.steps if step.op != "cgroup-devices-bpf")
    return CgroupPlan(steps, found.join, found.paths, found.scope)


def _warn_of_devices(plan: Plan, spec: "dict[str, Any]") -> None:
    if ((spec.get("linux") or {}).get("resources") or {}).get("devices"):
        plan.warnings.append(
            "linux.resources.devices is not enforced: a user cannot do that, nor make device "
            "nodes; the container has those of the host that config.json names"
        )


def _is_limit(step: Step) -> bool:
    name = str(step.args[0]).rpartition("/")[2]
    return step.op in ("cgroup-write", "cgroup-check-usage") and not name.startswith("devices.")


def _is_allowed(step: Step, host: Host) -> bool:
    """Controllers are handed down by whoever owns the cgroup; above the user's, it was done."""
    if step.op == "cgroup-enable":
        return host.may_write(f"{step.args[0]}/cgroup.subtree_control", missing=True)
    return step.op != "cgroup-devices-bpf"


def _without_devices(spec: "dict[str, Any]") -> "dict[str, Any]":
    linux = dict(spec.get("linux") or {})
    resources = linux.get("resources") or {}
    linux["resources"] = {key: value for key, value in resources.items() if key != "devices"}
    return {**spec, "linux": linux}


def _own(layout: Layout, key: str) -> str:
    return layout.mounts[key].rstrip("/") + layout.own[key].rstrip("/")
