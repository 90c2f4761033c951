"""Write ocirun/spec/fastcheck.py from schema/config.schema.json.

    python tools/gen_fastcheck.py            write the file
    python tools/gen_fastcheck.py --check    exit 1 if the committed file is stale

Every keyword of the schema that restricts a value must be known here: the
generator fails on any other, so the schema can't grow past the fast check.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "ocirun" / "spec" / "fastcheck.py"
SCHEMA = ROOT / "schema" / "config.schema.json"

_WIDTH = 100

# Keywords that restrict nothing.
_NOTES = {"description", "x-spec", "deprecated", "examples", "title", "$schema", "$id", "$defs"}

# Patterns are functions of the head: importing `re` would cost more than all the rest.
_PATTERNS = {
    "^RLIMIT_[A-Z]+$": "_rlimit",
    "^[0-9, -]*$": "_cpu_list",
    "^[1-9][0-9]*[KMG]B$": "_page_size",
    "^MB:[^\\n]*$": "_bandwidth",
}

_HEAD = '''\
"""The schema of config.json as plain Python: a fast yes or no. Generated.

Do not edit: `python tools/gen_fastcheck.py` writes this file from
schema/config.schema.json, and a unit test compares the two. On a no, jsonschema
with the schema itself makes the diagnosis (`ocirun.spec.validate`).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[object], bool]

_STRING_ONLY = {str}


def _any(x: object) -> bool:
    return True


def _string(x: object) -> bool:
    return type(x) is str


def _boolean(x: object) -> bool:
    return type(x) is bool


def _rlimit(x: object) -> bool:
    return type(x) is str and x[:7] == "RLIMIT_" and x[7:].isalpha() and x.isascii() and x.isupper()


def _cpu_list(x: object) -> bool:
    return type(x) is str and not x.strip("0123456789, -")


def _page_size(x: object) -> bool:
    if type(x) is not str or x[-2:] not in ("KB", "MB", "GB"):
        return False
    return x.isascii() and x[:-2].isdigit() and x[0] != "0"


def _bandwidth(x: object) -> bool:
    return type(x) is str and x[:3] == "MB:" and "\\n" not in x


def _strings(x: object) -> bool:
    return type(x) is list and {*map(type, x)} <= _STRING_ONLY


def _integer(low: "int | None", high: "int | None") -> "Check":
    def check(x: object) -> bool:
        # bool is a type of its own here; 1.0 is an integer, as in JSON Schema.
        if type(x) is not int and not (type(x) is float and x.is_integer()):
            return False
        return (low is None or low <= x) and (high is None or x <= high)

    return check


def _one_of(*values: str) -> "Check":
    return lambda x: type(x) is str and x in values


def _items(item: "Check", least: int = 0) -> "Check":
    return lambda x: type(x) is list and len(x) >= least and all(map(item, x))


def _values(value: "Check") -> "Check":
    return lambda x: type(x) is dict and all(map(value, x.values()))


def _object(required: "tuple[str, ...]", properties: "dict[str, Check]") -> "Check":
    known = properties.get

    def check(x: object) -> bool:
        if type(x) is not dict:
            return False
        for name in required:
            if name not in x:
                return False
        for name, value in x.items():
            test = known(name)
            if test is not None and not test(value):
                return False
        return True

    return check
'''


def _take(schema: dict[str, Any], *known: str) -> None:
    rest = schema.keys() - _NOTES - set(known)
    if rest:
        raise SystemExit(f"gen_fastcheck: cannot translate {', '.join(sorted(rest))} in {schema}")


# An expression is a text, or (opening, [(prefix, expression), ...], closing).
Expression = str | tuple[str, list[tuple[str, Any]], str]


def _call(function: str, *arguments: Expression) -> Expression:
    return (f"{function}(", [("", argument) for argument in arguments], ")")


def expression(schema: dict[str, Any]) -> Expression:
    """The Python expression of a check for `schema`."""
    if "$ref" in schema:
        _take(schema, "$ref")
        return "_" + str(schema["$ref"]).removeprefix("#/$defs/")
    kind = schema.get("type")
    if kind is None:
        _take(schema)
        return "_any"
    if kind == "boolean":
        _take(schema, "type")
        return "_boolean"
    if kind == "integer":
        _take(schema, "type", "minimum", "maximum")
        return _call("_integer", repr(schema.get("minimum")), repr(schema.get("maximum")))
    return {"string": _of_string, "array": _of_array, "object": _of_object}[kind](schema)


def _of_string(schema: dict[str, Any]) -> Expression:
    _take(schema, "type", "enum", "pattern")
    if "enum" in schema:
        return _call("_one_of", *map(json.dumps, schema["enum"]))
    return _PATTERNS[schema["pattern"]] if "pattern" in schema else "_string"


def _of_array(schema: dict[str, Any]) -> Expression:
    _take(schema, "type", "items", "minItems")
    item = expression(schema["items"])
    if "minItems" in schema:
        return _call("_items", item, repr(schema["minItems"]))
    return "_strings" if item == "_string" else _call("_items", item)


def _of_object(schema: dict[str, Any]) -> Expression:
    _take(schema, "type", "required", "properties", "additionalProperties")
    extra = schema.get("additionalProperties", True)
    if extra is not True:
        if extra is False or "properties" in schema or "required" in schema:
            raise SystemExit(f"gen_fastcheck: cannot translate additionalProperties in {schema}")
        return _call("_values", expression(extra))
    names = [json.dumps(name) for name in schema.get("required", ())]
    required = f"({', '.join(names)}{',' if len(names) == 1 else ''})"
    properties = [
        (f"{json.dumps(name)}: ", expression(sub))
        for name, sub in schema.get("properties", {}).items()
    ]
    return _call("_object", required, ("{", properties, "}") if properties else "{}")


def show(node: Expression, indent: int = 0, before: str = "", after: str = "") -> str:
    """`before`, `node` and `after`, laid out as `ruff format` does."""
    line = " " * indent + before + _flat(node) + after
    if isinstance(node, str) or len(line) <= _WIDTH:
        return line
    opening, parts, closing = node
    inner = [show(part, indent + 4, prefix, ",") for prefix, part in parts]
    return "\n".join([" " * indent + before + opening, *inner, " " * indent + closing + after])


def _flat(node: Expression) -> str:
    if isinstance(node, str):
        return node
    opening, parts, closing = node
    return opening + ", ".join(prefix + _flat(part) for prefix, part in parts) + closing


def generate() -> str:
    """The text of the module."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    definitions = [show(expression(sub), 0, f"_{name} = ") for name, sub in schema["$defs"].items()]
    check = show(expression(schema), 0, "check_config = ")
    words = (
        '"""check_config(value) -> bool: whether `value` is a valid config.json by the schema."""'
    )
    return "\n".join([_HEAD, "", *definitions, check, words, ""])


def main() -> None:
    """Write the module, or with --check compare it."""
    text = generate()
    if sys.argv[1:] == ["--check"]:
        if TARGET.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{TARGET} is stale: run python tools/gen_fastcheck.py")
        return
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
