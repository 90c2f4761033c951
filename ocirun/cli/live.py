"""The table that `events` shows on a terminal, for as long as a container lives. Cold."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from ocirun.api import Container

_NO_LIMIT = 1 << 62
_COLUMNS = ("CPU", "MEMORY", "LIMIT", "PIDS", "READ", "WRITTEN", "OUT OF MEMORY")


def show(container: "Container", interval: float) -> None:
    """Show what a container uses, refreshed every `interval` seconds, until it ends."""
    seen = container.stats()
    kills = 0
    with Live(table(container.id, seen, None, interval, kills), console=Console()) as live:
        before = None
        for event in container.events(interval):
            if event["type"] == "oom":
                kills += 1
            else:
                before, seen = seen, event["data"]
            live.update(table(container.id, seen, before, interval, kills))


def table(
    name: str, seen: dict[str, Any], before: dict[str, Any] | None, interval: float, kills: int
) -> Table:
    """What is seen, and of CPU time what was used since the time before."""
    result = Table("CONTAINER", *_COLUMNS, box=None, pad_edge=False)
    cpu = "-"
    if before is not None:
        used = _total(seen) - _total(before)
        cpu = f"{used / interval / 1e7:.1f} %"
    memory = seen["memory"]["usage"]
    limit = memory.get("limit", 0)
    result.add_row(
        name,
        cpu,
        size(memory.get("usage", 0)),
        size(limit) if 0 < limit < _NO_LIMIT else "none",
        str(seen["pids"].get("current", 0)),
        size(_bytes(seen, "Read")),
        size(_bytes(seen, "Write")),
        str(kills),
        style="red" if kills else "",
    )
    return result


def _total(seen: dict[str, Any]) -> int:
    total: int = seen["cpu"]["usage"].get("total", 0)
    return total


def _bytes(seen: dict[str, Any], op: str) -> int:
    rows = seen["blkio"].get("ioServiceBytesRecursive", ())
    return sum(row.get("value", 0) for row in rows if row.get("op") == op)


def size(count: int) -> str:
    """Bytes in a short form: 1023 B, 1.5 MiB."""
    if count < 1024:
        return f"{count} B"
    number = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if number < 1024:
            return f"{number:.1f} {unit}"
    return f"{number / 1024:.1f} TiB"
