"""Wishes: what a spec asks of the files of a cgroup; what both versions share of them; pure.

A wish is (JSON pointer below /linux/resources, file, value), or with two more
members, a second file and value for kernels that do not have the first.
"""

from ocirun.errors import InvalidConfig

Object = dict[str, object]
Wish = tuple[str, str, str] | tuple[str, str, str, str, str]


def amount(asked: Object, name: str) -> int:
    """An integer of the spec; 0 if it is absent or null."""
    value = asked.get(name) or 0
    assert isinstance(value, int)  # the schema's verdict came before
    return value


def lines(asked: Object, name: str) -> list[Object]:
    """An array of objects of the spec; [] if it is absent or null."""
    value = asked.get(name) or []
    assert isinstance(value, list)
    return value


def check_memory(asked: Object) -> tuple[int, int]:
    """(limit, limit of memory+swap) in bytes; -1 is unlimited, 0 not set. Raises InvalidConfig."""
    limit, swap = amount(asked, "limit"), amount(asked, "swap")
    if swap > 0 and limit > swap:
        raise InvalidConfig(
            f"swap ({swap}) is memory plus swap, so it cannot be below the limit ({limit})",
            pointer="/linux/resources/memory/swap",
            hint=f"to allow no swap at all, set it to {limit}",
        )
    return limit, swap


def cpuset(asked: Object) -> list[Wish]:
    """cpuset.*: lists such as "0-3,7"."""
    return [
        (f"/cpu/{name}", f"cpuset.{name}", str(asked[name]))
        for name in ("cpus", "mems")
        if asked.get(name)
    ]


def pids(asked: Object) -> list[Wish]:
    """pids.max; a limit below 0 is none.

    0 allows no process but init, as 1 does: it is written as 1, because a process
    cannot be born in a v2 cgroup with 0 (runc 1.4 does it for systemd's sake).
    """
    limit = asked.get("limit")
    if limit is None:
        return []
    value = amount(asked, "limit")
    return [("/pids/limit", "pids.max", str(max(value, 1)) if value >= 0 else "max")]


def idle_before(asked: Object) -> list[Wish]:
    """cpu.idle = 0, which must come before shares: an idle cgroup cannot have any."""
    return [("/cpu/idle", "cpu.idle", "0")] if asked.get("idle") == 0 else []


def idle_after(asked: Object) -> list[Wish]:
    """Any other cpu.idle, which must come after shares."""
    idle = asked.get("idle")
    return [] if idle in (None, 0) else [("/cpu/idle", "cpu.idle", str(idle))]


def huge_pages(asked: list[Object], limit: str) -> list[Wish]:
    """Limits per size of page; `limit` is what the files are called in one version.

    A limit of use alone kills the process that touches a page it had reserved; a
    limit of reservations lets its mmap fail instead. Older kernels know only the first.
    """
    wishes: list[Wish] = []
    for i, one in enumerate(asked):
        used = f"hugetlb.{one['pageSize']}.{limit}"
        reserved = f"hugetlb.{one['pageSize']}.rsvd.{limit}"
        pointer, value = f"/hugepageLimits/{i}", str(one["limit"])
        wishes += [(pointer, used, value), (pointer, reserved, value, used, value)]
    return wishes


def rdma(asked: dict[str, Object]) -> list[Wish]:
    """rdma.max, the same file in both versions."""
    wishes: list[Wish] = []
    for device, limits in asked.items():
        words = [device]
        for name, key in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if limits.get(name) is not None:
                words.append(f"{key}={limits[name]}")
        if len(words) > 1:
            wishes.append((f"/rdma/{token(device)}", "rdma.max", " ".join(words)))
    return wishes


def token(key: str) -> str:
    """A key as part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
