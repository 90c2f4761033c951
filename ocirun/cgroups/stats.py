"""What a container uses, read from the files of its cgroups, in runc's form.

The names are those of runc's `events`, which containerd and Docker read; what runc leaves
out when it is 0 is left out. Each controller is read where it is, v1 or v2. Sources:
cgroups(7); the kernel's admin-guide/cgroup-v1 and cgroup-v2.rst, accounting/psi.rst.
"""

import posix

from ocirun.cgroups.files import CallFailed, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NO_LIMIT = 2**64 - 1
_SECOND = 10**9
# Tables of blkio in v1, by the scheduler that fills them; the first that has any counts.
_MORE = ("sectors", "io_service_time", "io_wait_time", "io_merged", "io_queued", "time")
_BLKIO = (("blkio.bfq.", _MORE), ("blkio.", _MORE), ("blkio.throttle.", ()))
_BLKIO_NAMES = {
    "io_service_bytes": "ioServiceBytesRecursive",
    "io_serviced": "ioServicedRecursive",
    "io_queued": "ioQueueRecursive",
    "io_service_time": "ioServiceTimeRecursive",
    "io_wait_time": "ioWaitTimeRecursive",
    "io_merged": "ioMergedRecursive",
    "time": "ioTimeRecursive",
    "sectors": "sectorsRecursive",
}
_CPUSET_FLAGS = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
    "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip


