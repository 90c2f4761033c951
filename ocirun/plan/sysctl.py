"""Kernel parameters: only those of namespaces that the container owns (config-linux.md)."""

from ocirun.errors import InvalidConfig
from ocirun.plan.namespaces import Namespaces
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import encode, token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# namespaces(7): what is separate for each namespace of a kind.
_IPC = {
    "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall",
    "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced",
}  # fmt: skip
_UTS = {"kernel/domainname", "kernel/hostname"}


def compile_sysctl(plan: Plan, spec: "dict[str, Any]", spaces: Namespaces) -> None:
    """Append a step for every parameter. Raises InvalidConfig for one that is the host's."""
    for name, value in ((spec.get("linux") or {}).get("sysctl") or {}).items():
        pointer = "/linux/sysctl/" + token(name)
        path = _path(name)
        kind = _kind(path)
        if not kind:
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
        plan.child.append(Step("sysctl", pointer, encode(path, pointer), encode(value, pointer)))


def _path(name: str) -> str:
    """The path below /proc/sys. As in sysctl(8) the first separator tells which one is meant."""
    dot, slash = name.find("."), name.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        return name
    return name.replace("/", "\0").replace(".", "/").replace("\0", ".")


def _kind(path: str) -> str:
    if ".." in path.split("/"):
        return ""
    if path in _IPC or path.startswith("fs/mqueue/"):
        return "ipc"
    if path in _UTS:
        return "uts"
    if path.startswith("net/"):
        return "network"
    return ""
