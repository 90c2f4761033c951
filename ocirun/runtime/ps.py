"""ps: the processes of a container."""

from ocirun.errors import Unsupported
from ocirun.runtime.settings import Settings


def processes(settings: Settings, container_id: str) -> list[int]:
    """The pids of a container's processes, as the caller sees them, sorted.

    Raises NotFound, StateError, Unsupported (without cgroups nobody knows them).
    """
    folder = settings.store.open(container_id)
    try:
        record = folder.read()
    finally:
        folder.close()
    if not record.cgroups:
        raise Unsupported(
            f"the processes of container {record.id} are not known: it has no cgroup",
            hint="create it without --cgroup-manager disabled",
        )
    from ocirun.cgroups import processes as find

    return find(record.cgroups)
