"""update: other limits for a container that exists.

Belongs here: whether it may be updated, what of a request is a change, and keeping the
record of it. Which files that means is decided by `cgroups.update`, and done by
`cgroups.change`. Errors are made to point into what the caller gave by `blame`, cold.
"""

from ocirun.cgroups import Layout, layout
from ocirun.cgroups.resources import POINTER
from ocirun.cgroups.update import compile_update, completed, merged, wanted
from ocirun.errors import OcirunError, Unsupported
from ocirun.runtime.settings import Settings, need_alive
from ocirun.spec.fastjson import dumps, loads
from ocirun.spec.load import CONFIG, check_spec, load_kept, read_input
from ocirun.state.store import Folder, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.cgroups import CgroupPlan


class Source:
    """New limits, and where they come from.

    Attributes:
        resources: an object as linux.resources; not checked yet.
        name: of the document, for messages.
        text: the document, "" without one.
        options: pointer, as into config.json, -> option of the command line that set it.
        l3_cache, memory_bandwidth: lines of schemata for resctrl; "" to leave them.
    """

    prefix = POINTER

    def __init__(
        self,
        resources: "dict[str, Any]",
        name: str = "resources",
        text: str = "",
        options: dict[str, str] | None = None,
    ) -> None:
        self.resources = resources
        self.name = name
        self.text = text
        self.options = options or {}
        self.l3_cache = ""
        self.memory_bandwidth = ""


def read_source(path: str) -> Source:
    """The resources in a file as JSON; "-" is standard input.

    Raises BundleError, InvalidJSON.
    """
    data = read_input(path)
    name = "standard input" if path == "-" else path
    value: dict[str, Any] = loads(data, name)  # type: ignore[assignment]
    return Source(value, name, data.decode())


def update(settings: Settings, container_id: str, source: Source) -> None:
    """Give a container that is created, running or paused other limits.

    What the resources do not name stays as it is. Later commands take the result for
    what config.json says. Raises NotFound, WrongStatus, InvalidConfig, Unsupported, and
    StepFailed, with the limits as they were before, as far as the kernel takes that.
    """
    folder = settings.store.open(container_id, lock=True)
    try:
        record = folder.read()
        need_alive(folder, record, "update")
        try:
            _update(settings, folder, record, source)
        except OcirunError as error:
            from ocirun.runtime.blame import blame

            blame(error, source)
            raise
    finally:
        folder.close()


def _update(settings: Settings, folder: Folder, record: Record, source: Source) -> None:
    spec = load_kept(folder.fd)
    linux = spec.setdefault("linux", {})
    own = linux.get("resources") or {}
    linux["resources"] = source.resources
    asked = check_spec(spec)["linux"]["resources"]
    version = spec["ociVersion"]
    asked = wanted(asked, own, version)
    rdt = source.l3_cache or source.memory_bandwidth
    if rdt:
        from ocirun.runtime.updaterdt import need_resctrl, update_resctrl

        need_resctrl(settings)
    if asked:
        _change(record, asked, own, version)
    linux["resources"] = merged(own, asked)
    folder.write_file(CONFIG, dumps(spec).encode())
    if rdt:
        update_resctrl(settings, folder, record, spec, source)
        folder.write_file(CONFIG, dumps(spec).encode())


def _change(record: Record, asked: "dict[str, Any]", own: "dict[str, Any]", version: str) -> None:
    from ocirun.cgroups.change import change

    paths = record.cgroups
    if not paths:
        raise Unsupported(
            f"container {record.id} has no cgroup, and so no limits that could be changed",
            hint="create it without --cgroup-manager disabled",
        )
    found = layout()
    mounts = {key: point for key, point in found.mounts.items() if key in paths}
    where = Layout(found.mode, mounts, found.own, found.controllers if "" in mounts else ())
    plan = compile_update(completed(asked, own), where, paths, version)
    scope = record.fields.get("scope")
    if scope and where.mode == "hybrid":
        plan.steps = tuple(step for step in plan.steps if step.op != "cgroup-enable")
    change(plan, scope, lambda: _former(own, where, paths, version))


def _former(
    own: "dict[str, Any]", where: Layout, paths: dict[str, str], version: str
) -> "CgroupPlan":
    """The plan of the limits that the container has had."""
    return compile_update(own, where, paths, version, devices=True)
