"""Who a container runs as: USER[:GROUP], looked up in the image's own passwd and group.

The two files are parsed here, by hand: the C library's lookups would load modules
and read the host's files. Numbers are never looked up, so a line such as
`1000:x:0:0:` cannot make the user 1000 root (CVE-2016-3697). Formats: passwd(5),
group(5).
"""

import os
from dataclasses import dataclass

from ocirun.errors import ImageError, UsageError
from ocirun.image import tree
from ocirun.image.tar import MAX_ID

# Larger files are refused: nothing in an image needs them.
_MAX_FILE = 16 << 20
# NGROUPS_MAX, credentials(7).
_MAX_GROUPS = 65536


@dataclass(frozen=True, slots=True)
class User:
    """Numbers for process.user of config.json."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


def resolve_user(rootfs: str, wanted: str) -> User:
    """Turn USER[:GROUP] into numbers.

    A user given by number has group 0 unless a group is given, and no supplementary
    groups. One given by name has the group of its passwd line, and the supplementary
    groups that list it, unless a group is given.

    Args:
        rootfs: the image's files; links in it are resolved inside it.
        wanted: names or numbers; "" is 0:0.

    Raises:
        UsageError: not of that form, or a number out of range (0 to 2^32-2).
        ImageError: the image has no such user or group, or its files are unreadable.
    """
    if not wanted:
        return User()
    name, colon, group = wanted.partition(":")
    if not name or (colon and not group) or ":" in group:
        raise UsageError(f"invalid user {wanted[:80]!r}", hint="expected USER or USER:GROUP")
    root = tree.open_root(rootfs)
    try:
        uid, gid = (_number(name), 0) if _is_number(name) else _lookup_user(root, name)
        if group:
            gid = _number(group) if _is_number(group) else _lookup_group(root, group)
            return User(uid, gid)
        if _is_number(name):
            return User(uid, gid)
        return User(uid, gid, _groups_of(root, name))
    finally:
        os.close(root)


def _is_number(text: str) -> bool:
    """Whether it is meant as a number: `-1` and `+1` are, and then refused."""
    digits = text.lstrip("+-")
    return digits.isascii() and digits.isdigit()


def _number(text: str) -> int:
    if not text.isdigit() or len(text) > 10 or int(text) > MAX_ID:
        raise UsageError(f"user or group {text[:80]!r} is out of range", hint=f"0 to {MAX_ID}")
    return int(text)


def _lookup_user(root: int, name: str) -> tuple[int, int]:
    for fields in _lines(root, b"etc/passwd"):
        if fields[0] == name.encode("utf-8", "surrogateescape"):
            if len(fields) < 4:
                break
            return _field(fields[2], "passwd", name), _field(fields[3], "passwd", name)
    raise ImageError(
        f"the image has no user {name[:80]!r}",
        path="/etc/passwd",
        hint="a number needs no entry: -u UID:GID",
    )


def _lookup_group(root: int, name: str) -> int:
    for fields in _lines(root, b"etc/group"):
        if fields[0] == name.encode("utf-8", "surrogateescape") and len(fields) >= 3:
            return _field(fields[2], "group", name)
    raise ImageError(
        f"the image has no group {name[:80]!r}",
        path="/etc/group",
        hint="a number needs no entry: -u UID:GID",
    )


def _groups_of(root: int, name: str) -> tuple[int, ...]:
    member = name.encode("utf-8", "surrogateescape")
    groups: list[int] = []
    try:
        lines = _lines(root, b"etc/group")
    except ImageError as error:
        if error.errno:
            return ()  # an image without /etc/group
        raise
    for fields in lines:
        if len(fields) >= 4 and member in fields[3].split(b","):
            gid = _field(fields[2], "group", fields[0].decode("utf-8", "replace"))
            if gid not in groups:
                groups.append(gid)
    if len(groups) > _MAX_GROUPS:
        raise ImageError(f"the user is in more than {_MAX_GROUPS} groups", path="/etc/group")
    return tuple(groups)


def _lines(root: int, path: bytes) -> list[list[bytes]]:
    """Fields of each line; comments and empty lines left out."""
    try:
        data = tree.read_file(root, path, _MAX_FILE)
    except OSError as error:
        raise tree.image_error(error, "cannot read the image's file", b"/" + path) from None
    stripped = (line.strip() for line in data.split(b"\n"))
    return [line.split(b":") for line in stripped if line and not line.startswith(b"#")]


def _field(text: bytes, file: str, name: str) -> int:
    """A number of a line; what is no id is an error, never 0."""
    if not text.isdigit() or len(text) > 10 or int(text) > MAX_ID:
        raise ImageError(
            f"the image's line for {name[:80]!r} has the id {text[:20].decode('latin-1')!r}, "
            "which nobody can have",
            path=f"/etc/{file}",
        )
    return int(text)
