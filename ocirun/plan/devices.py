"""Devices and the links in /dev (config-linux.md, "Devices", "Default Devices")."""

from ocirun.errors import InvalidConfig
from ocirun.plan.namespaces import Namespaces
from ocirun.plan.options import is_bind
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import clean, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_S_IFCHR, _S_IFBLK, _S_IFIFO = 0o020000, 0o060000, 0o010000
_TYPES = {"c": _S_IFCHR, "u": _S_IFCHR, "b": _S_IFBLK, "p": _S_IFIFO}
DEFAULT_DEVICES = (
    (b"/dev/null", 1, 3),
    (b"/dev/zero", 1, 5),
    (b"/dev/full", 1, 7),
    (b"/dev/random", 1, 8),
    (b"/dev/urandom", 1, 9),
    (b"/dev/tty", 5, 0),
)
DEFAULT_LINKS = (
    (b"/proc/self/fd", b"/dev/fd"),
    (b"/proc/self/fd/0", b"/dev/stdin"),
    (b"/proc/self/fd/1", b"/dev/stdout"),
    (b"/proc/self/fd/2", b"/dev/stderr"),
    (b"/proc/kcore", b"/dev/core"),
)


def compile_devices(plan: Plan, spec: "dict[str, Any]", spaces: Namespaces) -> None:
    """Append the steps that fill /dev.

    As runc does, /dev is left alone when it is a bind mount: it is the host's.
    """
    if _is_the_hosts(spec):
        return
    # mknod(2) needs a capability over the initial user namespace.
    bind = spaces.private("user")
    wanted: dict[bytes, Step] = {}
    for path, major, minor in DEFAULT_DEVICES:
        wanted[path] = Step(
            "device", "", path, _S_IFCHR | 0o666, major, minor, 0, 0, bind
        )  # fmt: skip
    for index, entry in enumerate((spec.get("linux") or {}).get("devices") or ()):
        pointer = f"/linux/devices/{index}"
        path = encode(entry["path"], pointer + "/path")
        kind = entry["type"]
        if kind not in _TYPES:
            raise InvalidConfig(f"unknown type of device: {kind}", pointer=pointer + "/type")
        mode = _TYPES[kind] | (entry.get("fileMode", 0o666) & 0o7777)
        wanted[path] = Step(
            "device", pointer, path, mode, entry.get("major", 0), entry.get("minor", 0),
            entry.get("uid", 0), entry.get("gid", 0), bind and kind != "p",
        )  # fmt: skip
    plan.child.extend(wanted.values())
    for target, path in DEFAULT_LINKS:
        plan.child.append(Step("symlink", "", target, path, False))
    plan.child.append(Step("symlink", "", b"pts/ptmx", b"/dev/ptmx", True))


def _is_the_hosts(spec: "dict[str, Any]") -> bool:
    """The last mount on /dev is a bind mount."""
    found = False
    for mount in spec.get("mounts") or ():
        if clean(mount["destination"]) == "/dev" and "remount" not in (mount.get("options") or ()):
            found = is_bind(mount)
    return found
