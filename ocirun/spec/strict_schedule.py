"""Named checks of process.scheduler, ioPriority, execCPUAffinity and linux.memoryPolicy.

Part of `strict`, which loads it when one of them is there. They are rules of sched_setattr(2),
set_mempolicy(2) and the like that need no kernel to be known: a value that the kernel would
ignore is an error as well.
"""

from ocirun.spec.lists import MAX_CPU, MAX_NODE, number_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.spec.strict import Config, Problem

_REALTIME = ("SCHED_FIFO", "SCHED_RR")
_TIMES = ("runtime", "deadline", "period")
_WITHOUT_NODES = ("MPOL_DEFAULT", "MPOL_LOCAL")
_WITH_NODES = (
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED_MANY",
)


def check(config: "Config", found: "list[Problem]") -> None:
    """Append every problem of these properties to `found`."""
    process, linux = config.get("process", {}), config.get("linux", {})
    if "scheduler" in process:
        _scheduler(config, process["scheduler"], found)
    if not 0 <= process.get("ioPriority", {}).get("priority", 0) <= 7:
        value = process["ioPriority"]["priority"]
        found.append(("/process/ioPriority/priority", f"{value} is not in 0 to 7", ""))
    for name, text in process.get("execCPUAffinity", {}).items():
        if name in ("initial", "final") and text:
            _list(text, MAX_CPU, f"/process/execCPUAffinity/{name}", found)
    if "memoryPolicy" in linux:
        _memory_policy(linux["memoryPolicy"], found)


def _list(text: str, highest: int, pointer: str, found: "list[Problem]") -> None:
    try:
        number_list(text, highest)
    except ValueError as error:
        found.append((pointer, str(error), "write it like 0-3,7"))


def _scheduler(config: "Config", scheduler: "Config", found: "list[Problem]") -> None:
    policy, base = scheduler["policy"], "/process/scheduler"
    nice, priority = scheduler.get("nice", 0), scheduler.get("priority", 0)
    if policy == "SCHED_ISO":
        hint = "the policies are those of sched(7)"
        found.append((f"{base}/policy", "Linux has no SCHED_ISO", hint))
    if not -20 <= nice <= 19:
        found.append((f"{base}/nice", f"{nice} is not in -20 to 19", ""))
    elif nice and policy not in ("SCHED_OTHER", "SCHED_BATCH"):
        hint = "it is for SCHED_OTHER and SCHED_BATCH"
        found.append((f"{base}/nice", f"without effect with {policy}", hint))
    if policy in _REALTIME and not 1 <= priority <= 99:
        found.append((f"{base}/priority", f"{policy} needs a priority from 1 to 99", ""))
    elif priority and policy not in _REALTIME:
        hint = "it is for SCHED_FIFO and SCHED_RR"
        found.append((f"{base}/priority", f"the kernel refuses a priority with {policy}", hint))
    _deadline(scheduler, base, found)
    forks = policy != "SCHED_DEADLINE" or "SCHED_FLAG_RESET_ON_FORK" in scheduler.get("flags", ())
    if not forks and config.get("hooks", {}).get("startContainer"):
        hint = "add SCHED_FLAG_RESET_ON_FORK to its flags"
        message = "a SCHED_DEADLINE process makes no others, and so cannot run the hooks"
        found.append(("/hooks/startContainer", message, hint))


def _deadline(scheduler: "Config", base: str, found: "list[Problem]") -> None:
    policy = scheduler["policy"]
    runtime, deadline, period = times = [scheduler.get(name, 0) for name in _TIMES]
    if policy != "SCHED_DEADLINE":
        hint = "it is for SCHED_DEADLINE"
        for name, value in zip(_TIMES, times, strict=True):
            if value:
                found.append((f"{base}/{name}", f"without effect with {policy}", hint))
        for index, flag in enumerate(scheduler.get("flags", ())):
            if flag in ("SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"):
                message = f"{flag} is without effect with {policy}"
                found.append((f"{base}/flags/{index}", message, hint))
        return
    if runtime < 1024:
        message = "SCHED_DEADLINE needs a runtime of 1024 ns or more"
        found.append((f"{base}/runtime", message, "the unit is nanoseconds"))
    elif runtime > deadline:
        message = f"the deadline is before the runtime, {runtime} ns, can have passed"
        found.append((f"{base}/deadline", message, "runtime <= deadline <= period"))
    elif period and deadline > period:
        message = f"the period is shorter than the deadline, {deadline} ns"
        found.append((f"{base}/period", message, "runtime <= deadline <= period"))
    for name, value in zip(_TIMES, times, strict=True):
        if value >= 1 << 63:
            found.append((f"{base}/{name}", f"{value} is above 9223372036854775807", ""))


def _memory_policy(policy: "Config", found: "list[Problem]") -> None:
    base, mode, nodes = "/linux/memoryPolicy", policy.get("mode"), policy.get("nodes", "")
    flags = policy.get("flags", ())
    if mode is None:
        found.append((f"{base}/mode", "missing: the policy needs it", "such as MPOL_BIND"))
        return
    if nodes and mode in _WITHOUT_NODES:
        found.append((f"{base}/nodes", f"the kernel refuses nodes with {mode}", "leave them out"))
    elif nodes:
        _list(nodes, MAX_NODE, f"{base}/nodes", found)
    elif mode in _WITH_NODES:
        found.append((f"{base}/nodes", f"missing: {mode} needs them", "write them like 0-3,7"))
    if mode in _WITHOUT_NODES and flags:
        found.append((f"{base}/flags", f"without effect with {mode}", "leave them out"))
    if "MPOL_F_STATIC_NODES" in flags and "MPOL_F_RELATIVE_NODES" in flags:
        message = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other"
        found.append((f"{base}/flags", message, ""))
