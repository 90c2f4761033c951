"""The systemd driver: which scope a container gets, and where its cgroups are; pure.

systemd owns the cgroups of its machine and makes, on request, a scope: a unit for
processes that somebody else has started. This module decides its name, slice and
properties; `scopes` asks for it. Only `manager` looks at the machine. Loaded with
--systemd-cgroup only. Sources: systemd.scope(5), systemd.slice(5),
org.freedesktop.systemd1(5); the form of cgroupsPath, slice:prefix:name, and the
defaults are runc's.
"""

import posix

from ocirun.cgroups.files import CallFailed, read
from ocirun.cgroups.mounts import Layout, own_paths
from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.cgroups.properties import Property

POINTER = "/linux/cgroupsPath"
_FORM = 'with systemd it is "slice:prefix:name", such as "system.slice:ocirun:web"'
_LONGEST_NAME = 255
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.\\-@")
# Controllers that systemd itself hands down to a scope with Delegate=yes.
_SYSTEMDS = ("cpu", "cpuacct", "io", "memory", "pids")


class Manager:
    """The systemd that makes the scopes: facts, read once.

    Attributes:
        user: it is a user's own, not the machine's.
        bus: address of the D-Bus on which it listens.
        cgroups: its own cgroup in each hierarchy, as /proc/PID/cgroup tells; "" is the root.
    """

    __slots__ = ("bus", "cgroups", "user")

    def __init__(self, user: bool, bus: str, cgroups: dict[str, str]) -> None:
        self.user = user
        self.bus = bus
        self.cgroups = cgroups


def manager() -> Manager:
    """The manager that this process may ask: the machine's for root, else the user's."""
    uid = _user()
    if uid == 0:
        bus = _variable(b"DBUS_SYSTEM_BUS_ADDRESS") or "unix:path=/run/dbus/system_bus_socket"
        return Manager(False, bus, _cgroups("1", "/init.scope"))
    unit = f"/user@{uid}.service"
    bus = _variable(b"DBUS_SESSION_BUS_ADDRESS")
    if not bus:
        bus = f"unix:path={_variable(b'XDG_RUNTIME_DIR') or f'/run/user/{uid}'}/bus"
    before, found, _ = (_cgroups("self", "").get("", "") + "/").partition(unit + "/")
    own = before if found else f"/user.slice/user-{uid}.slice"
    return Manager(True, bus, {"": own + unit})


def _user() -> int:
    """The user id, outside of user namespaces, that this process has."""
    uid = posix.geteuid()
    try:
        for line in read("/proc/self/uid_map").splitlines():
            inside, outside, count = map(int, line.split())
            if 0 <= uid - inside < count:
                return outside + uid - inside
    except CallFailed:
        pass
    return uid


def _variable(name: bytes) -> str:
    return posix.environ.get(name, b"").decode("utf-8", "surrogateescape")


def _cgroups(pid: str, suffix: str) -> dict[str, str]:
    try:
        paths = own_paths(read(f"/proc/{pid}/cgroup"))
    except CallFailed:
        return {}
    return {key: path.removesuffix(suffix).rstrip("/") for key, path in paths.items()}


class Place:
    """Where a scope is.

    Attributes:
        unit, slice: names of the scope and of the slice that it is in.
        base: the manager's cgroup in the hierarchy by which systemd knows its processes.
        own: the scope's cgroup there, as /proc/PID/cgroup tells.
        paths: the container's directory in each hierarchy, as CgroupPlan.paths.

    Raises InvalidConfig, Unsupported.
    """

    def __init__(self, asked: str, container_id: str, where: Layout, manager: Manager) -> None:
        tracked = "" if where.mode == "v2" else "name=systemd"
        pointer = POINTER if asked else ""
        if tracked not in where.mounts:
            raise Unsupported(
                "systemd has no cgroup hierarchy here",
                pointer=pointer,
                hint="leave out --systemd-cgroup",
            )
        if manager.user and tracked:
            raise Unsupported(
                "the systemd of a user cannot make cgroups of version 1",
                pointer=pointer,
                hint="leave out --systemd-cgroup, or use a machine with cgroup v2 alone",
            )
        default = "user.slice" if manager.user else "system.slice"
        self.slice, self.unit = _names(asked, container_id, default)
        inner = f"{slice_path(self.slice)}/{self.unit}"
        self.base = manager.cgroups.get(tracked, "")
        self.own = self.base + inner
        self.paths = {
            key: point + manager.cgroups.get(key, "") + inner for key, point in where.mounts.items()
        }


