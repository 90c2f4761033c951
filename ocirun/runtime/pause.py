"""pause and resume: the freezer of the container's cgroups (cgroups(7), cgroup-v2.rst)."""

from ocirun.errors import Unsupported, WrongStatus
from ocirun.runtime.settings import Settings, status_of
from ocirun.state.store import Record


def pause(settings: Settings, container_id: str) -> None:
    """Stop every process of a container that is created or running.

    Raises NotFound, WrongStatus, Unsupported, StepFailed.
    """
    _set(settings, container_id, True)


def resume(settings: Settings, container_id: str) -> None:
    """Let a paused container go on. Raises NotFound, WrongStatus, Unsupported, StepFailed."""
    _set(settings, container_id, False)


def _set(settings: Settings, container_id: str, frozen: bool) -> None:
    folder = settings.store.open(container_id, lock=True)
    try:
        record = folder.read()
        status = status_of(folder, record)
        if status not in (("created", "running") if frozen else ("paused",)):
            raise WrongStatus(
                f"cannot pause a container that is {status}: {record.id}"
                if frozen
                else f"cannot resume a container that is not paused: {record.id}",
                bundle=record.bundle,
            )
        _check_freezer(record)
        from ocirun.cgroups import freeze, thaw

        (freeze if frozen else thaw)(record.cgroups)
    finally:
        folder.close()


def _check_freezer(record: Record) -> None:
    if "freezer" not in record.cgroups and "" not in record.cgroups:
        raise Unsupported(
            f"container {record.id} has no cgroup with a freezer",
            hint="it was made without cgroups, or the machine has no freezer",
        )
