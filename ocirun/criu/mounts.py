"""Mounts of a container that lead out of it, by CRIU's name for each ("--external mnt[...]").

CRIU makes again what belongs to the container alone. What has been bound from the host, or hides
a file behind the host's /dev/null, it must be told: at the checkpoint by a name, at the restore
by where it is now. The names are runc's: the destination in config.json, or "/dev/null".
"""

import posix

from ocirun.cgroups.files import read
from ocirun.cgroups.mounts import unescape
from ocirun.errors import StateError
from ocirun.linux.ffi import SyscallError
from ocirun.linux.fs import O_PATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from ocirun.plan.options import is_bind
from ocirun.plan.values import clean
from ocirun.spec.fastjson import dumps, loads
from ocirun.spec.load import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILE = "external-mounts.json"
NULL = "/dev/null"
# CRIU mounts these again by itself if all of one is mounted, whoever else has it.
_KERNELS_OWN = frozenset((b"proc", b"sysfs", b"mqueue"))
_OWN_CGROUP, _ALL_CGROUPS = "cgroup-own:", "cgroup-all:"


class Mount:
    """A line of mountinfo (proc(5)).

    Attributes:
        number: its id. device: major:minor. root: the part of the file system.
        point: where it is mounted. kind: of the file system.
        master: the peer group that it gets mounts from, b"" for none.
    """

    def __init__(self, line: bytes) -> None:
        front, _, back = line.partition(b" - ")
        words = front.split(b" ")
        self.number = int(words[0])
        self.device = words[2]
        self.root, self.point = map(_plain, words[3:5])
        self.kind = back.split(b" ", 1)[0]
        self.master = next((one for one in words[6:] if one.startswith(b"master:")), b"")


def read_mounts(pid: "int | str") -> list[Mount]:
    """The mounts that a process sees."""
    return [Mount(line) for line in read(f"/proc/{pid}/mountinfo").splitlines()]


def external(inside: list[Mount], outside: list[Mount]) -> list[Mount]:
    """The mounts in a container of what is not its own.

    That is what lies on a file system that the host has mounted, too, and neither in the
    container's root nor one of the kernel's own file systems.
    """
    top = next((mount for mount in inside if mount.point == "/"), None)
    devices = {mount.device for mount in outside}
    found = []
    for mount in inside:
        if mount.point == "/" or mount.device not in devices:
            continue
        if mount.kind in _KERNELS_OWN and mount.root == "/":
            continue
        if top is not None and mount.device == top.device and _below(mount.root, top.root):
            continue
        found.append(mount)
    return found


def are_scattered(found: list[Mount]) -> bool:
    """Mounts of different places get new mounts from one peer group.

    CRIU's newer way to make mounts copies that from the first to the others, and the kernel
    allows it only to a place below (move_mount(2), MOVE_MOUNT_SET_GROUP).
    """
    roots: dict[bytes, str] = {}
    return any(
        roots.setdefault(mount.master, mount.root) != mount.root for mount in found if mount.master
    )


def names(
    found: list[Mount], spec: "dict[str, Any]", root: int, cgroups: dict[str, str]
) -> dict[str, str]:
    """The name of each external mount: mount point -> name.

    Args:
        root: descriptor of the container's root directory.
        cgroups: the container's cgroups; of mounts of cgroups only the kind of view counts.
    """
    hierarchies = {}
    for key, path in cgroups.items():
        device = posix.stat(path).st_dev
        hierarchies[b"%d:%d" % (posix.major(device), posix.minor(device))] = key
    destinations = {place(root, one): one for one in _bound(spec)}
    masked = {place(root, path) for path in (spec.get("linux") or {}).get("maskedPaths") or ()}
    named = {}
    for mount in found:
        point = mount.point
        if mount.device in hierarchies:
            view = _ALL_CGROUPS if mount.root == "/" else _OWN_CGROUP
            named[point] = view + hierarchies[mount.device]
        else:
            named[point] = destinations.get(point, NULL if point in masked else point)
    return named


