"""The properties of config.json, by name: what the schema has, and what a patch touches.

A property is written as a JSON pointer with `*` for any item or key, as in
`@pytest.mark.spec("/process/rlimits/*/soft")`. Items of an array of plain values and
entries of a map of plain values are no properties of their own.
"""

from functools import cache
from typing import Any

from ocirun.spec import schema

Path = tuple[str, ...]
OTHER_PLATFORMS = ("/solaris", "/windows", "/vm", "/zos", "/freebsd")
OF_WINDOWS = ("/process/commandLine", "/process/user/username")


def split(pointer: str) -> Path:
    """The tokens of a JSON pointer (RFC 6901)."""
    return tuple(t.replace("~1", "/").replace("~0", "~") for t in pointer.split("/")[1:])


def pointer(path: Path) -> str:
    """Tokens as a JSON pointer."""
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in path)


def walk(sub: dict[str, Any], path: Path = ()) -> list[Path]:
    """Every property that a schema of ours has, as tokens, in its order."""
    sub = schema.resolve(sub)
    found = []
    for name, inner in sub.get("properties", {}).items():
        found += [(*path, name), *walk(inner, (*path, name))]
    inner = sub["items"] if "items" in sub else sub.get("additionalProperties")
    return found + (walk(inner, (*path, "*")) if isinstance(inner, dict) else [])


@cache
def rows() -> tuple[Path, ...]:
    """The properties, in the schema's order; those of other platforms have no members here."""
    others = {split(pointer) for pointer in OTHER_PLATFORMS}
    return tuple(
        path
        for path in walk(schema.document("config"))
        if not any(path[: len(other)] == other != path for other in others)
    )


@cache
def is_structure(row: Path) -> bool:
    """It has properties inside, which say what it is for."""
    return any(len(other) > len(row) and other[: len(row)] == row for other in rows())


@cache
def row_of(path: Path) -> Path | None:
    """The property that a place in a config belongs to; None for what the schema lacks."""
    for length in range(len(path), 0, -1):
        for row in rows():
            if len(row) == length and all(a in ("*", b) for a, b in zip(row, path, strict=False)):
                return row
    return None


def matching(mark: str) -> list[Path]:
    """The properties that a mark names: a `*` also stands for any name. [] if there is none."""
    tokens = split(mark)
    while tokens:
        found = [
            row
            for row in rows()
            if len(row) == len(tokens)
            and all(a == b or "*" in (a, b) for a, b in zip(row, tokens, strict=True))
        ]
        if found or not (tokens[-1] == "*" or tokens[-1].isdigit()):
            return found
        tokens = tokens[:-1]  # an item of plain values
    return []


def leaves(value: Any, path: Path = ()) -> list[Path]:
    """The place of every plain value, empty array and empty object in `value`."""
    if isinstance(value, dict) and value:
        return [place for key, item in value.items() for place in leaves(item, (*path, key))]
    if isinstance(value, list) and value:
        return [place for i, item in enumerate(value) for place in leaves(item, (*path, str(i)))]
    return [path]
