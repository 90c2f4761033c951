"""What linux.resources means in the files of cgroup v1; pure.

A function per controller: the object of the spec -> wishes, in the order of writing.
Sources: config-linux.md "Control groups"; the kernel's admin-guide/cgroup-v1.

As in runc, 0 for a limit of memory, for shares, quota or period means "not set".
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
)

__all__ = ["blkio", "cpu", "cpuset", "hugetlb", "memory", "net_cls", "net_prio", "pids", "rdma"]

_MEMSW = "memory.memsw.limit_in_bytes"


def memory(asked: Object) -> list[Wish]:
    """memory.*: limits in bytes, -1 = unlimited. Raises InvalidConfig."""
    limit, swap = check_memory(asked)
    wishes: list[Wish] = []
    if limit and swap:
        # The kernel keeps limit <= memory+swap at every moment. With the latter
        # lifted first, the two can follow in any state of the cgroup.
        wishes.append(("/memory/swap", _MEMSW, "-1"))
    elif limit < 0:  # "all unlimited", as in runc; without swap accounting there is one file
        wishes.append(("/memory/limit", _MEMSW, "-1", "memory.limit_in_bytes", "-1"))
    if limit:
        wishes.append(("/memory/limit", "memory.limit_in_bytes", str(limit)))
    if swap and (swap > 0 or not limit):
        wishes.append(("/memory/swap", _MEMSW, str(swap)))
    for name, file in (
        ("reservation", "memory.soft_limit_in_bytes"),
        ("kernel", "memory.kmem.limit_in_bytes"),
        ("kernelTCP", "memory.kmem.tcp.limit_in_bytes"),
    ):
        value = amount(asked, name)
        if value:
            wishes.append((f"/memory/{name}", file, str(value)))
    swappiness = asked.get("swappiness")
    if swappiness is not None:
        wishes.append(("/memory/swappiness", "memory.swappiness", str(swappiness)))
    disabled = asked.get("disableOOMKiller")
    if disabled is not None:  # false as well: a new cgroup has what its parent has
        wishes.append(("/memory/disableOOMKiller", "memory.oom_control", str(int(bool(disabled)))))
    hierarchy = asked.get("useHierarchy")
    if hierarchy is not None:
        value = int(bool(hierarchy))
        wishes.append(("/memory/useHierarchy", "memory.use_hierarchy", str(value)))
    return wishes


def cpu(asked: Object) -> list[Wish]:
    """cpu.*: times in microseconds.

    Period and burst are compared with the quota at every moment. With the quota
    lifted first, all three can follow in any state of the cgroup.
    """
    quota, period = amount(asked, "quota"), amount(asked, "period")
    wishes = idle_before(asked)
    if amount(asked, "shares"):
        wishes.append(("/cpu/shares", "cpu.shares", str(asked["shares"])))
    if quota > 0 and (period or asked.get("burst") is not None):
        wishes.append(("/cpu/quota", "cpu.cfs_quota_us", "-1"))
    if period:
        wishes.append(("/cpu/period", "cpu.cfs_period_us", str(period)))
    if asked.get("burst") is not None:
        wishes.append(("/cpu/burst", "cpu.cfs_burst_us", str(asked["burst"])))
    if quota:
        wishes.append(("/cpu/quota", "cpu.cfs_quota_us", str(quota)))
    for name, file in (
        ("realtimePeriod", "cpu.rt_period_us"),
        ("realtimeRuntime", "cpu.rt_runtime_us"),
    ):
        if amount(asked, name):
            wishes.append((f"/cpu/{name}", file, str(asked[name])))
    return wishes + idle_after(asked)


def hugetlb(asked: list[Object]) -> list[Wish]:
    """hugetlb.SIZE.limit_in_bytes in bytes, of pages used and (Linux 5.7) of pages reserved."""
    return huge_pages(asked, "limit_in_bytes")


def blkio(asked: Object) -> list[Wish]:
    """blkio.*: weights (of CFQ, else of BFQ) and throttling per device."""
    wishes: list[Wish] = []
    for name, file in (("weight", "weight"), ("leafWeight", "leaf_weight")):
        value = amount(asked, name)
        if value:
            wishes.append(
                (f"/blockIO/{name}", f"blkio.{file}", str(value), f"blkio.bfq.{file}", str(value))
            )
    for i, device in enumerate(lines(asked, "weightDevice")):
        number = f"{device['major']}:{device['minor']}"
        for name, file in (("weight", "weight_device"), ("leafWeight", "leaf_weight_device")):
            value = amount(device, name)
            if value:
                line = f"{number} {value}"
                pointer = f"/blockIO/weightDevice/{i}/{name}"
                wishes.append((pointer, f"blkio.{file}", line, f"blkio.bfq.{file}", line))
    for name, file in (
        ("throttleReadBpsDevice", "read_bps_device"),
        ("throttleWriteBpsDevice", "write_bps_device"),
        ("throttleReadIOPSDevice", "read_iops_device"),
        ("throttleWriteIOPSDevice", "write_iops_device"),
    ):
        for i, device in enumerate(lines(asked, name)):
            line = f"{device['major']}:{device['minor']} {device['rate']}"
            wishes.append((f"/blockIO/{name}/{i}", f"blkio.throttle.{file}", line))
    return wishes


def net_cls(asked: Object) -> list[Wish]:
    """net_cls.classid, a number of 32 bits."""
    value = asked.get("classID")
    return [] if value is None else [("/network/classID", "net_cls.classid", str(value))]


def net_prio(asked: Object) -> list[Wish]:
    """net_prio.ifpriomap: priority of traffic per interface of the host."""
    return [
        (f"/network/priorities/{i}", "net_prio.ifpriomap", f"{one['name']} {one['priority']}")
        for i, one in enumerate(lines(asked, "priorities"))
    ]
