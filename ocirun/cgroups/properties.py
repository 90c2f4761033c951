"""Properties of a systemd unit: limits, device rules and annotations in systemd's words; pure.

A property is (name, D-Bus signature, value, version of systemd that knows it, JSON
pointer that asked for it). An older systemd is not told; the files are written in
any case. Sources: systemd.resource-control(5), org.freedesktop.systemd1(5).
"""

from ocirun.cgroups.wishes import token
from ocirun.errors import InvalidConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ocirun.cgroups.devices import Rule
    from ocirun.plan.step import Step

    Property = tuple[str, str, object, int, str]

ANNOTATION = "org.systemd.property."
INFINITY = 2**64 - 1
_MOST_CPUS = 8192
_PERIOD = 100_000  # the kernel's default, microseconds
_SECOND = 1_000_000
_GRAIN = 10_000  # systemd counts in percents of a CPU
# What ocirun alone decides: these say which processes are in the scope, and where it is.
_RESERVED = ("PIDs", "Slice", "Delegate")


def from_settings(settings: "Iterable[Step]") -> "list[Property]":
    """The properties for writes to files of cgroups. Files that systemd knows nothing of are
    left out, as are those of single block devices, which it leaves alone.
    """
    found: list[Property] = []
    quota, period, pointer = 0, 0, ""
    for step in settings:
        if step.op != "cgroup-write":
            continue
        for path, value in zip(step.args[::2], step.args[1::2], strict=True):
            name, text = str(path).rpartition("/")[2], str(value)
            if name in _FILES:
                known, signature, convert, version = _FILES[name]
                converted = convert(text)
                if converted is not None:
                    found.append((known, signature, converted, version, step.pointer))
            elif name == "cpu.max":
                first, _, second = text.partition(" ")
                quota, period = _limit(first) or 0, _limit(second) or 0
                pointer = step.pointer
            elif name == "cpu.cfs_quota_us":
                quota, pointer = _limit(text) or 0, step.pointer
            elif name == "cpu.cfs_period_us":
                period, pointer = _limit(text) or 0, pointer or step.pointer
    return found + _cpu_time(quota, period, pointer)


