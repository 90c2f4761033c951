"""JSON in and out through CPython's C scanner and encoder alone.

The `json` package costs 8 ms at import (it pulls in `re` and `enum`); its two C
parts cost 0.5 ms. Belongs here: bytes to values and back, for every document
that a hot command touches. Does not belong here: words for what is wrong with a
document (`jsonerrors`, cold) and what its values mean.

On purpose this is stricter than `json.loads`: no byte order mark (RFC 8259
section 8.1; runc refuses it too), no NaN or Infinity, no half of a surrogate
pair (such a string can't become the bytes of a path or an argument), a bounded
size. A number that is integral is an int however it is written (`1.0`, `1e3`),
as in JSON Schema's data model, so that no float reaches a system call. Of
duplicate keys the last one counts, as in Go's encoding/json.
"""

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

from ocirun.errors import InvalidJSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SIZE = 16 << 20
"""Largest document that is read, in bytes; real ones are below 1 MiB."""

_SPACE = " \t\n\r"


class _Refused(ValueError):
    """A token that the scanner accepts and this module does not."""


def _constant(name: str) -> object:
    raise _Refused(name)


def _number(text: str) -> "int | float":
    value = float(text)
    if value - value != 0:  # inf: the exponent is out of range
        raise _Refused(text)
    whole = int(value)
    return whole if whole == value else value


class _Context:
    """What `make_scanner` reads its settings from: the attributes of a JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = _number
    parse_int = int
    parse_constant = _constant


def _no_default(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not a JSON value")


# The class itself serves as the context: nothing asks it for an instance.
_scan = make_scanner(_Context)  # type: ignore[arg-type]


def _encoder(string: "Callable[[str], str]") -> "Callable[[object, int], tuple[str, ...]]":
    # markers=None: no check for cycles (RecursionError tells); compact separators;
    # neither sort_keys nor skipkeys nor allow_nan.
    return make_encoder(None, _no_default, string, None, ":", ",", False, False, False)


_encode = _encoder(encode_basestring_ascii)


def loads(data: bytes, path: str = "") -> object:
    """The value of the JSON document `data` (RFC 8259, UTF-8).

    `path` names the document in errors. Raises InvalidJSON with line and column,
    both from 1, the column in characters.
    """
    if len(data) > MAX_SIZE:
        raise InvalidJSON(
            f"the document is larger than {MAX_SIZE >> 20} MiB", line=1, column=1, path=path
        )
    try:
        text = data.decode()
        value, end = _scan(text, len(text) - len(text.lstrip(_SPACE)))
        if text[end:].strip(_SPACE):
            raise _Refused("text after the end")
        if b"\\ud" in data or b"\\uD" in data:
            # Encoding fails on half a surrogate pair; such escapes are rare.
            "".join(_encoder(encode_basestring)(value, 0)).encode()
    # SystemError: CPython 3.11's scanner looks its exception up in json.decoder,
    # and finds nothing while that is not imported.
    except (ValueError, StopIteration, SystemError, RecursionError):
        raise _diagnosed(data, path) from None
    return value


def dumps(value: object) -> str:
    """`value` as compact JSON in ASCII, keys in the dict's own order.

    Raises TypeError for what JSON can't hold, ValueError for NaN and Infinity.
    """
    return "".join(_encode(value, 0))


def _diagnosed(data: bytes, path: str) -> InvalidJSON:
    from ocirun.spec.jsonerrors import diagnose  # cold: costs the json package

    message, line, column = diagnose(data)
    return InvalidJSON(message, line=line, column=column, path=path)
