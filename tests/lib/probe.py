"""What the probe reports (tests/probe/probe.c), as a test compares it.

`witness` prepares a report: mounts by their mount point. `differs` compares it with what a
case expects: an object is compared member by member, and only those that are named; a
function says whether it likes the value.
"""

from typing import Any

from . import mountinfo


def witness(report: dict[str, Any]) -> dict[str, Any]:
    """The report with "mounts": mount point -> its uppermost mount, with sorted lists."""
    mounts = {
        mount.point: {
            "type": mount.type,
            "source": mount.source,
            "root": mount.root,
            "flags": sorted(mount.flags),
            "peers": sorted(mount.peers),
            "super": sorted(mount.super),
        }
        for mount in mountinfo.parse(report["mountinfo"])
    }
    return {**report, "mounts": mounts}


def differs(seen: Any, expected: Any, where: str = "") -> list[str]:
    """Where and how `seen` is not as expected; [] if it is."""
    if isinstance(expected, dict):
        if not isinstance(seen, dict):
            return [f"{where}: {seen!r} is no object"]
        return [
            line
            for key, value in expected.items()
            for line in differs(seen.get(key), value, f"{where}>{key}")
        ]
    if callable(expected):
        return [] if expected(seen) else [f"{where}: {seen!r} is not {expected!r}"]
    return [] if seen == expected else [f"{where}: {seen!r}, expected {expected!r}"]


class Has:
    """Likes what contains all the words, and none of those in `without`."""

    def __init__(self, *words: Any, without: tuple[Any, ...] = ()) -> None:
        self.words = words
        self.without = without

    def __call__(self, seen: Any) -> bool:
        return (
            seen is not None
            and all(word in seen for word in self.words)
            and not any(word in seen for word in self.without)
        )

    def __repr__(self) -> str:
        return f"with {self.words}" + (f" and without {self.without}" if self.without else "")


class Not:
    """Likes every value but this one."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, seen: Any) -> bool:
        return bool(seen != self.value)

    def __repr__(self) -> str:
        return f"other than {self.value!r}"
