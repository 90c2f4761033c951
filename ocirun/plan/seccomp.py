"""linux.seccomp: the section as steps of init (config-linux.md, "Seccomp"). Pure.

The filter itself is not made here: the step holds a description of it, plain and free of
what makes no difference, in whose place `seccomp.cache` puts the program:

    (default action, (architecture, ...), (rule, ...))
    rule: ((name, ...), action, (alternative, ...))
    alternative: comparisons that must all hold: ((argument, operator, value, second value), ...)

Actions, operators and architectures are libseccomp's numbers.

Where it is installed: as late as possible, since init's own calls are filtered from then on.
That is right before the execve, so that `execve` is the only call that it must allow; without
noNewPrivileges also `capset`, for the kernel wants CAP_SYS_ADMIN, which init keeps until then.
Hooks in the container must be filtered too, and an agent has to know of the filter before
`create` is done; so with startContainer hooks or a listener it comes at the end of `create`.
"""

from ocirun.errors import InvalidConfig
from ocirun.plan.host import ALL_CAPABILITIES, Host
from ocirun.plan.namespaces import Namespaces
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Comparison = tuple[int, int, int, int]
    Rule = tuple[tuple[str, ...], int, tuple[tuple[Comparison, ...], ...]]
    Request = tuple[int, tuple[int, ...], tuple[Rule, ...]]

# SECCOMP_RET_* of seccomp(2); libseccomp's SCMP_ACT_* have the same numbers.
ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
}
ERRNO, TRACE, ALLOW, LOG = 0x00050000, 0x7FF00000, 0x7FFF0000, 0x7FFC0000
OPERATORS = {
    f"SCMP_CMP_{name}": number
    for number, name in enumerate(("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"), 1)
}
# AUDIT_ARCH_* of linux/audit.h, but for x32, which shares that of x86-64: libseccomp's own.
ARCHITECTURES = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_LOONGARCH64": 0xC0000102,
    "SCMP_ARCH_M68K": 0x00000004,
    "SCMP_ARCH_MIPS": 0x00000008,
    "SCMP_ARCH_MIPS64": 0x80000008,
    "SCMP_ARCH_MIPS64N32": 0xA0000008,
    "SCMP_ARCH_MIPSEL": 0x40000008,
    "SCMP_ARCH_MIPSEL64": 0xC0000008,
    "SCMP_ARCH_MIPSEL64N32": 0xE0000008,
    "SCMP_ARCH_PPC": 0x00000014,
    "SCMP_ARCH_PPC64": 0x80000015,
    "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_S390": 0x00000016,
    "SCMP_ARCH_S390X": 0x80000016,
    "SCMP_ARCH_SH": 0x4000002A,
    "SCMP_ARCH_SHEB": 0x0000002A,
    "SCMP_ARCH_PARISC": 0x0000000F,
    "SCMP_ARCH_PARISC64": 0x8000000F,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
}
# SECCOMP_FILTER_FLAG_* of linux/seccomp.h
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
TSYNC, SPEC_ALLOW, NEW_LISTENER, TSYNC_ESRCH, WAIT_KILLABLE_RECV = 1, 4, 8, 16, 32
SEND, FETCH = "send", "fetch"
"""How the listener gets to the parent: init sends it, or names it and the parent takes it."""

EPERM = 1
_BASE = "/linux/seccomp"
_NOTIFY = "SCMP_ACT_NOTIFY"
_CAP_SYS_ADMIN = 1 << 21


def compile_seccomp(plan: Plan, spec: "dict[str, Any]", host: Host, spaces: Namespaces) -> None:
    """Append the steps that install the filter. After `compile_process`.

    Raises InvalidConfig.
    """
    section = spec["linux"]["seccomp"]
    way = _listener(plan, section)
    steps = [Step("seccomp", _BASE, request_of(section), _flags(section, way), way)]
    if not spec["process"].get("noNewPrivileges"):
        steps += _keep_privilege(plan, section, host, spaces)
    early = way or plan.hooks.get("startContainer")
    (plan.child if early else plan.last).extend(steps)


def request_of(section: "dict[str, Any]") -> "Request":
    """The filter that a section describes. Names of architectures and so on are valid."""
    default = action_number(section["defaultAction"], section.get("defaultErrnoRet"))
    wanted = tuple(ARCHITECTURES[name] for name in section.get("architectures") or ())
    return default, wanted, tuple(map(_rule, section.get("syscalls") or ()))


