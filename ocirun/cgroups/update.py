"""New limits for a container that exists: linux.resources -> steps on its cgroups; pure.

What the new object does not name stays as it is (runc's `update` means the same).
The steps are safe in whatever state the cgroups are; `perform.apply` does them.
"""

from ocirun.cgroups.compile import CgroupPlan, compile_rules
from ocirun.cgroups.mounts import Layout
from ocirun.cgroups.resources import compile_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def compile_update(
    resources: "dict[str, Any]", where: Layout, paths: dict[str, str], version: str
) -> CgroupPlan:
    """The plan that applies `resources` to the cgroups of a container.

    Args:
        resources: an object as linux.resources, valid by the schema. Its device rules, if
            there are any, take the place of all the container has; on v2 in one step,
            on v1 with a moment in which nothing may be opened.
        where: the layout of this machine.
        paths: the container's directories, from its record.
        version: the ociVersion by which `resources` is to be read.

    Raises InvalidConfig, Unsupported.
    """
    steps, _ = compile_resources(resources, where, paths, version)
    if resources.get("devices"):
        steps = compile_rules({"linux": {"resources": resources}}, resources, paths) + steps
    return CgroupPlan(tuple(steps), (), paths)
