"""From a spec to the steps that make and fill the container's cgroups; pure.

Belongs here: where the cgroups are (linux.cgroupsPath) and the order of the steps.
What limits mean is in `resources`, rules for devices in `devices`. The steps and
their arguments:

    cgroup-scope           unit, slice, bus, properties, path of its cgroup (systemd)
    cgroup-mkdir           directory
    cgroup-ensure          directory, which systemd may have made (systemd)
    cgroup-enable          directory, needed controllers, wanted controllers (v2)
    cgroup-inherit-cpuset  directory, mount point (v1)
    cgroup-write           file, value[, file and value for a kernel without the first]
    cgroup-check-usage     file, bytes
    cgroup-devices-bpf     directory, rules (v2)
    cgroup-chown           directory, user id (v2)
    cgroup-join            directory, 1 or 2 (the version)
"""

from ocirun.cgroups.devices import compile_devices, v1_steps
from ocirun.cgroups.mounts import Layout
from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cgroups.devices import Rule
    from ocirun.cgroups.systemd import Manager

POINTER = "/linux/cgroupsPath"


class CgroupPlan:
    """What to do to the cgroups of one container.

    Attributes:
        steps: to be done before the process is cloned, in this order.
        join: a "cgroup-join" step per hierarchy, for `open_doors` or `attach`.
        scope: the step by which systemd makes the cgroups, before the others and after
            the clone; None without systemd.
        paths: the container's directory in each hierarchy, keyed as Layout.mounts;
            this goes into the state, and is all that kill and delete need.
        rules: of an update, the device rules that steps of it carry out, for systemd.
    """

    __slots__ = ("join", "paths", "rules", "scope", "steps")

    def __init__(
        self,
        steps: tuple[Step, ...],
        join: tuple[Step, ...],
        paths: dict[str, str],
        scope: Step | None = None,
        rules: "tuple[Rule, ...]" = (),
    ) -> None:
        self.steps = steps
        self.join = join
        self.paths = paths
        self.scope = scope
        self.rules = rules


def compile_cgroup(
    spec: dict[str, object],
    where: Layout,
    container_id: str,
    *,
    manager: "Manager | None" = None,
    euid: int = 0,
) -> CgroupPlan:
    """Compile the cgroups of a container (config-linux.md "Control groups").

    An absolute cgroupsPath is below the mount point of each hierarchy. A relative
    one, or without any the container's id, is below this process's own cgroup; on
    pure v2 below the parent of that, because a v2 cgroup with processes of its own
    cannot give controllers to others (cgroups(7) "no internal processes").

    With `manager`, systemd makes them: cgroupsPath is then slice:prefix:name. `euid` is
    the caller's effective user id: only root can give a cgroup away.

    Raises InvalidConfig for a path that leaves its place, and Unsupported for what
    no controller of the machine can do.
    """
    linux = spec.get("linux") or {}
    assert isinstance(linux, dict)
    resources = linux.get("resources") or {}
    asked = linux.get("cgroupsPath") or ""
    if asked and not where.mounts:
        raise Unsupported("no cgroup hierarchy is mounted on this machine", pointer=POINTER)
    pointer = POINTER if asked else ""
    if manager is None:
        relative, absolute = _clean(asked or container_id)
        paths = {
            key: point + ("" if absolute else _base(where, key)) + "/" + relative
            for key, point in where.mounts.items()
        }
    else:
        from ocirun.cgroups import systemd

        place = systemd.Place(asked, container_id, where, manager)
        paths = place.paths
    settings: list[Step] = []
    needed: tuple[str, ...] = ()
    if any(key != "devices" and value for key, value in resources.items()):
        from ocirun.cgroups.resources import compile_resources

        settings, needed = compile_resources(
            resources, where, paths, str(spec.get("ociVersion") or "1.3.0")
        )
    scope = None
    if manager is None:
        steps = enable(where, paths, needed, pointer) if "" in paths else []
        steps += [Step("cgroup-mkdir", pointer, one) for one in dict.fromkeys(paths.values())]
    else:
        scope = systemd.compile_scope(spec, place, manager, container_id, settings)
        steps = systemd.preparations(where, place, needed, pointer)
    if "cpuset" in paths:
        # A new v1 cpuset is empty, and no process can join it (cpuset(7)).
        steps.append(Step("cgroup-inherit-cpuset", "", paths["cpuset"], where.mounts["cpuset"]))
    steps += compile_rules(spec, resources, paths)
    steps += settings
    if where.mode == "v2" and euid == 0:
        steps += _ownership(spec, paths[""])
    return CgroupPlan(tuple(steps), _join(paths, pointer, scope is not None), paths, scope)


