"""Step and Plan: the plain data that the compiler writes and the executor reads.

A step is one prepared action with the JSON pointer that asked for it. Nothing
here does anything; `plan.describe` puts steps into words, `executor` and
`cgroups` perform them.
"""


class Step:
    """One action of a plan.

    Attributes:
        op: name of the operation; key of the executor's table and of the words
            in `plan.describe`.
        pointer: JSON pointer of the property that asked for it ("" = ocirun's
            own doing, needed by every container).
        args: plain values (str, int, bytes, tuple), as the operation defines.
    """

    __slots__ = ("args", "op", "pointer")

    def __init__(self, op: str, pointer: str, *args: object) -> None:
        self.op = op
        self.pointer = pointer
        self.args = args

    def __repr__(self) -> str:
        return f"Step({self.op!r}, {self.pointer!r}, {', '.join(map(repr, self.args))})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Step):
            return NotImplemented
        return (self.op, self.pointer, self.args) == (other.op, other.pointer, other.args)

    def __hash__(self) -> int:
        return hash((self.op, self.pointer, self.args))
