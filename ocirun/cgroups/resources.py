"""linux.resources, but for devices: the wishes of a spec -> steps; pure.

Each section of the spec goes to the hierarchy that has its controller, be it v1 or
v2, so a hybrid layout needs no rules of its own. What no hierarchy of the machine
can do is Unsupported, never left out.
"""

from ocirun.cgroups.mounts import Layout
from ocirun.cgroups.wishes import Object, Wish
from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

POINTER = "/linux/resources"

# (section of the spec, controller in v1, controller in v2); a controller's name is
# the name of the function that knows its files, in `v1` or `v2`.
_SECTIONS = (
    ("memory", "memory", "memory"),
    ("cpu", "cpu", "cpu"),
    ("cpu", "cpuset", "cpuset"),
    ("pids", "pids", "pids"),
    ("hugepageLimits", "hugetlb", "hugetlb"),
    ("blockIO", "blkio", "io"),
    ("network", "net_cls", ""),
    ("network", "net_prio", ""),
    ("rdma", "rdma", "rdma"),
)


def compile_resources(
    resources: Object, where: Layout, paths: dict[str, str], version: str = "1.3.0"
) -> tuple[list[Step], tuple[str, ...]]:
    """(steps, v2 controllers that they need) for linux.resources.

    `paths` holds the container's directory in each hierarchy of `where`; `version` is
    the spec's ociVersion. Raises InvalidConfig, Unsupported.
    """
    if resources.get("pids") == {"limit": 0} and is_before_1_3(version):
        # 0 meant "no limit" until runtime-spec 1.3 made it a number like others.
        resources = {**resources, "pids": {"limit": -1}}
    steps: list[Step] = []
    needed: list[str] = []
    for section, v1_name, v2_name in _SECTIONS:
        asked = resources.get(section)
        if not asked:
            continue
        if v1_name in where.mounts:
            steps += _steps(paths[v1_name], _module("v1"), v1_name, asked)
        elif v2_name and v2_name in where.controllers:
            found = _steps(paths[""], _module("v2"), v2_name, asked)
            steps += found
            if found:
                needed.append(v2_name)
        else:
            _refuse(where, v1_name, v2_name, asked)
    offered = ("cgroup", *where.controllers) if "" in where.mounts else ()
    for controller, wish in _unified(resources):
        if controller not in offered:
            raise _missing(where, "", controller, wish)
        steps.append(_step(paths[""], wish))
        if controller != "cgroup":
            needed.append(controller)
    return steps, tuple(dict.fromkeys(needed))


def is_before_1_3(version: str) -> bool:
    """By this version of the specification, a pids limit of 0 is no limit."""
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) < (1, 3)


def _module(name: str) -> "ModuleType":
    module: ModuleType = __import__(f"ocirun.cgroups.{name}", None, None, ("memory",))
    return module


def _steps(directory: str, module: "ModuleType", controller: str, asked: object) -> list[Step]:
    wishes: list[Wish] = getattr(module, controller)(asked)
    steps = [_step(directory, wish) for wish in wishes]
    if controller == "memory" and isinstance(asked, dict) and asked.get("checkBeforeUpdate"):
        limit = asked.get("limit") or 0
        if limit > 0 and module.__name__.endswith("v2"):
            # In v1 the kernel itself refuses a limit below what cannot be reclaimed.
            pointer = POINTER + "/memory/checkBeforeUpdate"
            steps.insert(
                0, Step("cgroup-check-usage", pointer, f"{directory}/memory.current", limit)
            )
    return steps


def _step(directory: str, wish: Wish) -> Step:
    pointer, file, value, *other = wish
    if "/" in file:
        raise InvalidConfig(f'"{file}" is no name of a file', pointer=POINTER + pointer)
    if other:
        other[0] = f"{directory}/{other[0]}"
    return Step("cgroup-write", POINTER + pointer, f"{directory}/{file}", value, *other)


def _unified(resources: Object) -> list[tuple[str, Wish]]:
    asked = resources.get("unified")
    found: list[tuple[str, Wish]] = _module("v2").unified(asked) if asked else []
    return found


def _refuse(where: Layout, v1_name: str, v2_name: str, asked: object) -> None:
    """Raise Unsupported if the section asks for anything at all; {} does not."""
    wishes: list[Wish] = getattr(_module("v1"), v1_name)(asked)
    if wishes:
        raise _missing(where, v1_name, v2_name, wishes[0])


def _missing(where: Layout, v1_name: str, v2_name: str, wish: Wish) -> Unsupported:
    name = v2_name if where.mode == "v2" and v2_name else v1_name or v2_name
    message = f"no cgroup hierarchy of this machine has the {name} controller"
    if not v1_name and "" not in where.mounts:
        message = "unified names files of cgroup v2, which is not mounted on this machine"
        hint = "use the properties of the single controllers instead"
    elif where.mode == "v2" and not v2_name:
        hint = "cgroup v2 has no such controller; remove the property"
    elif where.mode == "v2":
        hint = f"{where.mounts['']}/cgroup.controllers lists those that this machine offers"
    else:
        hint = "/proc/self/mountinfo lists the hierarchies that are mounted on this machine"
    return Unsupported(message, pointer=POINTER + wish[0], hint=hint)
