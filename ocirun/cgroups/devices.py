"""Device rules: which devices the processes of a container may open or make.

Belongs here: linux.resources.devices -> rules, and their form as v1 writes. The
form for v2 is in `devicebpf`. Source: config-linux.md "Allowed Device list" and
"Default Devices"; the kernel's admin-guide/cgroup-v1/devices.rst.

A rule is (kind, major, minor, access, allow): kind "a", "b" or "c"; a number of
-1 matches all; access is some of "rwm" in that order. For each device and each
single access the last rule that matches decides; without one it is denied.
"""

from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.step import Step

Rule = tuple[str, int, int, str, bool]
Number = tuple[str, int, int]

POINTER = "/linux/resources/devices"
MAX_NUMBER = 0x7FFFFFFF

_DENY_ALL: Rule = ("a", -1, -1, "rwm", False)

# What every container may use, whatever its rules say: making nodes (which gives
# no access to the device behind them), and the devices of "Default Devices".
_DEFAULTS: tuple[Rule, ...] = (
    ("c", -1, -1, "m", True),
    ("b", -1, -1, "m", True),
    ("c", 1, 3, "rwm", True),  # null
    ("c", 1, 5, "rwm", True),  # zero
    ("c", 1, 7, "rwm", True),  # full
    ("c", 1, 8, "rwm", True),  # random
    ("c", 1, 9, "rwm", True),  # urandom
    ("c", 5, 0, "rwm", True),  # tty
    ("c", 5, 1, "rwm", True),  # console
    ("c", 5, 2, "rwm", True),  # ptmx
    ("c", 136, -1, "rwm", True),  # pts/*
)


def compile_devices(spec: dict[str, object]) -> tuple[Rule, ...]:
    """All rules of a container in order: deny everything, the spec's, the defaults.

    Raises InvalidConfig.
    """
    return tuple(rule for rule, _ in _with_pointers(spec))


def v1_steps(spec: dict[str, object], directory: str) -> list[Step]:
    """The writes to devices.allow and devices.deny of `directory` that carry out the rules.

    v1 keeps a default and a list of exceptions, each for exact numbers, so a rule
    that would take a part out of a wider exception has no effect in it. Raises
    Unsupported for such a rule, and InvalidConfig.
    """
    rules = _with_pointers(spec)
    start = max(i for i, (rule, _) in enumerate(rules) if rule[0] == "a")
    default, pointer = rules[start][0][4], rules[start][1]
    steps = [_v1_step(_DENY_ALL[:4], default, directory, pointer)]
    exceptions: dict[Number, str] = {}
    for rule, pointer in rules[start + 1 :]:
        number, access, allow = rule[:3], rule[3], rule[4]
        if allow != default:
            exceptions[number] = _join(exceptions.get(number, "") + access)
            steps.append(_v1_step((*number, access), allow, directory, pointer))
            continue
        # Back to the default: only possible one whole exception after the other.
        for other, other_access in exceptions.items():
            common = "".join(a for a in other_access if a in access)
            if not common or not _overlap(number, other):
                continue
            if not _covers(number, other):
                raise _hole(rule, (*other, common), pointer)
            exceptions[other] = "".join(a for a in other_access if a not in access)
            steps.append(_v1_step((*other, common), allow, directory, pointer))
    return steps


def words(rule: Rule) -> str:
    """A rule in the notation of the kernel: "allow c 1:3 rwm"."""
    return f"{'allow' if rule[4] else 'deny'} {_notation(rule[:4])}"


def _v1_step(rule: tuple[str, int, int, str], allow: bool, directory: str, pointer: str) -> Step:
    file = f"{directory}/devices.{'allow' if allow else 'deny'}"
    return Step("cgroup-write", pointer, file, _notation(rule))


def _notation(rule: tuple[str, int, int, str]) -> str:
    kind, major, minor, access = rule
    return f"{kind} {'*' if major < 0 else major}:{'*' if minor < 0 else minor} {access}"


def _overlap(one: Number, other: Number) -> bool:
    """Whether some device has both numbers."""
    if one[0] != other[0]:
        return False
    return (one[1] in (-1, other[1]) or other[1] == -1) and (
        one[2] in (-1, other[2]) or other[2] == -1
    )


def _covers(wide: Number, narrow: Number) -> bool:
    """Whether each device of `narrow` is one of `wide`; both are of one kind."""
    return wide[1] in (-1, narrow[1]) and wide[2] in (-1, narrow[2])


def _hole(rule: Rule, wide: "tuple[str, int, int, str]", pointer: str) -> Unsupported:
    return Unsupported(
        f'device rule "{words(rule)}" takes a part out of "{_notation(wide)}", '
        "which cgroup v1 cannot do",
        pointer=pointer or POINTER,
        hint="name the devices one by one, or use a machine with cgroup v2",
    )


def _with_pointers(spec: dict[str, object]) -> list[tuple[Rule, str]]:
    """All rules, each with the pointer of the entry that asked for it ("" = ocirun's own)."""
    resources = (spec.get("linux") or {}).get("resources") or {}  # type: ignore[attr-defined]
    rules = [(_DENY_ALL, "")]
    for index, entry in enumerate(resources.get("devices") or ()):
        pointer = f"{POINTER}/{index}"
        rules += [(rule, pointer) for rule in _read(entry, pointer)]
    rules += [(rule, "") for rule in _DEFAULTS]
    return rules


def _read(entry: dict[str, object], pointer: str) -> list[Rule]:
    """The rules of one entry: one, or two where "a" is given with limits of its own."""
    kind = entry.get("type") or "a"
    if kind == "u":  # unbuffered character device, mknod(1)
        kind = "c"
    if kind not in ("a", "b", "c"):
        raise InvalidConfig(
            f"a device rule cannot speak of type {kind!r}",
            pointer=f"{pointer}/type",
            hint='use "a", "b", "c" or "u"',
        )
    major = _number(entry, "major", pointer)
    minor = _number(entry, "minor", pointer)
    given = entry.get("access") or "rwm"
    access = _join(str(given))
    if len(access) != len(set(str(given))):
        raise InvalidConfig(
            f"unknown access {given!r} in a device rule",
            pointer=f"{pointer}/access",
            hint="use some of r, w and m",
        )
    allow = bool(entry.get("allow"))
    if kind == "a" and (major, minor, access) != (-1, -1, "rwm"):
        # v1 would take every "a" for all devices whatever the numbers say: a rule
        # for c 10:200 without its type would open the whole machine.
        return [("b", major, minor, access, allow), ("c", major, minor, access, allow)]
    return [(kind, major, minor, access, allow)]


def _join(access: str) -> str:
    """The letters of `access`, each once, in the kernel's order."""
    return "".join(letter for letter in "rwm" if letter in access)


def _number(entry: dict[str, object], name: str, pointer: str) -> int:
    value = entry.get(name)
    if value is None:
        return -1
    if not isinstance(value, int) or not -1 <= value <= MAX_NUMBER:
        raise InvalidConfig(
            f"{name} number {value} of a device rule is out of range",
            pointer=f"{pointer}/{name}",
            hint=f"use 0 to {MAX_NUMBER}, or -1 for all",
        )
    return value
