"""New limits for a container that exists: linux.resources -> steps on its cgroups; pure.

What the new object does not name stays as it is (runc's `update` means the same).
The steps are safe in whatever state the cgroups are; `change` does them.
"""

from ocirun.cgroups.compile import CgroupPlan, compile_rules, enable
from ocirun.cgroups.devices import compile_devices
from ocirun.cgroups.mounts import Layout
from ocirun.cgroups.resources import compile_resources, is_before_1_3
from ocirun.errors import InvalidConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.cgroups.devices import Rule

# 0, null and "" of these say "as it is", as in runc: engines send them for what they do not know.
_AS_IT_IS = {
    "memory": ("limit", "swap", "reservation", "kernel", "kernelTCP"),
    "cpu": ("shares", "quota", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems"),
    "blockIO": ("weight", "leafWeight"),
}
# What tells the items of a list apart; the other lists are taken as a whole.
_IDENTITY = {
    "hugepageLimits": ("pageSize",),
    "weightDevice": ("major", "minor"),
    "throttleReadBpsDevice": ("major", "minor"),
    "throttleWriteBpsDevice": ("major", "minor"),
    "throttleReadIOPSDevice": ("major", "minor"),
    "throttleWriteIOPSDevice": ("major", "minor"),
}


def compile_update(
    resources: "dict[str, Any]",
    where: Layout,
    paths: dict[str, str],
    version: str,
    devices: bool = False,
) -> CgroupPlan:
    """The plan that applies `resources` to the cgroups of a container.

    Args:
        resources: an object as linux.resources, valid by the schema. Its device rules, if
            there are any, take the place of all the container has; on v2 in one step,
            on v1 with a moment in which nothing may be opened. They come last: they
            cannot be taken back.
        where: the layout of this machine.
        paths: the container's directories, from its record.
        version: the ociVersion by which `resources` is to be read.
        devices: apply the device rules even if there are none but those of every container.

    Raises InvalidConfig, Unsupported.
    """
    steps, needed = compile_resources(resources, where, paths, version)
    if needed and where.mode == "hybrid":
        # A container gets of such a v2 hierarchy what it asked for, and that was less.
        steps = enable(where, paths, needed, "/linux/resources") + steps
    rules: tuple[Rule, ...] = ()
    if devices or resources.get("devices"):
        spec: dict[str, object] = {"linux": {"resources": resources}}
        steps = steps + compile_rules(spec, resources, paths)
        rules = compile_devices(spec)
    return CgroupPlan(tuple(steps), (), paths, rules=rules)


def wanted(asked: "dict[str, Any]", own: "dict[str, Any]", version: str) -> "dict[str, Any]":
    """What of the resources `asked` is a change of a container's `own`.

    Args:
        asked, own: objects as linux.resources, valid by the schema.
        version: the ociVersion by which `asked` is to be read.
    """
    found: dict[str, Any] = {}
    for section, whole in asked.items():
        value = whole
        if section in _AS_IT_IS:
            value = {
                name: one
                for name, one in (whole or {}).items()
                if one is not None and (one or name not in _AS_IT_IS[section])
            }
        if section == "pids" and value == {"limit": 0} and is_before_1_3(version):
            continue
        if section == "devices" and value == own.get("devices"):
            continue  # whoever sends the whole object does not mean to change them
        if value:
            found[section] = value
    return found


def completed(asked: "dict[str, Any]", own: "dict[str, Any]") -> "dict[str, Any]":
    """`asked`, with those of the container's `own` limits that belong to the same ones.

    Quota and period of CPU time are one file in v2, and swap is counted from the limit of
    memory. Raises InvalidConfig if the new limit is above the old one of memory and swap.
    """
    result = dict(asked)
    memory, before = asked.get("memory") or {}, own.get("memory") or {}
    if "limit" in memory or "swap" in memory:
        result["memory"] = dict(memory)
        if "limit" not in memory and before.get("limit"):
            result["memory"]["limit"] = before["limit"]
        swap = before.get("swap") or 0
        if "swap" not in memory and swap and memory["limit"] >= 0:
            if 0 < swap < memory["limit"]:
                raise InvalidConfig(
                    f"the container may use {swap} bytes of memory and swap, "
                    f"so its limit of memory cannot be {memory['limit']}",
                    pointer="/linux/resources/memory/limit",
                    hint="set the limit of memory plus swap as well",
                )
            result["memory"]["swap"] = swap
    cpu, before = asked.get("cpu") or {}, own.get("cpu") or {}
    if not cpu.keys().isdisjoint(("quota", "period", "burst")):
        former = {name: before[name] for name in ("quota", "period") if before.get(name)}
        result["cpu"] = {**former, **cpu}
    return result


def merged(own: "dict[str, Any]", asked: "dict[str, Any]") -> "dict[str, Any]":
    """A container's resources after an update: what later commands take for its own."""
    result: dict[str, Any] = _merge(own, asked)
    memory, before = asked.get("memory") or {}, own.get("memory") or {}
    if memory.get("limit", 0) < 0 and "swap" not in memory and before.get("swap"):
        result["memory"]["swap"] = -1  # "all unlimited"
    return result


def _merge(own: "dict[str, Any]", asked: "dict[str, Any]") -> "dict[str, Any]":
    result = dict(own)
    for name, value in asked.items():
        before = own.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            result[name] = _merge(before, value)
        elif name in _IDENTITY and before:
            keys = _IDENTITY[name]
            items = {tuple(one[key] for key in keys): one for one in (*before, *value)}
            result[name] = list(items.values())
        else:
            result[name] = value
    return result
