"""Suspicious properties of `linux`; see `suspicious`. Cold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocirun.spec.strict import Config, Problem


def check(config: Config, kinds: dict[str, str]) -> Iterator[Problem]:
    """Everything suspicious in config["linux"]."""
    linux = config.get("linux", {})
    if "mount" not in kinds:
        hint = 'add {"type": "mount"} to linux.namespaces'
        yield "/linux/namespaces", "there is no mount namespace; ocirun needs one", hint
    if kinds.get("user") and (linux.get("uidMappings") or linux.get("gidMappings")):
        name = "uidMappings" if linux.get("uidMappings") else "gidMappings"
        yield f"/linux/{name}", "without effect: a user namespace that is joined has its own", ""
    yield from _devices(linux)
    yield from _limits(linux.get("resources", {}))
    yield from _seccomp(linux.get("seccomp", {}))
    rdt = linux.get("intelRdt", {})
    if "\n" in rdt.get("l3CacheSchema", ""):
        yield "/linux/intelRdt/l3CacheSchema", "more than one line", "use schemata"


def _devices(linux: Config) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, device in enumerate(linux.get("devices", ())):
        path = device["path"]
        if path in seen:
            message = f"the path is that of entry {seen[path]} as well"
            yield f"/linux/devices/{index}/path", message, ""
        seen[path] = index


def _limits(resources: Config) -> Iterator[Problem]:
    yield from _memory(resources.get("memory", {}), "/linux/resources/memory")
    yield from _cpu(resources.get("cpu", {}), "/linux/resources/cpu")
    base = "/linux/resources/blockIO"
    block = resources.get("blockIO", {})
    weights = [(base, block)]
    weights += [
        (f"{base}/weightDevice/{index}", entry)
        for index, entry in enumerate(block.get("weightDevice", ()))
    ]
    for pointer, entry in weights:
        for name in ("weight", "leafWeight"):
            if name in entry and not 10 <= entry[name] <= 1000 and entry[name]:
                yield f"{pointer}/{name}", f"{entry[name]} is not in 10 to 1000", ""
    sizes: dict[str, int] = {}
    for index, limit in enumerate(resources.get("hugepageLimits", ())):
        size, pointer = limit["pageSize"], f"/linux/resources/hugepageLimits/{index}/pageSize"
        if size in sizes:
            yield pointer, f"{size} is limited in entry {sizes[size]} as well", ""
        sizes[size] = index


def _memory(memory: Config, pointer: str) -> Iterator[Problem]:
    for name in ("limit", "reservation", "swap", "kernel", "kernelTCP"):
        if memory.get(name, 0) < -1:
            hint = "-1 is unlimited"
            yield f"{pointer}/{name}", f"the kernel refuses {memory[name]}", hint
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if 0 < swap < limit:
        hint = "swap is the limit of memory and swap together"
        yield f"{pointer}/swap", f"{swap} is less than the limit of memory, {limit}", hint
    if swap > 0 and limit <= 0:
        yield f"{pointer}/swap", "a limit of memory and swap needs one of memory", "set limit"
    if 0 < limit < memory.get("reservation", 0):
        message = f"the soft limit is above the limit, {limit}, so it has no effect"
        yield f"{pointer}/reservation", message, ""
    if 0 < limit < 4096:
        yield f"{pointer}/limit", f"{limit} bytes are less than a page", "the unit is bytes"


def _cpu(cpu: Config, pointer: str) -> Iterator[Problem]:
    period, quota = cpu.get("period", 0), cpu.get("quota", 0)
    if period and not 1000 <= period <= 1_000_000:
        hint = "the unit is microseconds: 1000 to 1000000"
        yield f"{pointer}/period", f"the kernel refuses a period of {period}", hint
    if 0 < quota < 1000:
        hint = "the unit is microseconds: at least 1000"
        yield f"{pointer}/quota", f"the kernel refuses a quota of {quota}", hint
    if 0 < quota < cpu.get("burst", 0):
        yield f"{pointer}/burst", f"the burst is above the quota, {quota}", ""
    runtime, length = cpu.get("realtimeRuntime", 0), cpu.get("realtimePeriod", 0)
    if 0 < length < runtime:
        message = f"the realtime runtime is longer than its period, {length}"
        yield f"{pointer}/realtimeRuntime", message, ""
    if cpu.get("idle", 0) not in (0, 1):
        yield f"{pointer}/idle", f"{cpu['idle']} is neither 0 nor 1", ""
    for name in ("cpus", "mems"):
        if not _is_list(cpu.get(name, "")):
            message = f'"{cpu[name]}" is not a list of numbers and ranges'
            yield f"{pointer}/{name}", message, "write it like 0-3,7"


def _is_list(text: str) -> bool:
    """Whether the kernel reads `text` as a list (cpuset(7), "List format")."""
    for part in text.strip().split(",") if text.strip() else ():
        span, _, step = part.strip().partition(":")
        numbers = span.split("-")
        if step and not all(number.isdecimal() for number in step.split("/")):
            return False
        if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
            return False
        if int(numbers[0]) > int(numbers[-1]):
            return False
    return True


def _seccomp(seccomp: Config) -> Iterator[Problem]:
    actions = [rule["action"] for rule in seccomp.get("syscalls", ())]
    if seccomp.get("listenerPath") and "SCMP_ACT_NOTIFY" not in actions:
        hint = "no rule has SCMP_ACT_NOTIFY"
        yield "/linux/seccomp/listenerPath", "without effect", hint
    own = (seccomp.get("defaultAction"), seccomp.get("defaultErrnoRet"))
    first: dict[str, int] = {}
    for index, rule in enumerate(seccomp.get("syscalls", ())):
        pointer = f"/linux/seccomp/syscalls/{index}"
        if (rule["action"], rule.get("errnoRet")) == own:
            yield pointer, "without effect: the default action is the same", "remove the rule"
        elif not rule.get("args"):
            for place, name in enumerate(rule["names"]):
                earlier = first.setdefault(name, index)
                if seccomp["syscalls"][earlier]["action"] != rule["action"]:
                    message = f"without effect: entry {earlier} decides on {name}"
                    yield f"{pointer}/names/{place}", message, "remove one of them"
