"""linux.intelRdt: classes of service and monitoring groups (config-linux.md, "IntelRdt").

Loaded when it is there.
"""

from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.host import Host
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_POINTER = "/linux/intelRdt"


def compile_resctrl(plan: Plan, spec: "dict[str, Any]", host: Host) -> None:
    """Append the parent's steps, and note the groups that delete has to remove.

    Raises Unsupported where resctrl is not mounted, InvalidConfig for lines that are none.
    """
    wanted = spec["linux"]["intelRdt"]
    root = host.resctrl()
    if not root:
        raise Unsupported(
            "linux.intelRdt is set, and no resctrl file system is mounted on this machine",
            pointer=_POINTER,
            hint="it needs a processor and a kernel with RDT, and "
            "`mount -t resctrl resctrl /sys/fs/resctrl`",
        )
    name = wanted.get("closID") or ""
    directory = root if name == "/" else f"{root}/{name or plan.id}"
    both = ("l3CacheSchema", "memBwSchema")
    cache = [schemata_lines(wanted, key) for key in both if wanted.get(key)]
    lines = [
        _checked(line, f"{_POINTER}/schemata/{index}")
        for index, line in enumerate(wanted.get("schemata") or ())
    ]
    match, schemata = b"".join(cache), b"".join(lines)
    steps = plan.parent
    if name and not match and not schemata:
        steps.append(Step("resctrl-existing", f"{_POINTER}/closID", directory))
    elif name:
        steps.append(Step("resctrl-group", _POINTER, root, directory, schemata, match))
    else:
        steps.append(Step("resctrl-group", _POINTER, root, directory, match + schemata, b""))
        plan.resctrl.append(directory)
    # A monitoring group only takes tasks of the group that it is in (x86/resctrl.rst).
    steps.append(Step("resctrl-join", _POINTER, root, directory))
    for key in ("enableMonitoring", "enableCMT", "enableMBM"):
        value = wanted.get(key)
        if value not in (None, True, False):
            raise InvalidConfig("neither true nor false", pointer=f"{_POINTER}/{key}")
        if value:
            directory = f"{directory}/mon_groups/{plan.id}"
            steps.append(Step("resctrl-monitor", f"{_POINTER}/{key}", root, directory))
            steps.append(Step("resctrl-join", f"{_POINTER}/{key}", root, directory))
            plan.resctrl.append(directory)
            break


def schemata_lines(wanted: "dict[str, Any]", key: str) -> bytes:
    """The lines of schemata in one property, several before version 1.3. Raises InvalidConfig."""
    pointer = f"{_POINTER}/{key}"
    return b"".join(_checked(line, pointer) for line in wanted[key].splitlines())


def _checked(line: str, pointer: str) -> bytes:
    if not line.strip() or "\n" in line or ":" not in line:
        raise InvalidConfig("not a line of schemata", pointer=pointer, hint="such as L3:0=ff;1=c0")
    return encode(line, pointer) + b"\n"