def _cpu_time(quota: int, period: int, pointer: str) -> "list[Property]":
    """CPU time as systemd counts it: microseconds per second, in steps of a hundredth."""
    found: list[Property] = []
    if period:
        found.append(("CPUQuotaPeriodUSec", "t", period, 242, pointer))
    if quota or period:
        share = INFINITY
        if 0 < quota < INFINITY:
            share = -(-quota * _SECOND // (period or _PERIOD))
            share = -(-share // _GRAIN) * _GRAIN
        found.append(("CPUQuotaPerSecUSec", "t", share, 0, pointer))
    return found


def without_limit(one: "Property") -> "Property":
    """The same property with the value that it has when nobody has set it."""
    name, signature, _, version, pointer = one
    empty: object = {"ay": b"", "s": "auto", "a(ss)": ()}.get(signature, INFINITY)
    if name in ("MemoryLow", "MemoryMin"):
        empty = 0
    return (name, signature, empty, version, pointer)


def _limit(text: str) -> int | None:
    """A number; None for what is none, which the kernel will refuse."""
    if text in ("max", "-1"):
        return INFINITY
    return int(text) if text.isdigit() else None


def _within(lowest: int, highest: int) -> "Callable[[str], int | None]":
    def convert(text: str) -> int | None:
        return min(max(int(text), lowest), highest) if text.isdigit() else None

    return convert


def _idle(text: str) -> int | None:
    return 0 if text == "1" else None


def bits(text: str) -> bytes | None:
    """The bit mask of a list such as "0-3,7"; None if it is none."""
    mask = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            return None
        low, high = int(first), int(last or first)
        if not low <= high < _MOST_CPUS:
            return None
        mask |= (1 << high + 1) - (1 << low)
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


# File -> property, signature, conversion, version; "t" is an unsigned number of 64 bits.
_FILES: "dict[str, tuple[str, str, Callable[[str], object], int]]" = {
    "memory.max": ("MemoryMax", "t", _limit, 231),
    "memory.high": ("MemoryHigh", "t", _limit, 231),
    "memory.low": ("MemoryLow", "t", _limit, 231),
    "memory.min": ("MemoryMin", "t", _limit, 240),
    "memory.swap.max": ("MemorySwapMax", "t", _limit, 232),
    "cpu.weight": ("CPUWeight", "t", _within(1, 10000), 232),
    "cpu.idle": ("CPUWeight", "t", _idle, 252),
    "pids.max": ("TasksMax", "t", _limit, 227),
    "cpuset.cpus": ("AllowedCPUs", "ay", bits, 244),
    "cpuset.mems": ("AllowedMemoryNodes", "ay", bits, 244),
    "io.weight": ("IOWeight", "t", _within(1, 10000), 230),
    "memory.limit_in_bytes": ("MemoryLimit", "t", _limit, 0),
    "cpu.shares": ("CPUShares", "t", _within(2, 262144), 0),
    "blkio.weight": ("BlockIOWeight", "t", _within(10, 1000), 0),
}


def from_rules(rules: "Iterable[Rule]") -> "list[Property]":
    """DevicePolicy and DeviceAllow: no less than the rules allow.

    More where a rule takes a part out of a wider one, which systemd has no words for. The rules
    themselves are carried out beside them (a device needs both). systemd has to know them,
    because it would put its own in their place on v1.
    """
    allowed: dict[tuple[str, int, int], str] = {}
    for kind, major, minor, access, allow in rules:
        for name in {"c": ("char",), "b": ("block",)}.get(kind, ("char", "block")):
            if allow:
                device = (name, major, minor if major >= 0 else -1)
                have = allowed.get(device, "") + access
                allowed[device] = "".join(one for one in "rwm" if one in have)
                continue
            for device, have in allowed.items():
                if device[0] == name and major in (-1, device[1]) and minor in (-1, device[2]):
                    allowed[device] = "".join(one for one in have if one not in access)
    everything = all(allowed.get((name, -1, -1)) == "rwm" for name in ("char", "block"))
    listed = tuple((_device(*device), access) for device, access in allowed.items() if access)
    policy, devices = ("auto", ()) if everything else ("strict", listed)
    return [
        ("DevicePolicy", "s", policy, 240, ""),
        ("DeviceAllow", "a(ss)", devices, 240, ""),
    ]


def _device(kind: str, major: int, minor: int) -> str:
    """Devices in systemd's words: all of a kind, all of a major number, or one."""
    if minor >= 0:
        return f"/dev/{kind}/{major}:{minor}"
    return f"{kind}-{major}" if major >= 0 else f"{kind}-*"


def from_annotations(annotations: dict[str, str]) -> "list[Property]":
    """The annotations org.systemd.property.NAME, whose values are GVariants in text form.

    NAME may end with Sec in place of USec; the value is in seconds then. Raises InvalidConfig.
    """
    found: list[Property] = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        from ocirun.cgroups.gvariant import parse

        name, pointer = key[len(ANNOTATION) :], f"/annotations/{token(key)}"
        if len(name) < 3 or not (name.isascii() and name.isalpha()) or name in _RESERVED:
            raise InvalidConfig(
                f'"{name}" is no property of a systemd unit that can be set', pointer=pointer
            )
        try:
            signature, value = parse(text)
        except ValueError as error:
            raise InvalidConfig(
                f"the value of {key} is no GVariant: {error}",
                pointer=pointer,
                hint="for instance true, uint64 5, 'text', ['a', 'b']",
            ) from None
        if name.endswith("Sec") and not name.endswith("USec"):
            if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
                raise InvalidConfig(f"{name} wants a number of seconds", pointer=pointer)
            name, signature, value = name[:-3] + "USec", "t", int(value * _SECOND)
        found.append((name, signature, value, 0, pointer))
    return found
