"""The share of update in resctrl: other schemata for a container's group. Cold.

As with runc, a container without linux.intelRdt gets a group of its own by the first update.
"""

from errno import ESRCH
from typing import TYPE_CHECKING, Any

from ocirun.errors import OcirunError, Unsupported
from ocirun.executor.failures import step_failed
from ocirun.executor.resctrl import ResctrlError, group, join
from ocirun.plan.resctrl import schemata_lines
from ocirun.plan.step import Step

if TYPE_CHECKING:
    from ocirun.runtime.settings import Settings
    from ocirun.runtime.update import Source
    from ocirun.state.store import Folder, Record

POINTER = "/linux/intelRdt"


def update_resctrl(
    settings: "Settings", folder: "Folder", record: "Record", spec: dict[str, Any], source: "Source"
) -> None:
    """Write the schemata of `source`, and note them in the config `spec`.

    Raises Unsupported where resctrl is not mounted, InvalidConfig for lines that are none,
    StepFailed.
    """
    root = need_resctrl(settings)
    linux = spec["linux"]
    asked = {"l3CacheSchema": source.l3_cache, "memBwSchema": source.memory_bandwidth}
    asked = {key: value for key, value in asked.items() if value}
    own = linux.get("intelRdt")
    name = (own or {}).get("closID") or record.id
    directory = root if name == "/" else f"{root}/{name}"
    schemata = b"".join(schemata_lines(asked, key) for key in asked)
    pids = _processes(record) if own is None else []
    try:
        undo = group(record.pid, root, directory, schemata, b"")
        if undo is not None:
            record.fields["resctrl"] = [*record.fields.get("resctrl", ()), directory]
        record.fields["rdt"] = [root, directory]
        folder.write(record.fields)
        for pid in pids:
            _join(pid, root, directory)
    except ResctrlError as error:
        raise _failed(root, directory, schemata, error) from None
    linux["intelRdt"] = {**(own or {}), **asked}


def need_resctrl(settings: "Settings") -> str:
    """Where resctrl is mounted. Raises Unsupported if it is not."""
    root = settings.host().resctrl()
    if not root:
        raise Unsupported(
            "no resctrl file system is mounted on this machine",
            hint="--l3-cache-schema and --mem-bw-schema need a processor and a kernel with RDT, "
            "and `mount -t resctrl resctrl /sys/fs/resctrl`",
        )
    return root


def _join(pid: int, root: str, directory: str) -> None:
    """Put a process into the group, unless it has ended meanwhile."""
    try:
        join(pid, root, directory)
    except ResctrlError as error:
        if error.errno != ESRCH:
            raise


def _processes(record: "Record") -> list[int]:
    if not record.cgroups:
        return [record.pid]
    from ocirun.cgroups import processes

    return processes(record.cgroups)


def _failed(root: str, directory: str, schemata: bytes, error: ResctrlError) -> OcirunError:
    step = Step("resctrl-group", "", root, directory, schemata, b"")
    failure = step_failed(step, error.errno or 0, error.call)
    failure.kernel = error.words
    return failure
