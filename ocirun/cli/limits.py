"""The limits of `update` that are options, as an object like linux.resources. On the hot path.

Names and units are runc's: numbers, and for memory also 64M, 1.5G and the like (of 1024).
"""

from ocirun.errors import UsageError
from ocirun.runtime.update import Source

_UNITS = "KMGTP"

# Value of an option -> where it goes, and whether it may be below 0.
_NUMBERS = {
    "blkio_weight": ("blockIO", "weight", False),
    "cpu_period": ("cpu", "period", False),
    "cpu_quota": ("cpu", "quota", True),
    "cpu_burst": ("cpu", "burst", False),
    "cpu_share": ("cpu", "shares", False),
    "cpu_rt_period": ("cpu", "realtimePeriod", False),
    "cpu_rt_runtime": ("cpu", "realtimeRuntime", True),
    "cpu_idle": ("cpu", "idle", True),
    "pids_limit": ("pids", "limit", True),
}
_SIZES = {
    "memory": ("memory", "limit"),
    "memory_reservation": ("memory", "reservation"),
    "memory_swap": ("memory", "swap"),
}
_TEXTS = {"cpuset_cpus": ("cpu", "cpus"), "cpuset_mems": ("cpu", "mems")}


def source_of(values: dict[str, str]) -> Source:
    """The limits that the options ask for; those that are "" ask for nothing.

    Raises UsageError.
    """
    resources: dict[str, dict[str, object]] = {}
    options = {
        "/linux/intelRdt/l3CacheSchema": "--l3-cache-schema",
        "/linux/intelRdt/memBwSchema": "--mem-bw-schema",
    }
    for key, text in values.items():
        if not text:
            continue
        option = "--" + key.replace("_", "-")
        value: object = text
        if key in _NUMBERS:
            section, name, signed = _NUMBERS[key]
            value = _number(option, text, signed)
            if key == "pids_limit" and not value:
                continue  # as in runc: not asked for
        elif key in _SIZES:
            section, name = _SIZES[key]
            value = _size(option, text)
        else:
            section, name = _TEXTS[key]
        resources.setdefault(section, {})[name] = value
        options[f"/linux/resources/{section}/{name}"] = option
    return Source(resources, "the command line", options=options)


def _number(option: str, text: str, signed: bool) -> int:
    digits = text[1:] if signed and text[:1] == "-" else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        what = "a whole number" if signed else "a whole number from 0 on"
        raise UsageError(f"invalid value for {option}: {text!r} is not {what}")
    return int(text)


def _size(option: str, text: str) -> int:
    """Bytes. -1 is no limit."""
    if text == "-1":
        return -1
    number = text.upper()
    if number[-1:] == "B":
        number = number[:-1]
    if number[-1:] == "I":
        number = number[:-1]
    factor = 1
    if number and number[-1] in _UNITS:
        factor = 1024 ** (1 + _UNITS.index(number[-1]))
        number = number[:-1]
    number = number.rstrip(" ")
    whole, dot, part = number.partition(".")
    good = all(one.isascii() and one.isdigit() for one in ((whole, part) if dot else (whole,)))
    if not good or len(number) > 20:
        raise UsageError(
            f"invalid value for {option}: invalid size: {text!r}",
            hint="give a number of bytes, or 512K, 64M, 1.5G, ..., or -1 for no limit",
        )
    return int(whole) * factor + (int(part) * factor // 10 ** len(part) if dot else 0)
