"""Reads /proc/*/mountinfo, as the probe reports it from inside a container (proc(5))."""

from dataclasses import dataclass


@dataclass
class Mount:
    """One line of mountinfo."""

    root: str
    point: str
    flags: set[str]
    propagation: set[str]
    type: str
    source: str
    super: set[str]

    @property
    def peers(self) -> set[str]:
        """Kinds of propagation: "shared", "master", "unbindable"; empty = private."""
        return {item.split(":")[0] for item in self.propagation}


def parse(text: str) -> list[Mount]:
    mounts = []
    for line in text.splitlines():
        fields = line.split(" ")  # the source may be empty
        dash = fields.index("-")
        mounts.append(
            Mount(
                root=fields[3],
                point=fields[4],
                flags=set(fields[5].split(",")),
                propagation=set(fields[6:dash]),
                type=fields[dash + 1],
                source=fields[dash + 2],
                super=set(fields[dash + 3].split(",")),
            )
        )
    return mounts


def find(text: str, point: str) -> Mount:
    """The uppermost mount at that mount point."""
    found = [m for m in parse(text) if m.point == point]
    assert found, f"nothing is mounted on {point}:\n{text}"
    return found[-1]
