"""When and where the process runs: scheduler, ioPriority, execCPUAffinity, memoryPolicy.

config.md, "Linux Process"; config-linux.md, "Memory policy". Loaded when one of them is there.
What a document can be wrong about is checked in `spec.strict_schedule`.
"""

from ocirun.errors import InvalidConfig
from ocirun.linux.schedule import (
    IOPRIO_CLASSES,
    MPOL_FLAGS,
    MPOL_MODES,
    SCHED_FLAGS,
    SCHED_POLICIES,
)
from ocirun.plan.step import Plan, Step
from ocirun.spec.lists import MAX_CPU, MAX_NODE, mask_of, number_list
from ocirun.spec.strict_schedule import check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def compile_schedule(plan: Plan, spec: "dict[str, Any]") -> None:
    """Append the steps that init does with all its privileges, in its cgroups.

    Raises InvalidConfig for what the kernel would refuse or ignore.
    """
    problems: list[tuple[str, str, str]] = []
    check(spec, problems)
    for pointer, message, hint in problems:
        raise InvalidConfig(message, pointer=pointer, hint=hint)
    process, steps = spec["process"], plan.child
    policy = (spec.get("linux") or {}).get("memoryPolicy")
    if policy:
        nodes = mask_of(number_list(policy["nodes"], MAX_NODE)) if policy.get("nodes") else 0
        mode = MPOL_MODES[policy["mode"]] | _flags(policy, MPOL_FLAGS)
        steps.append(Step("memory-policy", "/linux/memoryPolicy", mode, nodes))
    priority = process.get("ioPriority")
    if priority:
        kind, level = IOPRIO_CLASSES[priority["class"]], priority.get("priority", 0)
        steps.append(Step("io-priority", "/process/ioPriority", kind, level))
    wanted = process.get("scheduler")
    if wanted:
        names = ("nice", "priority", "runtime", "deadline", "period")
        values = [wanted.get(name, 0) for name in names]
        policy, flags = SCHED_POLICIES[wanted["policy"]], _flags(wanted, SCHED_FLAGS)
        steps.append(Step("scheduler", "/process/scheduler", policy, flags, *values))
    for name, text in (process.get("execCPUAffinity") or {}).items():
        if name in ("initial", "final") and text:
            mask = mask_of(number_list(text, MAX_CPU))
            plan.exec.append(
                Step("cpu-affinity", f"/process/execCPUAffinity/{name}", name, text, mask)
            )


def _flags(wanted: "dict[str, Any]", known: dict[str, int]) -> int:
    flags = 0
    for name in wanted.get("flags") or ():
        flags |= known[name]
    return flags
