"""Documents for the tests of the schema: a complete one, and mutants of any."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, settings

from ocirun.spec import schema


def unhurried(max_examples: int = 100) -> settings:
    """Settings of hypothesis under which a busy machine makes no test fail."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=max_examples, deadline=None, suppress_health_check=slow)


WRONG = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.0,
    1.5,
    512,
    65536,
    2**32,
    2**63,
    2**64,
    -(2**31) - 1,
    -(2**63) - 1,
    "",
    "x",
    "MB:0=20\n",
    "RLIMIT_CORe",
    "0-3,7",
    "02MB",
    [],
    [7],
    ["x"],
    [{}],
    {},
    {"x": 7},
    {"x": "y"},
    {"x": {}},
]
"""What a property is replaced by: each type, and the borders of the integers."""


def complete(sub: dict[str, Any], name: str = "config") -> Any:
    """A valid value that has every property which the schema `sub` knows."""
    sub = schema.resolve(sub, name)
    kind = sub.get("type")
    if "examples" in sub:
        return sub["examples"][0]
    if kind == "object":
        value = {key: complete(item, name) for key, item in sub.get("properties", {}).items()}
        if isinstance(sub.get("additionalProperties"), dict):
            value["key"] = complete(sub["additionalProperties"], name)
        return value
    if kind == "array":
        return [complete(sub["items"], name)]
    if kind == "integer":
        return sub.get("maximum", 1)
    if kind == "boolean":
        return False
    if kind is None:
        return None
    return sub["enum"][0] if "enum" in sub else "text"


def complete_config() -> dict[str, Any]:
    """A valid config.json with every property of the schema."""
    return dict(complete(schema.document("config")))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside `value`, itself included."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """`document` with `value` at `path`; nothing of the original is changed."""
    if not path:
        return value
    changed = copy.copy(document)
    changed[path[0]] = put(document[path[0]], path[1:], value)
    return changed


def drop(document: Any, path: tuple[Any, ...]) -> Any:
    """`document` without what is at `path`."""
    changed = copy.copy(document)
    if len(path) == 1:
        del changed[path[0]]
    else:
        changed[path[0]] = drop(document[path[0]], path[1:])
    return changed


def mutants(document: Any) -> Iterator[tuple[str, Any]]:
    """(what was done, mutant) for every place: replaced, dropped, with a stranger beside it."""
    for path in places(document):
        where = "/".join(map(str, path))
        for wrong in WRONG:
            yield f"{where} = {wrong!r}", put(document, path, wrong)
        if path:
            yield f"without {where}", drop(document, path)
        target = document
        for token in path:
            target = target[token]
        if isinstance(target, dict):
            yield f"{where} + unknown", put(document, path, {**target, "unknown~/": [7]})
