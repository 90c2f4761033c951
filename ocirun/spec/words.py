"""What the schema asks for and what a document has instead, in words. Cold.

Belongs here: the phrases for jsonschema's errors. Does not belong here: which
errors there are, and where they stand in the text (`validate`).
"""

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any

from jsonschema import ValidationError

from ocirun.spec import schema
from ocirun.spec.strict import token

_MAX_QUOTED = 60

Violation = tuple[str, str, str, str]
"""(JSON pointer, message, what was expected, hint)"""


def violations(error: ValidationError) -> list[Violation]:
    """The findings that one error of jsonschema stands for."""
    pointer = "".join(f"/{token(part)}" for part in error.absolute_path)
    sub = subschema(error.absolute_path)
    if error.validator == "required":
        required: list[str] = sub["required"]
        instance: dict[str, Any] = error.instance  # type: ignore[assignment]
        missing = [name for name in required if name not in instance]
        wanted = [(name, schema.child(sub, name) or {}) for name in missing]
        return [
            (f"{pointer}/{name}", "missing", expectation(child), _about(child))
            for name, child in wanted
        ]
    if error.validator == "minItems":
        least = error.validator_value
        entries = "entry" if least == 1 else "entries"
        return [(pointer, "found an empty list", f"at least {least} {entries}", _about(sub))]
    hint = _repair(sub, error.instance) or _about(sub)
    if error.validator == "type" and sub.get("maximum", 0) > 0xFFFFFFFF:
        # The limits of 64 bits say little to one who has written no number at all.
        sub = {"type": "integer", **({"minimum": 0} if sub["minimum"] == 0 else {})}
    return [(pointer, f"found {found(error.instance)}", expectation(sub), hint)]


def subschema(path: Iterable[str | int]) -> dict[str, Any]:
    """The schema of the value at `path`; {} for what it does not know."""
    sub = schema.document("config")
    for part in path:
        inner = schema.child(sub, str(part))
        if inner is None:
            return {}
        sub = inner
    return sub


def expectation(sub: dict[str, Any]) -> str:
    """What a value of the schema `sub` is: "an integer from 0 to 65535"."""
    kind = sub.get("type", "")
    if "enum" in sub:
        return f"one of {', '.join(sub['enum'])}"
    if kind == "integer":
        low, high = sub.get("minimum"), sub.get("maximum")
        if high is not None:
            return f"an integer from {low} to {high}"
        return "an integer" if low is None else f"an integer of at least {low}"
    if kind == "array":
        item = schema.resolve(sub["items"]).get("type", "")
        return f"a list of {_PLURALS[item]}"
    if kind == "string" and "examples" in sub:
        return f"a string like {sub['examples'][0]}"
    return _KINDS.get(kind, "")


_KINDS = {
    "string": "a string",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
}
_PLURALS = {"string": "strings", "integer": "integers", "object": "objects", "boolean": "booleans"}


def found(value: object) -> str:
    """A value in words: `the string "0"`, `null`, `an object`."""
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > _MAX_QUOTED:
        text = text[:_MAX_QUOTED] + "..."
    kinds = {str: "the string ", int: "the number ", float: "the number "}
    return kinds.get(type(value), "") + text


def near(name: str, known: Iterable[str]) -> str:
    """The one of `known` that `name` was probably meant to be; "" if none is near."""
    folded = {word.lower().replace("_", ""): word for word in known}
    mine = name.lower().replace("_", "")
    close = [mine] if mine in folded else difflib.get_close_matches(mine, folded, 1, 0.7)
    return folded[close[0]] if close else ""


def _about(sub: dict[str, Any]) -> str:
    return str(sub.get("description", ""))


def _number(text: str) -> str:
    """How to write a text as a number: "10", or with a unit of bytes, "10M", "1.5 GiB"."""
    match = re.fullmatch(r"(-?\d{1,20}(?:\.\d{1,9})?) ?([KMGT]?)(?:i?B)?", text, re.ASCII | re.I)
    if not match:
        return ""
    if match[1] == text:
        return "write the number without quotes"
    size = float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")
    return f"write the number {size:.0f}"


def _repair(sub: dict[str, Any], value: object) -> str:
    kind = sub.get("type")
    if value is None:
        return "leave the property out instead of null"
    if isinstance(value, str):
        if kind == "integer":
            return _number(value)
        if kind == "boolean" and value.lower() in ("true", "false"):
            return f"write {value.lower()} without quotes"
        if kind == "array":
            return "write a list: put it in [ ]"
        if "enum" in sub and (close := near(value, sub["enum"])):
            return f"did you mean {close}?"
    elif kind == "string" and isinstance(value, int | float):
        return "write it in quotes"
    elif kind == "boolean" and value in (0, 1):
        return f"write {'true' if value else 'false'}"
    return ""
