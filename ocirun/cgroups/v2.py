"""What linux.resources means in the files of cgroup v2; pure.

The spec speaks of v1; the conversions are those of runc and crun. The form of
wishes is v1's. Sources: config-linux.md "Control groups"; the kernel's
admin-guide/cgroup-v2.rst.
"""

from ocirun.cgroups.wishes import (
    Object,
    Wish,
    amount,
    check_memory,
    cpuset,
    huge_pages,
    idle_after,
    idle_before,
    lines,
    pids,
    rdma,
    token,
)
from ocirun.errors import InvalidConfig, Unsupported

__all__ = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma", "unified"]

_DEFAULT_PERIOD = 100_000


def memory(asked: Object) -> list[Wish]:
    """memory.*: limits in bytes, -1 = unlimited. Raises InvalidConfig, Unsupported."""
    for name, nothing in (
        ("kernel", (None, 0, -1)),
        ("kernelTCP", (None, 0, -1)),
        ("swappiness", (None, -1)),  # 0 is a wish: "do not swap"
        ("disableOOMKiller", (None, False)),
    ):
        if asked.get(name) not in nothing:
            raise _v1_only(f"/memory/{name}")
    if asked.get("useHierarchy") is False:
        raise _v1_only("/memory/useHierarchy", "a cgroup v2 is always hierarchical")
    limit, swap = check_memory(asked)
    wishes: list[Wish] = []
    if swap > 0 and limit <= 0:
        raise InvalidConfig(
            "swap is memory plus swap, which cgroup v2 cannot limit without a limit of memory",
            pointer="/linux/resources/memory/swap",
            hint="set /linux/resources/memory/limit as well",
        )
    if swap > 0:
        wishes.append(("/memory/swap", "memory.swap.max", str(swap - limit)))
    elif swap < 0 and limit:
        # Without swap accounting there is no such file, and nothing to lift.
        wishes.append(("/memory/swap", "memory.swap.max", "max", "memory.max", _maximum(limit)))
    elif swap < 0:
        wishes.append(("/memory/swap", "memory.swap.max", "max"))
    elif limit < 0:  # "all unlimited", as in v1, where the one limit includes the other
        wishes.append(("/memory/limit", "memory.swap.max", "max", "memory.max", "max"))
    if limit:
        wishes.append(("/memory/limit", "memory.max", _maximum(limit)))
    reservation = amount(asked, "reservation")
    if reservation:
        wishes.append(("/memory/reservation", "memory.low", _maximum(reservation)))
    return wishes


def cpu(asked: Object) -> list[Wish]:
    """cpu.*: times in microseconds. Raises Unsupported for realtime limits."""
    for name in ("realtimeRuntime", "realtimePeriod"):
        if asked.get(name):
            raise _v1_only(f"/cpu/{name}")
    wishes = idle_before(asked)
    shares = amount(asked, "shares")
    if shares:
        wishes.append(("/cpu/shares", "cpu.weight", str(weight_of(shares))))
    quota, period = amount(asked, "quota"), amount(asked, "period")
    if asked.get("burst") is not None:
        if quota > 0:  # a burst may not be above the quota: lift that first, as in v1
            wishes.append(("/cpu/quota", "cpu.max", "max"))
        wishes.append(("/cpu/burst", "cpu.max.burst", str(asked["burst"])))
    if quota or period:
        value = f"{quota if quota > 0 else 'max'} {period or _DEFAULT_PERIOD}"
        wishes.append(("/cpu/quota" if quota else "/cpu/period", "cpu.max", value))
    return wishes + idle_after(asked)


def hugetlb(asked: list[Object]) -> list[Wish]:
    """hugetlb.SIZE.max in bytes, of pages used and (Linux 5.7) of pages reserved."""
    return huge_pages(asked, "max")


def io(asked: Object) -> list[Wish]:
    """io.*: BFQ's weights as they are, else those of io.cost; throttling in io.max."""
    if asked.get("leafWeight"):
        raise _v1_only("/blockIO/leafWeight")
    wishes: list[Wish] = []
    weight = amount(asked, "weight")
    if weight:
        wishes.append(_io_weight("/blockIO/weight", "", weight))
    for i, device in enumerate(lines(asked, "weightDevice")):
        pointer = f"/blockIO/weightDevice/{i}"
        if device.get("leafWeight"):
            raise _v1_only(pointer + "/leafWeight")
        weight = amount(device, "weight")
        if weight:
            number = f"{device['major']}:{device['minor']} "
            wishes.append(_io_weight(pointer + "/weight", number, weight))
    for name, key in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for i, device in enumerate(lines(asked, name)):
            # 0 takes a limit away in v1, and is no value in v2.
            line = f"{device['major']}:{device['minor']} {key}={device['rate'] or 'max'}"
            wishes.append((f"/blockIO/{name}/{i}", "io.max", line))
    return wishes


def unified(asked: dict[str, str]) -> list[tuple[str, Wish]]:
    """(controller, wish) for each file that is named outright. Raises InvalidConfig."""
    wishes: list[tuple[str, Wish]] = []
    for file, value in asked.items():
        controller, dot, _ = file.partition(".")
        if not dot or "/" in file or "\0" in file:
            raise InvalidConfig(
                f'"{file}" is no name of a cgroup v2 file',
                pointer=f"/linux/resources/unified/{token(file)}",
                hint='use the name of a file in the cgroup, such as "memory.high"',
            )
        wishes.append((controller, (f"/unified/{token(file)}", file, value)))
    return wishes


def weight_of(shares: int) -> int:
    """cpu.weight (1..10000) for v1 shares (2..262144).

    A curve through the minimum, the default (1024 -> 100) and the maximum of both,
    as in runc since 1.3.2 and crun since 1.23; before, the default became 39.
    """
    from math import ceil, log2  # not worth an import where no shares are asked for

    shares = min(max(shares, 2), 262144)
    if shares == 262144:
        return 10000
    steps = log2(shares)
    return ceil(10 ** ((steps * steps + 125 * steps) / 612 - 7 / 34))


def _io_weight(pointer: str, device: str, weight: int) -> Wish:
    """`weight` is 10..1000, the range of BFQ; that of io.cost is 1..10000."""
    scaled = 1 + (weight - 10) * 9999 // 990
    return (pointer, "io.bfq.weight", f"{device}{weight}", "io.weight", f"{device}{scaled}")


def _maximum(value: int) -> str:
    return str(value) if value >= 0 else "max"


def _v1_only(pointer: str, why: str = "cgroup v2 has nothing like it") -> Unsupported:
    return Unsupported(
        f"{pointer.rpartition('/')[2]} cannot be set on this machine: {why}",
        pointer=f"/linux/resources{pointer}",
        hint="remove it, or use a machine with cgroup v1",
    )