def action_number(name: str, error: int | None) -> int:
    """An action with its error number, EPERM if none is given."""
    number = ACTIONS[name]
    if number in (ERRNO, TRACE):
        number |= EPERM if error is None else error
    return number


def _rule(rule: "dict[str, Any]") -> "Rule":
    comparisons = tuple(
        (arg["index"], OPERATORS[arg["op"]], arg["value"], arg.get("valueTwo") or 0)
        for arg in rule.get("args") or ()
    )
    alternatives: tuple[tuple[Comparison, ...], ...]
    # libseccomp takes one comparison of an argument a rule. With more of them each comparison
    # becomes a rule, as in runc and crun: profiles count on "or" there.
    if len({comparison[0] for comparison in comparisons}) < len(comparisons):
        alternatives = tuple((comparison,) for comparison in comparisons)
    else:
        alternatives = (comparisons,)
    return tuple(rule["names"]), action_number(rule["action"], rule.get("errnoRet")), alternatives


def _flags(section: "dict[str, Any]", way: str) -> int:
    names = section.get("flags")
    # Without the property: the flag that runc and crun set, too.
    flags = SPEC_ALLOW if names is None else 0
    for index, name in enumerate(names or ()):
        flags |= FLAGS[name]
        if FLAGS[name] == WAIT_KILLABLE_RECV and not way:
            raise InvalidConfig(
                f"{name} is about notifications, and no rule has {_NOTIFY}",
                pointer=f"{_BASE}/flags/{index}",
                hint="remove the flag",
            )
    if way:
        flags |= NEW_LISTENER | (TSYNC_ESRCH if flags & TSYNC else 0)
    return flags


def _listener(plan: Plan, section: "dict[str, Any]") -> str:
    """How the listener is handed over; "" if there is none."""
    path: str = section.get("listenerPath") or ""
    if all(rule["action"] != _NOTIFY for rule in section.get("syscalls") or ()):
        if path:
            plan.warnings.append(f"seccomp: listenerPath has no effect: no rule has {_NOTIFY}")
        return ""
    encode(path, _BASE + "/listenerPath")
    plan.listener = (path, section.get("listenerMetadata") or "")
    for call, way in (("sendmsg", SEND), ("write", FETCH)):
        if may(section, call) <= {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG"}:
            return way
    raise InvalidConfig(
        "init cannot hand the listener over: neither sendmsg nor write is simply allowed",
        pointer=_BASE + "/syscalls",
        hint="the filter holds as soon as there is a listener: let one of them be without "
        f"{_NOTIFY} and errors",
    )


def may(section: "dict[str, Any]", call: str) -> set[str]:
    """The actions that a system call may get, by its name."""
    rules = [rule for rule in section.get("syscalls") or () if call in rule["names"]]
    actions = {rule["action"] for rule in rules}
    if all(rule.get("args") for rule in rules):
        actions.add(section["defaultAction"])
    return actions


def _keep_privilege(
    plan: Plan, section: "dict[str, Any]", host: Host, spaces: Namespaces
) -> list[Step]:
    """Keep CAP_SYS_ADMIN for seccomp(2); return the step that gives it up after that."""
    available = ALL_CAPABILITIES if spaces.private("user") else host.capabilities
    place = next(i for i, step in enumerate(plan.child) if step.op == "capabilities")
    step = plan.child[place]
    effective, permitted, inheritable, ambient = step.args
    assert isinstance(effective, int)
    assert isinstance(permitted, int)
    if effective & _CAP_SYS_ADMIN or not available & _CAP_SYS_ADMIN:
        return []
    if not may(section, "capset") & {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", _NOTIFY}:
        raise InvalidConfig(
            "the filter does not allow capset, with which init gives up CAP_SYS_ADMIN after it",
            pointer=_BASE,
            hint="allow capset, or set process.noNewPrivileges",
        )
    kept = (effective | _CAP_SYS_ADMIN, permitted | _CAP_SYS_ADMIN, inheritable, ambient)
    plan.child[place] = Step(step.op, step.pointer, *kept)
    return [Step("drop-privilege", step.pointer, effective, permitted, inheritable)]
