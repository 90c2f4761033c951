"""Mounts of a container that runs: `mounts add` and `mounts remove`. Pure.

A process joins the container's user namespace, and those that a new file system shows. It opens
and makes everything in a copy of the host's mount namespace, where the flags of the host's mounts
are locked for it as for the container's init, and takes that into the container's mount namespace.
"""

from ocirun.cgroups import CgroupPlan
from ocirun.errors import Unsupported
from ocirun.linux.clone import CLONE_NEWNS
from ocirun.linux.mount import MS_REC
from ocirun.plan.devices import DEFAULT_DEVICES
from ocirun.plan.exec import entrance, inside, joins
from ocirun.plan.host import Host
from ocirun.plan.mounts import compile_mounts
from ocirun.plan.namespaces import Namespaces
from ocirun.plan.options import MOUNT_ONLY, PROPAGATION
from ocirun.plan.rootfs import first_propagation
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import clean, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Spec = dict[str, Any]

_SHOWN = {
    "proc": "pid",
    "sysfs": "network",
    "mqueue": "ipc",
    "cgroup": "cgroup",
    "cgroup2": "cgroup",
}
"""File systems that show a namespace: it must be joined to make one."""
_AHEAD = ("bind", "mount")
_FOR_NEW_CONTAINERS = {
    **dict.fromkeys(MOUNT_ONLY, "it takes mount(2), which goes by a path of the container's"),
    "remount": "it changes a mount that is there",
    "tmpcopyup": "what it copies may change meanwhile",
}
_ENTER, _LEAVE = Step("enter", ""), Step("leave", "")
_BASIC = ("/", "/proc", "/sys", "/sys/fs/cgroup", "/dev")


def compile_added(
    spec: "Spec", host: Host, container_id: str, bundle: str, pid: int, cgroups: dict[str, str]
) -> Plan:
    """Compile the plan of a process that mounts in a container that runs.

    Args:
        spec: the container's config, with the new mounts in the place of its own.
        host: facts about the machine.
        container_id, bundle: of the container.
        pid: of its init.
        cgroups: its cgroups.

    Raises InvalidConfig, Unsupported.
    """
    spaces = _namespaces(spec)
    wanted = (spec.get("linux") or {}).get("rootfsPropagation") or ""
    for index, entry in enumerate(spec["mounts"]):
        _refuse(spec, index, entry)
    if host.rootless and "user" in spaces.new:
        from ocirun.plan.rootless import refuse_unmapped_owners

        refuse_unmapped_owners(spec)
    mounts = Plan(container_id, bundle)
    mounts.cgroup = CgroupPlan((), (), cgroups) if cgroups else None
    late, _ = compile_mounts(mounts, _propagated(spec, wanted), host, spaces)
    steps = [*mounts.child, *late]
    _refuse_host_views(steps)
    kinds = {_SHOWN.get(entry.get("type", ""), "") for entry in spec["mounts"]}
    plan = _entering(spec, container_id, bundle, pid, kinds)
    plan.unshare = CLONE_NEWNS
    plan.child.append(first_propagation(wanted))
    ahead = [index for index, step in enumerate(steps) if step.op in _AHEAD]
    entering = [_ENTER, inside(spec, bundle)]
    first = len(plan.child) + len(ahead) + len(entering)
    plan.child += [Step("ahead", steps[index].pointer, first + index) for index in ahead]
    plan.child += [*entering, *steps, _LEAVE]
    return plan


def compile_removed(spec: "Spec", container_id: str, bundle: str, pid: int) -> Plan:
    """Compile the plan of a process that unmounts in a container that runs.

    The mounts of `spec` are those to be removed, of which only the destinations count. They are
    unmounted in the reverse order, so that a list that has been added can be removed.
    Raises InvalidConfig, Unsupported.
    """
    own = dict(_own_places(spec))
    steps = []
    for index, entry in enumerate(spec["mounts"]):
        pointer = f"/mounts/{index}/destination"
        target = clean(entry["destination"])
        if target in own:
            raise Unsupported(
                f"{target} cannot be unmounted: it is {own[target]}",
                pointer=pointer,
            )
        # As it stands: what ".." leads to is known in the container alone.
        path = encode(entry["destination"], pointer)
        steps.append(Step("unmount", pointer, path, tuple(place.encode() for place in own)))
    plan = _entering(spec, container_id, bundle, pid, set())
    plan.child += [_ENTER, inside(spec, bundle), *reversed(steps), _LEAVE]
    return plan


