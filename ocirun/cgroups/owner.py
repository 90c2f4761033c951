"""Whose a container's v2 cgroup is (config-linux.md, "Cgroup ownership"); pure.

A container with a cgroup namespace of its own and a writable mount of it manages
the cgroups below. So that its user can do so, the directory and the few files
that hand out nothing (/sys/kernel/cgroup/delegate) become that user's.
"""

from ocirun.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def ownership(spec: "dict[str, Any]", pointer: str, directory: str) -> list[Step]:
    """The step that gives the cgroup away; none if it would stay root's, or the user is unmapped.

    `pointer` is that of the writable mount.
    """
    linux = spec.get("linux") or {}
    spaces = {entry["type"]: entry.get("path") for entry in linux.get("namespaces") or ()}
    if "cgroup" not in spaces or spaces["cgroup"]:
        return []
    user = ((spec.get("process") or {}).get("user") or {}).get("uid") or 0
    if "user" in spaces:
        user = _on_the_host(user, linux.get("uidMappings") or ())
    return [Step("cgroup-chown", pointer, directory, user)] if user > 0 else []


def _on_the_host(user: int, mappings: "Any") -> int:
    for one in mappings:
        if 0 <= user - one["containerID"] < one["size"]:
            found: int = one["hostID"] + user - one["containerID"]
            return found
    return -1
