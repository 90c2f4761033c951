"""mounts add, mounts remove: mounts of a container that runs, as of crun."""

from ocirun.errors import InvalidConfig, OcirunError, WrongStatus
from ocirun.executor.child import Link
from ocirun.executor.parent import spawn
from ocirun.plan.adding import compile_added, compile_removed
from ocirun.plan.step import Plan
from ocirun.plan.values import clean
from ocirun.runtime.settings import Settings, need_alive
from ocirun.spec.fastjson import dumps, loads
from ocirun.spec.load import CONFIG, check_spec, load_kept, read_input
from ocirun.state.store import Folder, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirun.executor.child import Cloner

    Spec = dict[str, Any]


class Mounts:
    """Mounts, and where they come from.

    Attributes:
        entries: as in config.json's `mounts`; not checked yet.
        name: of the document, for messages.
        text: the document, "" without one.
    """

    prefix = "/mounts"
    options: dict[str, str] = {}  # noqa: RUF012, of an update alone

    def __init__(self, entries: "list[Any]", name: str = "mounts", text: str = "") -> None:
        self.entries = entries
        self.name = name
        self.text = text


def read_mounts(path: str) -> Mounts:
    """The mounts in a file as a JSON array; "-" is standard input.

    Raises BundleError, InvalidJSON, InvalidConfig.
    """
    data = read_input(path)
    name = "standard input" if path == "-" else path
    value = loads(data, name)
    if not isinstance(value, list):
        raise InvalidConfig("the mounts are not an array", path=name)
    return Mounts(value, name, data.decode())


def add_mounts(
    settings: Settings, container_id: str, given: Mounts, cloner: "Cloner | None" = None
) -> None:
    """Mount in a container that is created, running or paused: all of the mounts, or none.

    `cloner` clones the process that does it in another process; None: in this one. Raises
    NotFound, WrongStatus, InvalidConfig, Unsupported, StepFailed.
    """

    def plan(folder: Folder, record: Record, spec: "Spec") -> "tuple[Plan, list[Any]]":
        before = spec.get("mounts") or []
        spec = check_spec({**spec, "mounts": given.entries})
        plan = compile_added(
            spec, settings.host(), record.id, record.bundle, record.pid, record.cgroups
        )
        return plan, [*before, *spec["mounts"]]

    _change(settings, container_id, given, cloner, "add mounts to", plan)


def remove_mounts(
    settings: Settings, container_id: str, given: Mounts, cloner: "Cloner | None" = None
) -> None:
    """Unmount in a container that is created, running or paused: all of the mounts, or none.

    Only their destinations count; the last one goes first. Raises NotFound, WrongStatus,
    InvalidConfig, Unsupported, StepFailed.
    """

    def plan(folder: Folder, record: Record, spec: "Spec") -> "tuple[Plan, list[Any]]":
        left = list(spec.get("mounts") or ())
        wanted = _destinations(given.entries)
        spec = {**spec, "mounts": wanted}
        for entry in reversed(wanted):
            places = [clean(one["destination"]) for one in left]
            place = clean(entry["destination"])
            if place in places:
                del left[len(places) - 1 - places[::-1].index(place)]
        return compile_removed(spec, record.id, record.bundle, record.pid), left

    _change(settings, container_id, given, cloner, "remove mounts from", plan)


def _destinations(entries: "list[Any]") -> "list[dict[str, str]]":
    found = []
    for index, entry in enumerate(entries):
        place = entry.get("destination") if isinstance(entry, dict) else None
        if not isinstance(place, str) or not place:
            raise InvalidConfig(
                "a mount to be removed is an object with a destination",
                pointer=f"/mounts/{index}",
            )
        found.append({"destination": place})
    return found


def _change(
    settings: Settings,
    container_id: str,
    given: Mounts,
    cloner: "Cloner | None",
    what: str,
    make: "Callable[[Folder, Record, Spec], tuple[Plan, list[Any]]]",
) -> None:
    folder = settings.store.open(container_id, lock=True)
    try:
        record = folder.read()
        need_alive(folder, record, what)
        try:
            spec = load_kept(folder.fd)
            plan, mounts = make(folder, record, spec)
            # Before it is done: who cannot note it must not have done it.
            folder.write_file(CONFIG, dumps({**spec, "mounts": mounts}).encode())
            try:
                _perform(plan, record, cloner)
            except BaseException:
                folder.write_file(CONFIG, dumps(spec).encode())
                raise
        except OcirunError as error:
            from ocirun.runtime.blame import blame

            if not error.bundle:
                record.point_into(error)
            blame(error, given)
            raise
    finally:
        folder.close()


def _perform(plan: Plan, record: Record, cloner: "Cloner | None") -> None:
    link = Link()
    link.cloner = cloner
    birth = spawn(plan, link)
    if not record.is_alive():
        # The namespaces may have been those of another process of the same number.
        birth.abort()
        raise WrongStatus(f"container not running: {record.id}", bundle=record.bundle)
    birth.prepare()
    birth.finish(lambda: None)
    birth.process.end()
