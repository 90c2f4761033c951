"""delete: remove what is left of a container (runtime.md, "delete").

The order matters: end the processes, remove the cgroups, run the poststop
hooks, and the record last, so that a crash in between leaves something that can
be deleted again.
"""

import posix

from ocirun.errors import NotFound, OcirunError, StateError, WrongStatus
from ocirun.runtime.settings import Settings, state_file, status_of
from ocirun.state.store import Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def delete(settings: Settings, container_id: str, force: bool = False) -> None:
    """Delete a container that has stopped; with `force` any, and none is no error.

    Raises NotFound, WrongStatus, StateError.
    """
    try:
        folder = settings.store.open(container_id, lock=True)
    except NotFound:
        if force:
            return
        raise
    try:
        _delete(settings, folder, force)
    finally:
        folder.close()


def _delete(settings: Settings, folder: Folder, force: bool) -> None:
    try:
        record = folder.read()
    except StateError:
        if not force:
            raise
        folder.remove()
        return
    status = status_of(folder, record)
    if status not in ("stopped", "creating") and not force:
        raise WrongStatus(
            f"cannot delete container {folder.id} that is not stopped: {status}",
            hint=f"`ocirun kill {folder.id} KILL` first, or `ocirun delete --force {folder.id}`",
            bundle=record.bundle,
        )
    # "creating" here means that its creator has died: it would hold the lock.
    if status != "stopped" or not record.fields["ownPids"]:
        from ocirun.runtime.kill import end

        if not end(record, whole=status == "creating"):
            raise WrongStatus(
                f"container {folder.id} did not end within 10 seconds after SIGKILL",
                bundle=record.bundle,
            )
    clear(settings, folder, record.cgroups, record.fields)


def clear(
    settings: Settings, folder: Folder, cgroups: dict[str, str], fields: "dict[str, Any]"
) -> None:
    """Remove cgroups, run the poststop hooks, remove the record, of a dead container."""
    if cgroups and "scope" in fields:
        from ocirun.cgroups.scopes import stop

        unit, bus = fields["scope"]
        stop(unit, bus, cgroups, settings.note)
    if cgroups:
        from ocirun.cgroups import remove

        remove(cgroups)
    if fields.get("resctrl"):
        from ocirun.executor.resctrl import remove as remove_groups

        remove_groups(fields["resctrl"])
    if fields["hooks"].get("poststop"):
        run_poststop(settings, fields)
    if fields["annotations"].get("run.ocirun.launch"):
        from ocirun.image.bundle import cleanup

        cleanup(fields["bundle"])
    folder.remove()


def run_poststop(settings: Settings, fields: "dict[str, Any]") -> None:
    """Run the poststop hooks; one that fails is noted, and the others go on (runtime.md)."""
    from ocirun.executor.failures import hook_failed
    from ocirun.executor.hooks import run_hooks
    from ocirun.plan.process import compile_hooks
    from ocirun.plan.step import Plan

    plan = Plan(fields["id"], fields["bundle"])
    try:
        compile_hooks(plan, fields)
    except OcirunError as error:
        settings.note(error.message)
        return
    hooks = plan.hooks.get("poststop", [])
    for index in range(len(hooks)):
        state = state_file(fields, "stopped", 0)
        failure = run_hooks(hooks[index : index + 1], state)
        posix.close(state)
        if failure:
            words = failure[2].decode("utf-8", "replace")
            settings.warn(hook_failed(plan, "poststop", index, failure[1], words).message)
