"""What is wrong with a document that is not JSON, and where. Cold.

Belongs here: the diagnosis of documents that `fastjson.loads` has refused.
`json.decoder` finds most errors with their place; the few that it reports
without one (NaN, a number out of range, nesting, half a surrogate pair) are
looked up among the document's tokens.
"""

import json
import re

# A string, a number or name, or a bracket: all that can hold an error without a place.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\w+.-]+|[\[\]{}]', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)

_WORDS = {
    "Expecting value": "a value is missing here",
    "Expecting property name enclosed in double quotes": (
        "a property name in double quotes is expected here"
    ),
    "Illegal trailing comma before end of object": "a comma before the end of an object",
    "Illegal trailing comma before end of array": "a comma before the end of an array",
    "Expecting ':' delimiter": "':' is expected here",
    "Expecting ',' delimiter": "',' or the end of the object or array is expected here",
    "Unterminated string starting at": "this string has no end",
    "Invalid control character at": "a control character in a string must be escaped",
    "Invalid \\escape": "not an escape sequence of JSON",
    "Invalid \\uXXXX escape": "\\u needs four hexadecimal digits",
    "Extra data": "text after the end of the document",
}


def diagnose(data: bytes) -> tuple[str, int, int]:
    """(message, line, column) for a document that is not acceptable JSON."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        return "not UTF-8", *place(before, len(before))
    if text.startswith("\ufeff"):
        return "the document starts with a byte order mark", 1, 1
    message, offset = _syntax(text) or _token(text)
    return message, *place(text, offset)


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of the character at `offset`."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _syntax(text: str) -> tuple[str, int] | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if not text.strip():
            return "the document is empty", error.pos
        message = error.msg.removesuffix(" at") if error.msg not in _WORDS else error.msg
        return _WORDS.get(message, message[:1].lower() + message[1:]), error.pos
    except (ValueError, RecursionError):  # a number too long; nesting too deep
        return None
    return None


def _token(text: str) -> tuple[str, int]:
    depth = deepest = at = 0
    for match in _TOKEN.finditer(text):
        token, offset = match.group(), match.start()
        if token in "[{":
            depth += 1
            if depth > deepest:
                deepest, at = depth, offset
        elif token in "]}":
            depth -= 1
        elif token[0] == '"':
            half = _half_pair(token)
            if half is not None:
                return "half of a surrogate pair", offset + half
        elif token.lstrip("-") in ("NaN", "Infinity"):
            return f"{token} is not JSON", offset
        elif _out_of_range(token):
            return "the number is out of range", offset
    return f"nested {deepest} levels deep, which is too deep", at


def _out_of_range(token: str) -> bool:
    try:
        return len(token) > 4000 or abs(float(token)) == float("inf")
    except ValueError:  # true, false, null
        return False


def _half_pair(token: str) -> int | None:
    """Offset in the string token of a surrogate escape without its other half."""
    high: int | None = None
    end = 0
    for match in _ESCAPE.finditer(token):
        code = int(match[1], 16) if match[1] else 0
        follows = high is not None and match.start() == end
        if 0xDC00 <= code <= 0xDFFF:
            if not follows:
                return high if high is not None else match.start()
            high = None
            continue
        if high is not None:
            return high
        high = match.start() if 0xD800 <= code <= 0xDBFF else None
        end = match.end()
    return high
