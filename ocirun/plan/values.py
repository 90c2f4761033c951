"""Small conversions that every planner uses: text to bytes, paths, pointers."""

from ocirun.errors import InvalidConfig


def encode(text: str, pointer: str) -> bytes:
    """The bytes that the kernel gets for a string of config.json.

    Raises InvalidConfig for a NUL byte or half a surrogate pair.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidConfig("a string is not valid Unicode", pointer=pointer) from None
    if b"\0" in data:
        raise InvalidConfig("a string holds a NUL byte", pointer=pointer)
    return data


def token(name: str) -> str:
    """A property name as one token of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def clean(path: str) -> str:
    """An absolute path without ".", ".." and doubled slashes, by its text alone."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def join(base: str, path: str) -> str:
    """`path` seen from the directory `base`."""
    return path if path.startswith("/") else base.rstrip("/") + "/" + path
