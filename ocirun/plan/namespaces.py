"""Namespaces: which are new, which are joined by path, and the id mappings.

linux.namespaces, linux.uidMappings, linux.gidMappings, linux.timeOffsets
(config-linux.md, "Namespaces", "User namespace mappings", "Offset for Time Namespace").
"""

from ocirun.errors import InvalidConfig, Unsupported
from ocirun.linux.clone import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KINDS = {
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "mount": CLONE_NEWNS,
    "network": CLONE_NEWNET,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}


class Namespaces:
    """What the other planners ask: is a kind new, joined, or the runtime's own?"""

    def __init__(self) -> None:
        self.new: dict[str, str] = {}  # kind -> pointer
        self.joined: dict[str, str] = {}
        self.awaited = False  # the child waits for the parent's work before the next step
        self.cgroup_done = False

    def private(self, kind: str) -> bool:
        """The container does not share the runtime's namespace of this kind."""
        return kind in self.new or kind in self.joined


def compile_namespaces(plan: Plan, spec: "dict[str, Any]") -> Namespaces:
    """Set `unshare`, `joins`, mappings and time offsets of the plan."""
    linux = spec.get("linux") or {}
    found = Namespaces()
    for index, entry in enumerate(linux.get("namespaces") or ()):
        kind, pointer = entry["type"], f"/linux/namespaces/{index}"
        path = entry.get("path") or ""
        if kind not in KINDS:
            raise InvalidConfig(f"unknown kind of namespace: {kind}", pointer=pointer + "/type")
        if path:
            found.joined[kind] = pointer
            plan.joins.append(
                Step("setns", pointer + "/path", kind, encode(path, pointer + "/path"))
            )
        else:
            found.new[kind] = pointer
    if not found.private("mount"):
        raise Unsupported(
            "a container without a mount namespace is not supported",
            pointer="/linux/namespaces",
            hint='its mounts would stay on the host: add {"type": "mount"} to linux.namespaces',
        )
    for kind in found.new:
        if kind not in ("cgroup", "time"):  # made later, by the process itself
            plan.unshare |= KINDS[kind]
    plan.own_time = "time" in found.new
    if "user" in found.new:
        plan.uid_map = _mapping(linux, "uidMappings")
        plan.gid_map = _mapping(linux, "gidMappings")
    _time_offsets(plan, linux, found)
    return found


def await_cgroup(plan: Plan, spaces: Namespaces) -> None:
    """Append the steps that must come before anything that depends on the container's cgroup.

    The parent makes the cgroups while the child mounts; this is where they meet.
    """
    if spaces.cgroup_done:
        return
    if not spaces.awaited:
        plan.child.append(Step("await", ""))
    if "cgroup" in spaces.new:
        plan.child.append(Step("unshare-cgroup", spaces.new["cgroup"]))
    spaces.awaited = spaces.cgroup_done = True


def own_namespace(plan: Plan, spaces: Namespaces, kind: str, what: str, pointer: str) -> None:
    """Have the parent see that a namespace joined by path is not the runtime's own.

    Only then can be told: the path may lead elsewhere by the time it is opened.
    """
    if kind in spaces.joined:
        file = {"network": "net", "mount": "mnt"}.get(kind, kind)
        path = next(step.args[1] for step in plan.joins if step.args[0] == kind)
        plan.parent.append(Step("own-namespace", pointer, kind, file, what, path))


def _mapping(linux: "dict[str, Any]", name: str) -> bytes:
    entries = linux.get(name)
    if not entries:
        raise InvalidConfig(
            f"a new user namespace needs linux.{name}",
            pointer="/linux",
            hint=f'add "{name}": [{{"containerID": 0, "hostID": 100000, "size": 65536}}]',
        )
    lines = [f"{e['containerID']} {e['hostID']} {e['size']}\n" for e in entries]
    return "".join(lines).encode()


def first_ids(spec: "dict[str, Any]", spaces: Namespaces) -> tuple[int, int]:
    """The user and group that set the container up: 0, or the first mapped one if 0 is not."""
    if "user" not in spaces.new:
        return 0, 0
    linux = spec["linux"]
    uid, gid = (
        min(entry["containerID"] for entry in linux[name] if entry["size"])
        for name in ("uidMappings", "gidMappings")
    )
    return uid, gid


def _time_offsets(plan: Plan, linux: "dict[str, Any]", found: Namespaces) -> None:
    offsets = linux.get("timeOffsets")
    if not offsets:
        return
    if "time" not in found.new:
        raise InvalidConfig(
            "linux.timeOffsets needs a new time namespace",
            pointer="/linux/timeOffsets",
            hint='add {"type": "time"} to linux.namespaces',
        )
    lines = [
        f"{clock} {value.get('secs', 0)} {value.get('nanosecs', 0)}\n"
        for clock, value in offsets.items()
    ]
    plan.time_offsets = "".join(lines).encode()
