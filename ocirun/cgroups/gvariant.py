"""GVariant's text form -> D-Bus signature and value; pure.

Engines pass properties of systemd units in annotations in this form (see the GLib
manual, "GVariant Text Format"): true, 5, uint64 5, 2.5, 'text', ['a', 'b'],
('a', 1), @as []. Dictionaries, maybes, variants and arrays in tuples are not among them.
"""

_TYPES = {
    "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x",
    "uint64": "t", "double": "d", "string": "s", "boolean": "b", "objectpath": "o",
    "signature": "g",
}  # fmt: skip
_RANGES = {
    "y": (0, 2**8), "n": (-(2**15), 2**15), "q": (0, 2**16), "i": (-(2**31), 2**31),
    "u": (0, 2**32), "x": (-(2**63), 2**63), "t": (0, 2**64),
}  # fmt: skip
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_ENDS = " \t\n,()[]'\""
_DEEPEST = 8


def parse(text: str) -> tuple[str, object]:
    """(signature, value). Arrays and tuples are Python tuples. Raises ValueError."""
    reader = _Reader(text)
    found = reader.value("", 0)
    if reader.peek():
        raise ValueError(f"{reader.text[reader.at :][:20]!r} is too much")
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def word(self, ends: str = _ENDS) -> str:
        """All up to the next of these characters."""
        begin = self.at
        while (one := self.text[self.at : self.at + 1]) and one not in ends:
            self.at += 1
        return self.text[begin : self.at]

    def value(self, wanted: str, depth: int) -> tuple[str, object]:
        """The next value; of the signature `wanted`, or of the usual one if that is ""."""
        if depth > _DEEPEST:
            raise ValueError("too many brackets")
        first = self.peek()
        if first == "@":
            self.at += 1
            return self.value(self.word(" \t\n"), depth + 1)
        if first in ("'", '"'):
            return _fit(wanted, "sog", "s"), self._string(first)
        if first == "[":
            return self._array(wanted, depth)
        if first == "(":
            return self._tuple(depth)
        word = self.word()
        if word in _TYPES:
            return self.value(_TYPES[word], depth + 1)
        if word in ("true", "false"):
            return _fit(wanted, "b", "b"), word == "true"
        return _number(word, wanted)

    def _string(self, quote: str) -> str:
        found = ""
        self.at += 1
        while (one := self.text[self.at : self.at + 1]) != quote:
            self.at += 1
            if one == "\\":
                one = _ESCAPES.get(self.text[self.at : self.at + 1], "")
                self.at += 1
            if not one:
                raise ValueError("a string has no end, or an unknown escape")
            found += one
        self.at += 1
        return found

    def _another(self, end: str) -> bool:
        """Whether there is another member; the comma before it is read."""
        if self.peek() == ",":
            self.at += 1
        if self.peek() == end:
            self.at += 1
            return False
        return True

    def _array(self, wanted: str, depth: int) -> tuple[str, object]:
        if wanted and wanted[0] != "a":
            raise ValueError(f"an array is not of type {wanted}")
        self.at += 1
        inner, found = wanted[1:], []
        while self._another("]"):
            inner, one = self.value(inner, depth + 1)
            found.append(one)
        if not inner:
            raise ValueError("an empty array needs its type, as in @as []")
        return "a" + inner, tuple(found)

    def _tuple(self, depth: int) -> tuple[str, object]:
        self.at += 1
        signature, found = "", []
        while self._another(")"):
            inner, one = self.value("", depth + 1)
            if inner[0] == "a":
                raise ValueError("an array in a tuple")
            signature += inner
            found.append(one)
        return f"({signature})", tuple(found)


def _fit(wanted: str, possible: str, usual: str) -> str:
    if wanted and wanted not in possible:
        raise ValueError(f"a value is not of type {wanted}")
    return wanted or usual


def _number(word: str, wanted: str) -> tuple[str, object]:
    try:
        if wanted == "d" or (not wanted and "." in word):
            return "d", float(word)
        value = int(word, 0)
    except ValueError:
        raise ValueError(f"{word!r} is no value") from None
    signature = wanted or "i"
    low, high = _RANGES.get(signature, (0, 0))
    if not low <= value < high:
        raise ValueError(f"{word} is out of range, or not of type {signature}")
    return signature, value
