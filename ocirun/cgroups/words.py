"""Steps on cgroups in words, for `ocirun explain` and for errors. Cold: never on the hot path."""

import errno

from ocirun.cgroups.devices import Rule
from ocirun.cgroups.devices import words as rule_words
from ocirun.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.cgroups.properties import Property


def describe(step: Step) -> str:
    """A step as an imperative clause, such as "set pids.max to 100 in /sys/fs/cgroup/pids/x"."""
    return _WORDS[step.op](*step.args)


def _mkdir(directory: str) -> str:
    return f"make the cgroup {directory}"


def _ensure(directory: str) -> str:
    return f"make the cgroup {directory}, unless systemd has made it"


def _scope(unit: str, slice_: str, bus: str, properties: "tuple[Property, ...]", own: str) -> str:
    parts = [f"{name}={_value(name, value)}" for name, _, value, _, _ in properties]
    return f"have systemd make {unit} in {slice_} ({', '.join(parts)})"


def _value(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return f"0b{int.from_bytes(value, 'little'):b}"
    if isinstance(value, tuple):
        return "[" + " ".join(map(":".join if name == "DeviceAllow" else str, value)) + "]"
    return "infinity" if value == 2**64 - 1 else str(value)


def _enable(directory: str, needed: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    rest = [controller for controller in wanted if controller not in needed]
    parts = []
    if needed:
        parts.append("the controllers " + ", ".join(needed))
    if rest:
        parts.append("where it can be had " + ", ".join(rest))
    return f"enable {', and '.join(parts)} for the cgroups below {directory}"


def _inherit(directory: str, top: str) -> str:
    return f"give {directory} the CPUs and memory nodes of its parent"


def _write(file: str, value: str, other: str = "", other_value: str = "") -> str:
    directory, _, name = file.rpartition("/")
    if name in ("devices.allow", "devices.deny"):
        return f"{name[8:]} device {value} in {directory}"
    if name == "memory.memsw.limit_in_bytes" and value == "-1":
        return f"lift {name} in {directory}"
    text = f"set {name} to {value}"
    if other:
        text += f", or {other.rpartition('/')[2]} to {other_value},"
    return f"{text} in {directory}"


def _check_usage(file: str, limit: int) -> str:
    directory, _, name = file.rpartition("/")
    return f"check that {name} is at most {limit} in {directory}"


def _devices(directory: str, rules: tuple[Rule, ...]) -> str:
    text = "; ".join(map(rule_words, rules))
    return f"attach a device program to {directory} ({text})"


def _chown(directory: str, user: int) -> str:
    return f"give {directory} to user {user}, with the files that may be delegated"


def _join(directory: str, version: int) -> str:
    return f"put the process into {directory}"


_WORDS: "dict[str, Callable[..., str]]" = {
    "cgroup-mkdir": _mkdir,
    "cgroup-scope": _scope,
    "cgroup-ensure": _ensure,
    "cgroup-enable": _enable,
    "cgroup-inherit-cpuset": _inherit,
    "cgroup-write": _write,
    "cgroup-check-usage": _check_usage,
    "cgroup-devices-bpf": _devices,
    "cgroup-chown": _chown,
    "cgroup-join": _join,
}


# (operation, start of the file's name, error number) -> hint; "" matches any.
_HINTS = (
    (
        "cgroup-mkdir",
        "",
        errno.EBUSY,
        "another container or service uses it: stop that, or choose another /linux/cgroupsPath",
    ),
    (
        "cgroup-enable",
        "",
        errno.EBUSY,
        "a v2 cgroup with processes of its own cannot give controllers to those below it: "
        "choose a /linux/cgroupsPath elsewhere",
    ),
    (
        "cgroup-enable",
        "",
        errno.ENOENT,
        "the cgroups above do not hand this controller down; see cgroup.controllers there",
    ),
    (
        "cgroup-enable",
        "",
        errno.EOPNOTSUPP,
        "the cgroup is threaded, and its children cannot have this controller",
    ),
    ("cgroup-mkdir", "", errno.EAGAIN, "cgroup.max.descendants or cgroup.max.depth is reached"),
    ("cgroup-join", "", errno.ENOSPC, "the cpuset has no CPUs or no memory nodes"),
    ("cgroup-join", "", errno.ESRCH, "the process has died already"),
    ("cgroup-join", "", errno.EBUSY, "the cgroup hands controllers to cgroups below it"),
    ("cgroup-join", "", errno.EOPNOTSUPP, "the cgroup is in an invalid state; see its cgroup.type"),
    (
        "cgroup-devices-bpf",
        "",
        errno.EPERM,
        "device rules on cgroup v2 need CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN",
    ),
    ("cgroup-write", "devices.", errno.EPERM, "the cgroup above does not allow this device"),
    (
        "cgroup-write",
        "memory.",
        errno.EBUSY,
        "more memory than that is in use and cannot be reclaimed",
    ),
    (
        "cgroup-write",
        "memory.memsw.",
        errno.EINVAL,
        "memory+swap cannot be limited below memory: set /linux/resources/memory/limit as well, "
        "to no more than swap",
    ),
    ("cgroup-write", "memory.kmem.", errno.EOPNOTSUPP, "the kernel has given up this limit"),
    ("cgroup-write", "memory.limit", errno.EINVAL, "the limit is above that of memory+swap"),
    (
        "cgroup-write",
        "cpu.rt",
        errno.EINVAL,
        "the cgroup above has no such realtime budget left to give",
    ),
    ("cgroup-write", "cpu.", errno.EINVAL, "the value is out of range, or above the parent's"),
    ("cgroup-write", "cpuset.", errno.EINVAL, "the machine has no such CPU or memory node"),
    ("cgroup-write", "cpuset.", errno.ERANGE, "the machine has no such CPU or memory node"),
    ("cgroup-write", "cpuset.", errno.EACCES, "the cgroup above does not have all of these"),
    ("cgroup-write", "", errno.EINVAL, "the kernel does not take this value"),
    ("cgroup-write", "", errno.ENODEV, "the machine has no such device"),
    ("cgroup-write", "", errno.ENOENT, "this kernel has no such file: it cannot set this limit"),
    ("", "", errno.EROFS, "the cgroup file system is mounted read-only"),
    ("", "", errno.EACCES, "ocirun needs root, or a cgroup that was delegated to this user"),
    ("", "", errno.EPERM, "ocirun needs root, or a cgroup that was delegated to this user"),
)


def hint(step: Step, path: str, number: int) -> str:
    """What the user can do about error `number` of a step on `path`; "" if unknown."""
    name = path.rpartition("/")[2]
    for op, start, known, text in _HINTS:
        if op in ("", step.op) and name.startswith(start) and number == known:
            return text
    return ""