def _names(asked: str, container_id: str, default_slice: str) -> tuple[str, str]:
    """(slice, unit). Raises InvalidConfig, Unsupported."""
    parts = asked.split(":") if asked else ["", "ocirun", container_id]
    if len(parts) != 3:
        raise InvalidConfig(f'cgroupsPath "{asked}" names no scope', pointer=POINTER, hint=_FORM)
    slice_, prefix, name = parts
    if name.endswith(".slice"):
        raise Unsupported(
            "a container cannot be a slice, only a scope in one", pointer=POINTER, hint=_FORM
        )
    unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    if not name or not _NAME.issuperset(unit) or len(unit) > _LONGEST_NAME:
        raise InvalidConfig(
            f'"{unit}" is no name of a unit',
            pointer=POINTER if asked else "",
            hint="a unit's name has up to 255 letters, digits, and : - _ . \\ @; " + _FORM,
        )
    return slice_ or default_slice, unit


def slice_path(name: str) -> str:
    """The path of a slice: "a-b.slice" is in "a.slice" (systemd.slice(5)). Raises InvalidConfig."""
    stem = name.removesuffix(".slice")
    if name == "-.slice":
        return ""
    parts = stem.split("-")
    if stem == name or "" in parts or not _NAME.issuperset(name) or len(name) > _LONGEST_NAME:
        raise InvalidConfig(
            f'"{name}" is no name of a slice',
            pointer=POINTER,
            hint='a slice is "-.slice", or ends with ".slice" and has single dashes between '
            "the names of the slices that it is in",
        )
    return "".join(f"/{'-'.join(parts[:i])}.slice" for i in range(1, len(parts) + 1))


def preparations(where: Layout, place: Place, needed: tuple[str, ...], pointer: str) -> list[Step]:
    """What is still to do when the scope is there: hierarchies and controllers that systemd
    knows nothing of.
    """
    steps: list[Step] = []
    foreign = tuple(name for name in needed if name not in _SYSTEMDS)
    if foreign and "" in where.mounts:
        directory = where.mounts[""] + place.base
        for part in place.paths[""][len(directory) + 1 :].split("/"):
            steps.append(Step("cgroup-enable", pointer, directory, foreign, foreign))
            directory += "/" + part
    directories = dict.fromkeys(place.paths.values())
    return steps + [Step("cgroup-ensure", pointer, directory) for directory in directories]


def compile_scope(
    spec: "dict[str, Any]",
    place: Place,
    manager: Manager,
    container_id: str,
    settings: list[Step],
) -> Step:
    """The step "cgroup-scope": unit, slice, bus, properties, path of its cgroup.

    Args:
        spec, place, manager, container_id: what the scope is made for, where, by whom.
        settings: the writes that the limits became: each that systemd knows is told to it
            too, because it writes these files again whenever it pleases.

    A user's systemd can do nothing about devices, so it is not told of them. Raises
    InvalidConfig for an annotation that is no property.
    """
    from ocirun.cgroups.devices import compile_devices
    from ocirun.cgroups.properties import from_annotations, from_rules, from_settings

    pointer = POINTER if (spec.get("linux") or {}).get("cgroupsPath") else ""
    block = "BlockIO" if "name=systemd" in place.paths else "IO"
    found: list[Property] = [
        ("Description", "s", f"OCI container {container_id}", 0, ""),
        ("Slice", "s", place.slice, 0, pointer),
        ("Delegate", "b", True, 0, ""),
        ("DefaultDependencies", "b", False, 0, ""),
        ("CollectMode", "s", "inactive-or-failed", 236, ""),
        *((f"{name}Accounting", "b", True, 0, "") for name in ("CPU", "Memory", "Tasks", block)),
        *(() if manager.user else from_rules(compile_devices(spec))),
        *from_settings(settings),
        *from_annotations(spec.get("annotations") or {}),
    ]
    last = tuple({one[0]: one for one in found}.values())  # an annotation has the last word
    return Step("cgroup-scope", pointer, place.unit, place.slice, manager.bus, last, place.own)