def joining(paths: dict[str, str]) -> CgroupPlan:
    """The plan for a further process of a container whose state has these paths (exec)."""
    return CgroupPlan((), _join(paths, ""), paths)


def _join(paths: dict[str, str], pointer: str, scope: bool = False) -> tuple[Step, ...]:
    """The steps into each hierarchy, but for those into which systemd puts the process."""
    versions = {
        directory: 1 if key else 2
        for key, directory in paths.items()
        if not (scope and key in ("", "name=systemd"))
    }
    return tuple(Step("cgroup-join", pointer, *one) for one in versions.items())


def _clean(path: str) -> tuple[str, bool]:
    """(path without needless parts and slashes, whether it was absolute). Raises InvalidConfig."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    why = ""
    if ".." in parts:
        why = 'must not contain ".."'
    elif "\0" in path or "\n" in path:
        why = "contains a character that no cgroup's name can have"
    elif not parts:
        why = "is the root of the hierarchy, with all processes of the machine in it"
    elif max(map(len, parts)) > 255:
        why = "has a name of more than 255 characters"
    if why:
        raise InvalidConfig(
            f"cgroupsPath {why}", pointer=POINTER, hint='use a path such as "/mygroup/mycontainer"'
        )
    return "/".join(parts), path.startswith("/")


def _base(where: Layout, key: str) -> str:
    """Where relative paths begin in a hierarchy, from its mount point: "" or "/x/y"."""
    own = where.own[key].rstrip("/")
    return own.rpartition("/")[0] if where.mode == "v2" else own


def enable(
    where: Layout, paths: dict[str, str], needed: tuple[str, ...], pointer: str
) -> list[Step]:
    """Steps that hand controllers down from the v2 root to the container's cgroup.

    Besides the needed ones, all that there are, for statistics; but on a hybrid
    layout the v2 hierarchy is left as it is unless something is needed of it.
    """
    wanted = where.controllers if where.mode == "v2" else needed
    if not wanted:
        return []
    directory = where.mounts[""]
    steps = []
    for part in paths[""][len(directory) + 1 :].split("/"):
        steps.append(Step("cgroup-enable", pointer, directory, needed, wanted))
        directory += "/" + part
    return steps


def _ownership(spec: dict[str, object], directory: str) -> list[Step]:
    mounts = spec.get("mounts") or ()
    assert isinstance(mounts, list | tuple)
    for index, mount in enumerate(mounts):
        if mount.get("source") != "cgroup" or mount["destination"].rstrip("/") != "/sys/fs/cgroup":
            continue
        options = mount.get("options") or ()
        if "ro" not in options and "rro" not in options:
            from ocirun.cgroups.owner import ownership

            return ownership(spec, f"/mounts/{index}", directory)
    return []


def compile_rules(
    spec: dict[str, object], resources: dict[str, object], paths: dict[str, str]
) -> list[Step]:
    """The steps for the device rules of a spec, the default ones included."""
    if "devices" in paths:
        return v1_steps(spec, paths["devices"])
    rules = compile_devices(spec)
    pointer = "/linux/resources/devices" if resources.get("devices") else ""
    if "" in paths:
        return [Step("cgroup-devices-bpf", pointer, paths[""], rules)]
    if pointer:
        raise Unsupported(
            "no cgroup hierarchy of this machine can restrict devices",
            pointer=pointer,
            hint="mount the devices controller of cgroup v1, or cgroup v2",
        )
    return []
