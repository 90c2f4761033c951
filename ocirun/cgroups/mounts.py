"""Where the cgroup hierarchies of this machine are, and where this process is in them.

Belongs here: /proc/self/mountinfo and /proc/self/cgroup, read once, and facts for
those who mount cgroups inside a container. What to make below is `compile`'s.
Sources: proc(5), cgroups(7).
"""

import posix

from ocirun.cgroups.files import CallFailed, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    Mode = Literal["v1", "hybrid", "v2", "none"]

DEFAULT_ROOT = "/sys/fs/cgroup"


class Layout:
    """The hierarchies that this process can see.

    Attributes:
        mode: "v1" (no v2 mount), "hybrid" (v1 and v2), "v2" (v2 alone), "none".
        mounts: mount point of each v1 controller; "" is the v2 hierarchy; a named
            v1 hierarchy is "name=NAME". Controllers of one hierarchy share theirs.
        own: path of this process's own cgroup in each, from the mount's root, "/x/y".
        controllers: controllers that the v2 hierarchy offers; () without one.
    """

    __slots__ = ("controllers", "mode", "mounts", "own")

    def __init__(
        self,
        mode: "Mode",
        mounts: dict[str, str],
        own: dict[str, str],
        controllers: tuple[str, ...] = (),
    ) -> None:
        self.mode = mode
        self.mounts = mounts
        self.own = own
        self.controllers = controllers


def layout() -> Layout:
    """Read the layout of this machine. Without cgroups, or without /proc, its mode is "none"."""
    try:
        found = parse(read("/proc/self/mountinfo"), read("/proc/self/cgroup"), _is_visible)
    except CallFailed:
        return Layout("none", {}, {})
    if "" in found.mounts:
        try:
            offered = read(found.mounts[""] + "/cgroup.controllers")
        except CallFailed:
            offered = b""
        found.controllers = tuple(offered.decode().split())
    return found


def parse(mountinfo: bytes, cgroup: bytes, visible: "Callable[[str, str], bool]") -> Layout:
    """The layout that the two files of /proc/self describe; pure but for `visible`.

    `visible(mount point, "major:minor")` tells whether that file system is what a
    process finds there: a mount stays listed when another one covers it.
    """
    paths = own_paths(cgroup)
    mounts: dict[str, str] = {}
    own: dict[str, str] = {}
    for point, root, keys in _hierarchies(mountinfo, set(paths), visible):
        for key in keys:
            if key not in mounts:
                mounts[key] = point
                own[key] = _below(paths.get(key, "/"), root)
    if mounts.get("") == DEFAULT_ROOT:
        # The whole tree is v2; a v1 hierarchy besides it is somebody's own affair.
        return Layout("v2", {"": DEFAULT_ROOT}, {"": own[""]})
    mode: Mode = "none"
    if "" in mounts:
        mode = "v2" if len(mounts) == 1 else "hybrid"
    elif mounts:
        mode = "v1"
    return Layout(mode, mounts, own)


def mount_facts(
    where: Layout,
) -> tuple[tuple[tuple[str, str, str, str], ...], tuple[tuple[str, str], ...]]:
    """What a mount of type "cgroup" shows inside a container.

    Returns (entries, aliases). An entry is (name of the folder, mount point on the
    host, options of a fresh mount of type cgroup, key into CgroupPlan.paths), for
    instance ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct", "cpu") or
    ("systemd", "/sys/fs/cgroup/systemd", "none,name=systemd", "name=systemd").
    An alias is (name of a symbolic link, its target): ("cpu", "cpu,cpuacct").
    In mode "v2" the one entry is ("", mount point, "", ""): a mount of type cgroup2.
    Of a hybrid layout a container sees the v1 hierarchies only, as with runc.
    """
    if where.mode == "v2":
        return (("", where.mounts[""], "", ""),), ()
    keys_of: dict[str, list[str]] = {}
    for key, point in where.mounts.items():
        if key:
            keys_of.setdefault(point, []).append(key)
    entries = []
    aliases = []
    for point, keys in keys_of.items():
        folder = point.rpartition("/")[2]
        named = keys[0].startswith("name=")
        options = f"none,{keys[0]}" if named else ",".join(keys)
        entries.append((folder, point, options, keys[0]))
        if not named:
            aliases += [(key, folder) for key in keys if key != folder]
    return tuple(entries), tuple(aliases)


def own_paths(cgroup: bytes) -> dict[str, str]:
    """The cgroup of a process in each hierarchy, keyed as Layout.mounts, by /proc/PID/cgroup."""
    paths: dict[str, str] = {}
    for line in cgroup.decode("utf-8", "surrogateescape").splitlines():
        _, keys, path = line.split(":", 2)
        for key in keys.split(","):
            paths[key] = path
    return paths


def _hierarchies(
    mountinfo: bytes, names: set[str], visible: "Callable[[str, str], bool]"
) -> list[tuple[str, str, tuple[str, ...]]]:
    """(mount point, root in the hierarchy, keys) of each visible mount, usual places first."""
    found = []
    for raw in mountinfo.split(b"\n"):
        if b" - cgroup" not in raw:
            continue
        # id parent major:minor root point options [tags...] - type source super-options
        fields = raw.decode("utf-8", "surrogateescape").split(" ")
        separator = fields.index("-", 6)
        kind, options = fields[separator + 1], fields[separator + 3]
        keys: tuple[str, ...]
        if kind == "cgroup2":
            keys = ("",)
        else:
            keys = tuple(option for option in options.split(",") if option in names)
        point = unescape(fields[4])
        if keys and visible(point, fields[2]):
            found.append((point, unescape(fields[3]), keys))
    found.sort(key=lambda one: not (one[0] + "/").startswith(DEFAULT_ROOT + "/"))
    return found


def unescape(field: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    if "\\" not in field:
        return field
    head, *rest = field.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def _below(own: str, root: str) -> str:
    """The own path as seen from the root of the mount.

    A container without a cgroup namespace has its own cgroup bound over the mount
    point while /proc/self/cgroup shows the host's paths. A path that is not below
    the root cannot be reached through this mount: then the root itself serves.
    """
    if root == "/":
        return "/" if own.startswith("/..") else own
    if own.startswith(root + "/"):
        return own[len(root) :]
    return "/"


def _is_visible(point: str, device: str) -> bool:
    """Whether the file system of that device number is the topmost one at `point`."""
    try:
        found = posix.stat(point).st_dev
    except OSError:
        return False
    return f"{posix.major(found)}:{posix.minor(found)}" == device
