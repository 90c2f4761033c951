"""Id-mapped mounts: a mount's uidMappings and gidMappings, `idmap`, `ridmap` (config.md, "Mounts").

Imported only for a spec that has such a mount.
"""

from ocirun.errors import InvalidConfig
from ocirun.plan.namespaces import Namespaces
from ocirun.plan.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMIT = 340
"""Lines that the kernel takes for the map of a user namespace (user_namespaces(7))."""


def mapping_of(
    entry: "dict[str, Any]", options: Options, spaces: Namespaces, pointer: str
) -> tuple[bool, bytes, bytes]:
    """(the whole tree, uid map, gid map) of a mount; empty maps: those of the container.

    Raises InvalidConfig.
    """
    whole = options.idmap == "ridmap"
    lines = {}
    for name in ("uidMappings", "gidMappings"):
        found = entry.get(name) or ()
        if len(found) > LIMIT:
            raise InvalidConfig(
                f"{len(found)} mappings are too many: the kernel takes {LIMIT}",
                pointer=f"{pointer}/{name}",
            )
        lines[name] = "".join(f"{e['containerID']} {e['hostID']} {e['size']}\n" for e in found)
    if not lines["uidMappings"] and not lines["gidMappings"]:
        if not spaces.private("user"):
            raise InvalidConfig(
                "an id-mapped mount without mappings and without a user namespace",
                pointer=pointer + "/options",
                hint="add uidMappings and gidMappings to the mount",
            )
    elif not all(lines.values()):
        missing = "gidMappings" if lines["uidMappings"] else "uidMappings"
        raise InvalidConfig(f"an id-mapped mount needs {missing} too", pointer=pointer)
    return whole, lines["uidMappings"].encode(), lines["gidMappings"].encode()