def _namespaces(spec: "Spec") -> Namespaces:
    """What the container's namespaces are to its mounts; its cgroups are there already."""
    spaces = Namespaces()
    for index, entry in enumerate((spec.get("linux") or {}).get("namespaces") or ()):
        kinds = spaces.joined if entry.get("path") else spaces.new
        kinds[entry["type"]] = f"/linux/namespaces/{index}"
    spaces.awaited = spaces.cgroup_done = True
    return spaces


def _entering(spec: "Spec", container_id: str, bundle: str, pid: int, kinds: set[str]) -> Plan:
    """The plan of a process in the namespaces that it needs, with the mount namespace to come."""
    plan = Plan(container_id, bundle)
    for step in joins(spec, pid):
        if step.args[0] == "mount":
            plan.joins.append(Step("enter-later", step.pointer, *step.args))
        elif step.args[0] == "user" or step.args[0] in kinds:
            plan.joins.append(step)
    plan.child = entrance(plan, spec)
    plan.child.append(Step("session", ""))
    return plan


def _propagated(spec: "Spec", wanted: str) -> "Spec":
    """The spec with the root's propagation on its mounts, where it is recursive."""
    if not PROPAGATION.get(wanted, 0) & MS_REC:
        return spec
    mounts = []
    for entry in spec["mounts"]:
        words = entry.get("options") or []
        own = () if PROPAGATION.keys() & set(words) else (wanted,)
        mounts.append({**entry, "options": [*words, *own]})
    return {**spec, "mounts": mounts}


def _refuse(spec: "Spec", index: int, entry: "Spec") -> None:
    """Refuse what only a new container can have."""
    for place, word in enumerate(entry.get("options") or ()):
        if word in _FOR_NEW_CONTAINERS:
            raise Unsupported(
                f"a mount of a container that runs cannot have the option {word!r}",
                pointer=f"/mounts/{index}/options/{place}",
                hint=_FOR_NEW_CONTAINERS[word],
            )
    target = clean(entry["destination"])
    for path, what in _own_places(spec):
        if target == path or (what in _HIDDEN and path.startswith(target.rstrip("/") + "/")):
            raise Unsupported(
                f"nothing can be mounted on {target} of a container that runs: it would cover "
                f"{path}, which is {what}",
                pointer=f"/mounts/{index}/destination",
            )


_HIDDEN = ("a masked path", "a read-only path")


def _own_places(spec: "Spec") -> "list[tuple[str, str]]":
    """What `create` has put into the container beside config.json's mounts: (path, what it is)."""
    linux = spec.get("linux") or {}
    found = [(path, "one of the container's own file systems") for path in _BASIC]
    for name, what in zip(("maskedPaths", "readonlyPaths"), _HIDDEN, strict=True):
        found += [(clean(path), what) for path in linux.get(name) or ()]
    devices = [path.decode() for path, _, _ in DEFAULT_DEVICES]
    devices += [clean(entry["path"]) for entry in linux.get("devices") or ()]
    return found + [(path, "a device") for path in (*devices, "/dev/console", "/dev/pts")]


def _refuse_host_views(steps: list[Step]) -> None:
    """Refuse a view of v1 cgroups that is put together from the host's directories."""
    for step in steps:
        if step.op == "cgroup-view" and any(view[1] for view in step.args[2]):  # type: ignore[attr-defined]
            raise Unsupported(
                "a view of the cgroups can be added to a container with a cgroup namespace of "
                "its own alone",
                pointer=step.pointer + "/type",
            )
