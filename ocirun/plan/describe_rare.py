"""The steps of rare properties in words; see `describe`. Cold."""

from ocirun.linux.schedule import (
    IOPRIO_CLASSES,
    MPOL_FLAGS,
    MPOL_MODES,
    SCHED_FLAGS,
    SCHED_POLICIES,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Words = dict[str, Callable[[tuple[Any, ...]], str]]

_MODE = 0x1FFF  # below the flags of a memory policy


def _name(table: dict[str, int], value: int) -> str:
    return next((name for name, number in table.items() if number == value), str(value))


def _names(table: dict[str, int], mask: int) -> str:
    return "|".join(name for name, bit in table.items() if mask & bit)


def _scheduler(a: "tuple[Any, ...]") -> str:
    policy, flags, nice, priority, runtime, deadline, period = a
    words = [f"schedule the process by {_name(SCHED_POLICIES, policy)}"]
    if nice:
        words.append(f"nice {nice}")
    if priority:
        words.append(f"priority {priority}")
    if runtime:
        words.append(f"{runtime} ns within {deadline} ns of each {period or deadline} ns")
    if flags:
        words.append(_names(SCHED_FLAGS, flags))
    return ", ".join(words)


def _policy(a: "tuple[Any, ...]") -> str:
    text = f"set the memory policy {_name(MPOL_MODES, a[0] & _MODE)}"
    if a[1]:
        nodes = [str(number) for number in range(a[1].bit_length()) if a[1] >> number & 1]
        text += f" with {'node' if len(nodes) == 1 else 'nodes'} {', '.join(nodes)}"
    flags = _names(MPOL_FLAGS, a[0])
    return text + (f", {flags}" if flags else "")


def _affinity(a: "tuple[Any, ...]") -> str:
    if a[0] == "initial":
        return f"run what `ocirun exec` adds on the CPUs {a[1]} until it is in the cgroup"
    return f"run what `ocirun exec` adds on the CPUs {a[1]} once it is in the cgroup"


def _label(a: "tuple[Any, ...]") -> str:
    label = a[1].decode("utf-8", "backslashreplace")
    if a[0] == "apparmor":
        return f"choose the AppArmor profile {label.removeprefix('exec ')}"
    return f"choose the SELinux label {label}"


def _group(a: "tuple[Any, ...]") -> str:
    lines = "; ".join((a[3] + a[2]).decode("utf-8", "backslashreplace").splitlines())
    return f"make the resctrl group {a[1]}" + (f" with {lines}" if lines else "")


def _seccomp(a: "tuple[Any, ...]") -> str:
    from ocirun.seccomp.words import describe

    return describe(a[0], a[2])


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


WORDS: "Words" = {
    "scheduler": _scheduler,
    "io-priority": lambda a: f"set the I/O priority to {_name(IOPRIO_CLASSES, a[0])} {a[1]}",
    "memory-policy": _policy,
    "cpu-affinity": _affinity,
    "security-label": _label,
    "own-namespace": lambda a: f"see that the {a[0]} namespace is not the runtime's own",
    "network-device-check": lambda a: f"see that the network device {a[0]} can become {a[1]}",
    "network-device": lambda a: (
        f"move the network device {a[0]} into the container as {a[1]}, with its addresses"
    ),
    "resctrl-group": _group,
    "resctrl-existing": lambda a: f"see that there is the resctrl group {a[0]}",
    "resctrl-monitor": lambda a: f"make the monitoring group {a[1]}",
    "resctrl-remove": lambda a: f"remove the resctrl group {a[0]}",
    "resctrl-join": lambda a: f"put the process into the resctrl group {a[1]}",
    "seccomp": _seccomp,
    "drop-privilege": lambda a: "give up CAP_SYS_ADMIN, which the filter needed",
    "enter-later": lambda a: f"open the {a[0]} namespace {_text(a[1])}",
    "inside": lambda a: f"enter the container's root{' ' + _text(a[0]) if a else ''}",
    "enter": lambda a: "enter the container's mount namespace",
    "unmount": lambda a: f"unmount {_text(a[0])}",
    "leave": lambda a: "leave the container",
    "file-label": lambda a: f"give {_text(a[0])} the SELinux label {_text(a[1])}",
}

CALLS: "Words" = {
    "enter": lambda a: "setns(CLONE_NEWNS)",
    "unmount": lambda a: f'umount2("{_text(a[0])}", MNT_DETACH)',
    "seccomp": lambda a: "seccomp(SECCOMP_SET_MODE_FILTER)",
    "drop-privilege": lambda a: "capset()",
    "file-label": lambda a: f'fsetxattr("{_text(a[0])}", "security.selinux", "{_text(a[1])}")',
    "scheduler": lambda a: (
        f"sched_setattr({_name(SCHED_POLICIES, a[0])}, {_names(SCHED_FLAGS, a[1]) or '0'})"
    ),
    "io-priority": lambda a: (
        f"ioprio_set(IOPRIO_WHO_PROCESS, {_name(IOPRIO_CLASSES, a[0])}, {a[1]})"
    ),
    "memory-policy": lambda a: (
        f"set_mempolicy({_name(MPOL_MODES, a[0] & _MODE)}"
        + "".join(f"|{name}" for name, bit in MPOL_FLAGS.items() if a[0] & bit)
        + f", {a[1]:#x})"
    ),
    "security-label": lambda a: f'write("/proc/self/attr/exec", {a[1].decode("utf-8", "replace")})',
}
