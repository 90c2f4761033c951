"""Suspicious mounts; see `suspicious`. Cold."""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import dirname, normpath
from typing import TYPE_CHECKING, Any

from ocirun.spec.known import FILE_SYSTEM_OPTIONS, MOUNT_OPTIONS, OPPOSITES
from ocirun.spec.words import near

if TYPE_CHECKING:
    from ocirun.spec.strict import Config, Problem

Mount = dict[str, Any]

_SHOWN = 5
"""How many entries a message lists."""


def check(config: Config, kinds: dict[str, str]) -> Iterator[Problem]:
    """Everything suspicious in config["mounts"]."""
    inside: dict[str, list[int]] = {}
    for index, mount in enumerate(config.get("mounts", ())):
        pointer = f"/mounts/{index}"
        yield from _destination(mount, index, inside)
        yield from _options(mount, f"{pointer}/options")
        yield from _owner(mount, kinds, f"{pointer}/type")


def is_bind(mount: Mount) -> bool:
    """Whether the mount binds a file or directory."""
    options = mount.get("options", ())
    return "bind" in options or "rbind" in options or mount.get("type") in ("bind", "rbind")


def has_devpts(config: Config) -> bool:
    """Whether there can be a /dev/pts: a devpts, or something that may bring one along."""
    for mount in config.get("mounts", ()):
        place = _absolute(mount["destination"])
        if place == "/dev/pts" and (mount.get("type") == "devpts" or is_bind(mount)):
            return True
        if place == "/dev" and is_bind(mount):
            return True
    return False


def _absolute(path: str) -> str:
    return normpath("/" + path.lstrip("/"))


def _destination(mount: Mount, index: int, inside: dict[str, list[int]]) -> Iterator[Problem]:
    """`inside`: directory -> the earlier entries that are mounted there or below."""
    destination, pointer = mount["destination"], f"/mounts/{index}/destination"
    if destination[:1] not in ("/", ""):
        yield pointer, "relative paths are deprecated; taken from /", f"write /{destination}"
    place = _absolute(destination)
    hidden = inside.get(place, []) if "remount" not in mount.get("options", ()) else []
    if hidden:
        entries = ", ".join(map(str, hidden[:_SHOWN])) + (", ..." if hidden[_SHOWN:] else "")
        word = "entry" if len(hidden) == 1 else "entries"
        hint = "put it before what is mounted inside it, or remove one"
        yield pointer, f"hides what {word} {entries} mounted", hint
    while place != "/":
        inside.setdefault(place, []).append(index)
        place = dirname(place)
    inside.setdefault("/", []).append(index)


def _options(mount: Mount, pointer: str) -> Iterator[Problem]:
    kind, seen = mount.get("type", ""), set()
    for index, option in enumerate(mount.get("options", ())):
        if option in seen:
            yield f"{pointer}/{index}", f"{option} is there twice", ""
        seen.add(option)
        opposite = OPPOSITES.get(option) or _BACK.get(option)
        if opposite in seen:
            message = f"{option} takes back {opposite} before it"
            yield f"{pointer}/{index}", message, "remove one of them"
        if option in MOUNT_OPTIONS:
            continue
        name = option.partition("=")[0]
        if is_bind(mount):
            close = near(name, MOUNT_OPTIONS)
            hint = f"did you mean {close}?" if close else "it takes no options of a file system"
            yield f"{pointer}/{index}", f"{option} means nothing to a bind mount", hint
        elif kind in FILE_SYSTEM_OPTIONS and name not in FILE_SYSTEM_OPTIONS[kind]:
            close = near(name, [*MOUNT_OPTIONS, *FILE_SYSTEM_OPTIONS[kind]])
            hint = f"did you mean {close}?" if close else ""
            yield f"{pointer}/{index}", f"{kind} has no option {name}", hint


_BACK = {off: on for on, off in OPPOSITES.items()}


def _owner(mount: Mount, kinds: dict[str, str], pointer: str) -> Iterator[Problem]:
    """File systems that show a namespace, which the container's root must own."""
    if kinds.get("user") != "" or is_bind(mount):
        return
    needed = {"sysfs": "network", "mqueue": "ipc", "proc": "pid"}.get(mount.get("type", ""))
    if needed and needed not in kinds:
        message = (
            f"the kernel refuses {mount['type']} in a user namespace without a {needed} namespace"
        )
        hint = f'add {{"type": "{needed}"}} to linux.namespaces, or bind the host\'s'
        yield pointer, message, hint
