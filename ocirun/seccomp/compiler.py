"""From a description of a filter to a program, by libseccomp. Cold.

libseccomp knows the numbers of all system calls on all architectures. The binding is
pyseccomp: it is what pip has (libseccomp's own Python module is not there), a few hundred
lines of ctypes over the library of the distribution, without anything to build. What it lacks
is not needed: numbers of a few architectures and of flags are in `plan.seccomp`, and the
program is loaded by init itself, without libseccomp.
"""

import errno
import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ocirun.errors import InvalidConfig, OcirunError, Unsupported
from ocirun.plan.seccomp import ACTIONS, ALLOW, ARCHITECTURES, ERRNO, LOG, TRACE
from ocirun.seccomp.cache import MAX_INSTRUCTIONS, Compiled
from ocirun.seccomp.enosys import stub

if TYPE_CHECKING:
    from ocirun.plan.seccomp import Request, Rule

_BASE = "/linux/seccomp"
_UNKNOWN = -1  # __NR_SCMP_ERROR
_CTL_OPTIMIZE, _BINARY_TREE = 8, 2  # seccomp_attr_set(3)
_FEW = 8
"""Up to so many rules a binary tree is no gain, and without any libseccomp makes a wrong one."""


def compile_filter(request: "Request") -> Compiled:
    """Compile a filter.

    Raises OcirunError without libseccomp or its binding, InvalidConfig for rules that
    contradict each other, Unsupported for what this libseccomp or this kernel does not know.
    """
    binding = load_binding()
    default, architectures, rules = request
    try:
        filter = binding.SyscallFilter(default)
    except OSError as error:
        raise _refused(default, f"{_BASE}/defaultAction", error) from None
    for index, architecture in enumerate(architectures):
        if not filter.exist_arch(architecture):
            try:
                filter.add_arch(architecture)
            except OSError as error:
                name = next(n for n, number in ARCHITECTURES.items() if number == architecture)
                raise Unsupported(
                    f"this libseccomp cannot filter {name} here",
                    pointer=f"{_BASE}/architectures/{index}",
                    syscall="seccomp_arch_add",
                    errno=error.errno or 0,
                    hint="remove it, or use a newer libseccomp; little and big endian do not mix",
                ) from None
    unknown: set[str] = set()
    added = sum(
        _add(binding, filter, default, rule, f"{_BASE}/syscalls/{index}", unknown)
        for index, rule in enumerate(rules)
    )
    if added > _FEW:
        try:
            filter.set_attr(_CTL_OPTIMIZE, _BINARY_TREE)
        except OSError:  # before libseccomp 2.5
            pass
    program = _export(filter)
    if default not in (ALLOW, LOG, ERRNO | errno.ENOSYS) and default & 0x7FFF0000 != TRACE:
        program = stub(_last_calls(binding, request)) + program
    if len(program) > 8 * MAX_INSTRUCTIONS:
        raise InvalidConfig(
            f"the filter has {len(program) // 8} instructions, more than the kernel takes",
            pointer=_BASE,
            hint=f"it may have {MAX_INSTRUCTIONS}: use fewer rules or architectures",
        )
    return Compiled(program, sorted(unknown), _library())


def load_binding() -> ModuleType:
    """The module pyseccomp. Raises OcirunError if it or libseccomp is missing."""
    try:
        import pyseccomp
    except ImportError:
        raise OcirunError(
            "linux.seccomp needs the Python package pyseccomp",
            pointer=_BASE,
            hint="pip install pyseccomp, for the Python that runs ocirun",
        ) from None
    except (RuntimeError, OSError, AttributeError) as error:
        raise OcirunError(
            f"linux.seccomp needs libseccomp, which cannot be loaded: {error}",
            pointer=_BASE,
            hint="install libseccomp 2.4 or later (Debian: libseccomp2)",
        ) from None
    return pyseccomp


def _add(
    binding: Any, filter: Any, default: int, rule: "Rule", pointer: str, unknown: set[str]
) -> int:
    """Add a rule; return how many libseccomp got."""
    names, action, alternatives = rule
    if action == default:  # libseccomp refuses it, and it changes nothing
        return 0
    added = 0
    for place, name in enumerate(names):
        number = binding.resolve_syscall(binding.Arch.NATIVE, name)
        if number == _UNKNOWN:
            unknown.add(name)
            continue
        for comparisons in alternatives:
            arguments = [binding.Arg(*comparison) for comparison in comparisons]
            try:
                filter.add_rule(action, number, *arguments)
            except OSError as error:
                if error.errno == errno.EEXIST:
                    raise InvalidConfig(
                        f"another rule has a different action for {name} under the same conditions",
                        pointer=f"{pointer}/names/{place}",
                        hint="remove one of them",
                    ) from None
                raise _refused(action, f"{pointer}/names/{place}", error) from None
            added += 1
    return added


def _refused(action: int, pointer: str, error: OSError) -> Unsupported:
    bare = action if action == ACTIONS["SCMP_ACT_KILL_PROCESS"] else action & 0x7FFF0000
    name = next(name for name, number in ACTIONS.items() if number == bare)
    return Unsupported(
        f"libseccomp does not take {name} here",
        pointer=pointer,
        syscall="seccomp_rule_add",
        errno=error.errno or 0,
        hint="this libseccomp or this kernel may not know it: "
        "see /proc/sys/kernel/seccomp/actions_avail",
    )


def _last_calls(binding: Any, request: "Request") -> dict[int, int]:
    """Architecture -> the largest number of a system call that the rules name."""
    _, architectures, rules = request
    last: dict[int, int] = {}
    for architecture in {binding.system_arch() & 0xFFFFFFFF, *architectures}:
        numbers = [
            binding.resolve_syscall(architecture, name) for names, _, _ in rules for name in names
        ]
        # What the architecture does not have is negative there.
        largest = max(numbers, default=_UNKNOWN)
        if largest >= 0:
            last[architecture] = largest
    return last


def _export(filter: Any) -> bytes:
    with os.fdopen(os.memfd_create("seccomp", os.MFD_CLOEXEC), "rb") as file:
        filter.export_bpf(file)
        file.seek(0)
        return file.read()


def _library() -> str:
    """The path of the libseccomp that this process has loaded (proc(5), maps)."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            path = line.split(maxsplit=5)[5:]
            if path and "/libseccomp.so" in path[0]:
                return path[0].rstrip("\n")
    return ""