def sources(
    named: list[str],
    spec: "dict[str, Any]",
    bundle: str,
    cgroups: dict[str, str],
    hierarchies: dict[str, str],
) -> dict[str, str]:
    """Where external mounts come from now: name -> place on the host.

    Args:
        named: the names that the checkpoint has used, where it has kept them. What is mounted
            below a bind mount is found below that one's source.
        cgroups: the container's cgroups as they are now. hierarchies: where each is mounted.
    """
    bound = _bound(spec)
    found = {NULL: NULL, **{name: _absolute(source, bundle) for name, source in bound.items()}}
    for name in named:
        for view, where in ((_OWN_CGROUP, cgroups), (_ALL_CGROUPS, hierarchies)):
            if name.startswith(view) and name.removeprefix(view) in where:
                found[name] = where[name.removeprefix(view)]
        if name not in found:
            above = [one for one in bound if _below(name, one)]
            if above:
                nearest = max(above, key=len)
                found[name] = _absolute(bound[nearest], bundle) + name[len(nearest) :]
    return found


def place(root: int, path: str) -> str:
    """Where a path leads to in a root directory, without symlinks; itself if it is not there."""
    try:
        fd = openat2(root, path.encode(), O_PATH, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        base = posix.readlink(f"/proc/self/fd/{root}")
        found = posix.readlink(f"/proc/self/fd/{fd}")
        posix.close(fd)
    except SyscallError:
        return path.rstrip("/") or "/"
    # A container's root is the root of its mount namespace, and the path is told from there.
    return found if base == "/" else found.removeprefix(base) or "/"


def keep(
    folder: int, named: dict[str, str], scattered: bool, entries: "list[dict[str, Any]]"
) -> None:
    """Write the names, `are_scattered` and the container's mounts, for `kept`, with the images."""
    write_json(folder, FILE, {"names": named, "scattered": scattered, "mounts": entries})


def write_json(folder: int, name: str, value: object) -> None:
    """Write a file into the folder of the images (a descriptor)."""
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC
    fd = posix.open(name, flags, 0o600, dir_fd=folder)
    data = dumps(value).encode()
    try:
        while data:
            data = data[posix.write(fd, data) :]
    finally:
        posix.close(fd)


class Kept:
    """What `keep` has written; nothing, if another runtime has made the checkpoint.

    Attributes:
        names: of the external mounts. scattered: as of `are_scattered`.
        entries: the container's mounts as in config.json, also those added while it ran.
    """

    def __init__(self, images: str) -> None:
        path = f"{images}/{FILE}"
        self.names: list[str] = []
        self.scattered = False
        self.entries: list[dict[str, Any]] = []
        if not posix.access(path, posix.F_OK):
            return
        found: Any = loads(read_file(path), path)
        try:
            self.names = [str(name) for name in found["names"].values()]
            self.scattered = bool(found["scattered"])
            self.entries = list(found["mounts"])
        except (LookupError, TypeError, AttributeError):
            raise StateError(f"{FILE} of the checkpoint is damaged", path=path) from None

    def added_to(self, spec: "dict[str, Any]") -> "list[dict[str, Any]]":
        """The mounts that config.json does not have: they were added while it ran."""
        there = {clean(entry["destination"]) for entry in spec.get("mounts") or ()}
        return [entry for entry in self.entries if clean(entry["destination"]) not in there]


def _bound(spec: "dict[str, Any]") -> dict[str, str]:
    """What config.json binds from the host: destination -> source."""
    found = {}
    for entry in spec.get("mounts") or ():
        if is_bind(entry):
            found[entry["destination"]] = entry.get("source") or ""
    for device in (spec.get("linux") or {}).get("devices") or ():
        found.setdefault(device["path"], device["path"])
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        found.setdefault(f"/dev/{name}", f"/dev/{name}")
    return found


def _absolute(source: str, bundle: str) -> str:
    return source if source.startswith("/") else f"{bundle}/{source}"


def _below(path: str, top: str) -> bool:
    return (path + "/").startswith(top.rstrip("/") + "/")


def _plain(word: bytes) -> str:
    return unescape(word.decode("utf-8", "surrogateescape"))
