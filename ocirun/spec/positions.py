"""Where in the text of a JSON document a value stands. Cold.

Belongs here: JSON pointer (RFC 6901) -> line and column. Does not belong here:
telling whether the text is JSON (`fastjson`); of a text that is not, what can be
found is found.
"""

import json
import re
from bisect import bisect_left

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)


class Index:
    """The offset of every value and of every property's name in a JSON text.

    Attributes:
        text: the document.
        values: JSON pointer -> offset of the value. Of duplicate keys the last.
        names: JSON pointer -> offset of the property's name; array items have none.
        duplicates: (JSON pointer, offset) of every name that repeats an earlier one.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.values: dict[str, int] = {}
        self.names: dict[str, int] = {}
        self.duplicates: list[tuple[str, int]] = []
        self.ends = [match.start() for match in re.finditer("\n", text)]  # of the lines
        self._scan()

    def locate(self, pointer: str) -> tuple[int, int]:
        """Line and column, from 1, in characters, of the value at `pointer`.

        For a value that is not there, those of the nearest ancestor that is: of its
        name, if it has one.
        """
        if pointer in self.values:
            return self._place(self.values[pointer])
        while pointer not in self.values and pointer:
            pointer = pointer.rpartition("/")[0]
        offset = self.names.get(pointer, self.values.get(pointer, 0))
        return self._place(offset)

    def _place(self, offset: int) -> tuple[int, int]:
        number = bisect_left(self.ends, offset)
        return number + 1, offset - (self.ends[number - 1] if number else -1)

    def _scan(self) -> None:
        pointer = ""  # of the value that is read next
        # The containers around it: pointer, and in an array the number of the item.
        around: list[tuple[str, int | None]] = []
        named = True  # whether the next string is a value; else it is a property's name
        for match in _TOKEN.finditer(self.text):
            token, offset = match.group(), match.start()
            if token in "]}":
                if not around:
                    return
                pointer = around.pop()[0]
            elif token == ",":
                if not around:
                    return
                parent, number = around[-1]
                named = number is not None
                if number is not None:
                    around[-1] = (parent, number + 1)
                    pointer = f"{parent}/{number + 1}"
            elif not named and token[0] == '"':
                pointer = f"{around[-1][0]}/{_token(token)}"
                self._name(pointer, offset)
                named = True
            elif token != ":":
                self.values[pointer] = offset
                if token in "[{":
                    around.append((pointer, 0 if token == "[" else None))
                    pointer, named = (f"{pointer}/0", True) if token == "[" else (pointer, False)

    def _name(self, pointer: str, offset: int) -> None:
        if pointer in self.names:
            self.duplicates.append((pointer, offset))
            for table in (self.values, self.names):
                for gone in [p for p in table if p.startswith(f"{pointer}/")]:
                    del table[gone]
        self.names[pointer] = offset


def locate(text: str, pointer: str) -> tuple[int, int]:
    """Line and column, from 1, of the value at the JSON pointer in the JSON text.

    See `Index.locate`; for several pointers into one text, keep an Index.
    """
    return Index(text).locate(pointer)


def _token(string: str) -> str:
    try:
        name = str(json.loads(string, strict=False))
    except ValueError:
        name = string[1:-1]
    return name.replace("~", "~0").replace("/", "~1")