def read_stats(paths: dict[str, str]) -> "dict[str, Any]":
    """The statistics of a container: the "data" of an event.

    Args:
        paths: the container's directories, from its record. What a controller that is not
            there would tell is missing, or 0.
    """
    return {
        "cpu": _cpu(paths),
        "cpuset": _cpuset(paths),
        "memory": _memory(paths),
        "pids": _pids(paths),
        "blkio": _blkio(paths),
        "hugetlb": _hugetlb(paths),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _cpu(paths: dict[str, str]) -> "dict[str, Any]":
    if "cpu" in paths or "cpuacct" in paths:
        usage = _cpuacct(paths.get("cpuacct", ""))
        told = _table(paths.get("cpu", ""), "cpu.stat")
        throttled = told.get("throttled_time", 0)
    else:
        told = _table(paths.get("", ""), "cpu.stat")
        usage = _some(total=told.get("usage_usec", 0) * 1000)
        usage["kernel"] = told.get("system_usec", 0) * 1000
        usage["user"] = told.get("user_usec", 0) * 1000
        throttled = told.get("throttled_usec", 0) * 1000
    throttling = _some(
        periods=told.get("nr_periods", 0),
        throttledPeriods=told.get("nr_throttled", 0),
        throttledTime=throttled,
    )
    return {"usage": usage, "throttling": throttling, **_pressure(paths, "cpu")}


def _cpuacct(directory: str) -> "dict[str, Any]":
    ticks = posix.sysconf("SC_CLK_TCK")
    told = _table(directory, "cpuacct.stat")
    rows = [line.split() for line in _text(directory, "cpuacct.usage_all").splitlines()[1:]]
    usage = _some(
        total=_number(directory, "cpuacct.usage"),
        percpu=[int(one) for one in _text(directory, "cpuacct.usage_percpu").split()],
        percpu_kernel=[int(row[2]) for row in rows],
        percpu_user=[int(row[1]) for row in rows],
    )
    usage["kernel"] = told.get("system", 0) * _SECOND // ticks
    usage["user"] = told.get("user", 0) * _SECOND // ticks
    return usage


def _cpuset(paths: dict[str, str]) -> "dict[str, Any]":
    """In v2 there is nothing to tell, says runc."""
    directory = paths.get("cpuset", "")
    found: dict[str, Any] = {}
    for name in ("cpus", "mems"):
        numbers = _list(_text(directory, f"cpuset.{name}"))
        if numbers:
            found[name] = numbers
    for name in _CPUSET_FLAGS:
        found[name] = _number(directory, f"cpuset.{name}")
    return found


def _memory(paths: dict[str, str]) -> "dict[str, Any]":
    if "memory" in paths:
        return _memory_v1(paths["memory"])
    directory = paths.get("", "")
    raw = _table(directory, "memory.stat")
    if not raw:
        empty = {"limit": 0, "failcnt": 0}
        return {"usage": empty, "swap": empty, "kernel": empty, "kernelTCP": empty}
    events = _table(directory, "memory.events")
    usage = {
        "limit": _number(directory, "memory.max"),
        **_some(usage=_number(directory, "memory.current"), max=_number(directory, "memory.peak")),
        "failcnt": events.get("max", 0),
    }
    # v1 counts memory and swap together, and so do those who read this.
    swap: dict[str, Any] = {"limit": 0, "failcnt": 0}
    if _text(directory, "memory.swap.current"):
        limit = _number(directory, "memory.swap.max")
        swap = {
            "limit": min(NO_LIMIT, limit + usage["limit"]) if limit != NO_LIMIT else limit,
            "usage": _number(directory, "memory.swap.current") + usage.get("usage", 0),
            "failcnt": _table(directory, "memory.swap.events").get("max", 0),
        }
    return {
        **_some(cache=raw.get("file", 0)),
        "usage": usage,
        "swap": swap,
        "kernel": {"limit": 0, **_some(usage=raw.get("kernel", 0)), "failcnt": 0},
        "kernelTCP": {"limit": 0, **_some(usage=raw.get("sock", 0)), "failcnt": 0},
        "raw": raw,
        **_pressure(paths, "memory"),
        "event_count": events,
    }


def _memory_v1(directory: str) -> "dict[str, Any]":
    raw = _table(directory, "memory.stat")
    found: dict[str, Any] = _some(cache=raw.get("cache", 0))
    for name, part in (
        ("usage", ""),
        ("swap", "memsw."),
        ("kernel", "kmem."),
        ("kernelTCP", "kmem.tcp."),
    ):
        found[name] = {
            "limit": _number(directory, f"memory.{part}limit_in_bytes"),
            **_some(
                usage=_number(directory, f"memory.{part}usage_in_bytes"),
                max=_number(directory, f"memory.{part}max_usage_in_bytes"),
            ),
            "failcnt": _number(directory, f"memory.{part}failcnt"),
        }
    return {**found, **_some(raw=raw)}


def _pids(paths: dict[str, str]) -> dict[str, int]:
    directory = paths.get("pids") or paths.get("", "")
    limit = _text(directory, "pids.max").strip()
    return _some(
        current=_number(directory, "pids.current"),
        limit=int(limit) if limit.isdigit() else 0,  # 0: there is none
    )


def _blkio(paths: dict[str, str]) -> "dict[str, Any]":
    found: dict[str, Any] = {}
    if "blkio" in paths:
        for prefix, more in _BLKIO:
            for name in ("io_serviced", "io_service_bytes", *more):
                rows = _block_rows(_text(paths["blkio"], f"{prefix}{name}_recursive"))
                if rows:
                    found[_BLKIO_NAMES[name]] = rows
            if found:
                break
        return found
    for line in _text(paths.get("", ""), "io.stat").splitlines():
        device, *words = line.split()
        for word in words:
            key, _, value = word.partition("=")
            op = {"r": "Read", "w": "Write"}.get(key[:1], "")
            name = {"bytes": "io_service_bytes", "ios": "io_serviced"}.get(key[1:], "")
            if op and name:
                row = _block_row(device, op, int(value))
                found.setdefault(_BLKIO_NAMES[name], []).append(row)
    return {**found, **_pressure(paths, "io")}


def _block_rows(text: str) -> "list[dict[str, Any]]":
    """Lines such as "8:0 Read 4096", and "8:0 12" of those without an operation."""
    rows = []
    for line in text.splitlines():
        words = line.split()
        if ":" in words[0]:  # not the total
            rows.append(_block_row(words[0], words[1] if len(words) > 2 else "", int(words[-1])))
    return rows


def _block_row(device: str, op: str, value: int) -> "dict[str, Any]":
    major, _, minor = device.partition(":")
    return _some(major=int(major), minor=int(minor), op=op, value=value)


def _hugetlb(paths: dict[str, str]) -> "dict[str, Any]":
    directory = paths.get("hugetlb") or paths.get("", "")
    v1 = "hugetlb" in paths
    current = ".usage_in_bytes" if v1 else ".current"
    found: dict[str, Any] = {}
    for name in _names(directory):
        size = name[8 : -len(current)]
        if name[:8] != "hugetlb." or not name.endswith(current) or "." in size:
            continue
        base = f"hugetlb.{size}."
        told = _table(directory, f"{base}events")
        failures = _number(directory, f"{base}failcnt") if v1 else told.get("max", 0)
        found[size] = {
            **_some(
                usage=_number(directory, name), max=_number(directory, f"{base}max_usage_in_bytes")
            ),
            "failcnt": failures,
        }
    return found


def _pressure(paths: dict[str, str], name: str) -> "dict[str, Any]":
    """Stalls for want of something (v2 alone)."""
    psi: dict[str, Any] = {}
    for line in _text(paths.get("", ""), f"{name}.pressure").splitlines():
        kind, *words = line.split()
        pairs = [word.partition("=") for word in words]
        psi[kind] = {key: int(one) if key == "total" else float(one) for key, _, one in pairs}
    return {"psi": psi} if psi else {}


def _some(**values: "Any") -> "dict[str, Any]":
    """Those that are not 0 or empty."""
    return {key: value for key, value in values.items() if value}


def _text(directory: str, name: str) -> str:
    """What a file says; "" if it is not there, or cannot be read now."""
    try:
        return read(f"{directory}/{name}").decode() if directory else ""
    except CallFailed:
        return ""


def _number(directory: str, name: str) -> int:
    text = _text(directory, name).strip()
    if text == "max":
        return NO_LIMIT
    return int(text) if text.lstrip("-").isdigit() else 0


def _table(directory: str, name: str) -> dict[str, int]:
    """Lines of a name and a number."""
    words = [line.split() for line in _text(directory, name).splitlines()]
    return {word[0]: int(word[1]) for word in words if len(word) == 2 and word[1].isdigit()}


def _list(text: str) -> list[int]:
    """The numbers of a list such as "0-3,7"."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            numbers += range(int(first), int(last or first) + 1)
    return numbers


def _names(directory: str) -> list[str]:
    try:
        return posix.listdir(directory) if directory else []
    except OSError:
        return []
