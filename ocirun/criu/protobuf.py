"""Messages of Protocol Buffers as bytes, as far as CRIU's rpc.proto has them.

A message is a list of (number of the field, value). Whole numbers and booleans become varints,
text and bytes what they are, a list is a message inside. Source: protobuf.dev, "Encoding".
"""

_VARINT, _LENGTH = 0, 2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = list[tuple[int, Any]]


def encode(message: "Message") -> bytes:
    """A message as bytes. Negative numbers are those of 64 bits."""
    out = b""
    for number, value in message:
        if isinstance(value, int):
            out += _varint(number << 3 | _VARINT) + _varint(value & (1 << 64) - 1)
            continue
        if isinstance(value, list):
            data = encode(value)
        else:
            data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        out += _varint(number << 3 | _LENGTH) + _varint(len(data)) + data
    return out


def decode(data: bytes) -> "dict[int, Any]":
    """The fields of a message by their numbers: int or bytes; the last one where one repeats.

    Raises ValueError if that is no message.
    """
    found: dict[int, int | bytes] = {}
    place = 0
    while place < len(data):
        key, place = _read(data, place)
        value, place = _read(data, place)
        if key & 7 == _VARINT:
            found[key >> 3] = value
        elif key & 7 == _LENGTH and place + value <= len(data):
            found[key >> 3] = data[place : place + value]
            place += value
        else:
            raise ValueError(f"no field of a message: {key & 7} at {place}")
    return found


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read(data: bytes, place: int) -> tuple[int, int]:
    """A varint, and the place behind it."""
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
    raise ValueError(f"a number without an end at {place}")
