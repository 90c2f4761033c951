"""state and list: what is known about containers. Reads only."""

from ocirun.errors import OcirunError
from ocirun.runtime.settings import Settings, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def state(settings: Settings, container_id: str) -> "dict[str, Any]":
    """The state of a container: the specification's properties, and those that runc adds.

    Raises NotFound, StateError (runtime.md, "Query State").
    """
    folder = settings.store.open(container_id)
    try:
        record = folder.read()
        status = status_of(folder, record)
    finally:
        folder.close()
    fields = record.fields
    result = {
        "ociVersion": fields["ociVersion"],
        "id": fields["id"],
        "pid": 0 if status == "stopped" else record.pid,
        "status": status,
        "bundle": record.bundle,
        "rootfs": fields["rootfs"],
        "created": fields["created"],
        "owner": fields["owner"],
    }
    if fields["annotations"]:
        result["annotations"] = fields["annotations"]
    return result


def states(settings: Settings) -> "list[dict[str, Any]]":
    """The state of every container; one that cannot be read has the status "unknown"."""
    found = []
    for container_id in settings.store.ids():
        try:
            found.append(state(settings, container_id))
        except OcirunError:
            try:
                settings.store.open(container_id).close()
            except OcirunError:  # deleted meanwhile, or no directory
                continue
            found.append(
                {
                    "ociVersion": "",
                    "id": container_id,
                    "pid": 0,
                    "status": "unknown",
                    "bundle": "",
                    "rootfs": "",
                    "created": "",
                    "owner": "",
                }
            )
    return found
