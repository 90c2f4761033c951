"""Kernel parameters: only those of namespaces that the container owns (config-linux.md)."""

from ocirun.errors import InvalidConfig
from ocirun.plan.namespaces import Namespaces, own_namespace
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import encode, token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def compile_sysctl(plan: Plan, spec: "dict[str, Any]", spaces: Namespaces) -> None:
    """Append a step for every parameter. Raises InvalidConfig for one that is the host's."""
    wanted = (spec.get("linux") or {}).get("sysctl")
    if not wanted:
        return
    from ocirun.spec.strict_linux import sysctl_namespace, sysctl_path

    seen: set[str] = set()
    for name, value in wanted.items():
        pointer = "/linux/sysctl/" + token(name)
        parts = sysctl_path(name)
        kind = sysctl_namespace(".".join(parts)) if parts else None
        if parts is None or kind is None:
            raise InvalidConfig(
                f"the kernel parameter {name} belongs to no namespace",
                pointer=pointer,
                hint="it would change the whole host: set it there, with sysctl(8)",
            )
        if not spaces.private(kind):
            raise InvalidConfig(
                f"the kernel parameter {name} needs a {kind} namespace of the container's own",
                pointer=pointer,
                hint=f'add {{"type": "{kind}"}} to linux.namespaces',
            )
        if kind not in seen:
            seen.add(kind)
            own_namespace(plan, spaces, kind, f"the kernel parameter {name}", pointer)
        path = encode("/".join(parts), pointer)
        plan.child.append(Step("sysctl", pointer, path, encode(value, pointer)))
