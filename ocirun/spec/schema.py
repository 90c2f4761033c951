"""The schema documents under schema/, and validators built from them. Cold.

Belongs here: finding the documents, the jsonschema validator, and looking up
what the schema says of one property. Does not belong here: words for findings
(`validate`), the fast check (`fastcheck`, generated from the same documents).
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "_schema", _PACKAGE.parent / "schema")
"""In an installed package; in a source checkout."""


@cache
def document(name: str) -> dict[str, Any]:
    """The schema `name`: config, state or features.

    Raises FileNotFoundError when the installation lacks it.
    """
    for folder in _FOLDERS:
        path = folder / f"{name}.schema.json"
        if path.is_file():
            loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return loaded
    raise FileNotFoundError(f"{name}.schema.json is in none of {', '.join(map(str, _FOLDERS))}")


def ecma_pattern(
    validator: Validator, pattern: str, instance: object, schema: object
) -> Iterator[ValidationError]:
    """The keyword `pattern` as ECMA-262 has it, where $ is the very end of the string."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator: type[Validator] = extend(Draft202012Validator, {"pattern": ecma_pattern})  # type: ignore[no-untyped-call]


@cache
def validator(name: str) -> Validator:
    """A JSON Schema 2020-12 validator of the schema `name`."""
    return _Validator(document(name))


def resolve(schema: dict[str, Any], name: str = "config") -> dict[str, Any]:
    """`schema` with its $ref followed; keywords beside the $ref win."""
    while "$ref" in schema:
        target = document(name)["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def child(schema: dict[str, Any], token: str, name: str = "config") -> dict[str, Any] | None:
    """The schema of the property or item `token` of a value that `schema` describes.

    None when the schema does not know it.
    """
    schema = resolve(schema, name)
    if token in schema.get("properties", {}):
        return resolve(schema["properties"][token], name)
    inner = schema["items"] if "items" in schema else schema.get("additionalProperties")
    return resolve(inner, name) if isinstance(inner, dict) else None


def describe(pointer: str, name: str = "config") -> tuple[str, str]:
    """(description, section of the OCI runtime-spec) of the property at `pointer`.

    For a pointer that the schema does not know, those of the nearest ancestor
    that it does know; of items, those of their array.
    """
    schema: dict[str, Any] | None = document(name)
    found = ("", "")
    for token in pointer.split("/")[1:]:
        assert schema is not None
        schema = child(schema, token.replace("~1", "/").replace("~0", "~"), name)
        if schema is None:
            break
        if "x-spec" in schema:
            found = (schema["description"], schema["x-spec"])
    return found
