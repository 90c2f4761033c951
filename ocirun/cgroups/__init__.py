"""The cgroups of a container: one interface; v1, hybrid and v2 behind it.

Belongs in this folder: where the hierarchies are, what a spec asks of them (pure,
as steps), carrying the steps out, and what is done to a cgroup afterwards. Does
not belong here: mounting cgroup file systems inside a container (`plan` and
`executor`), and the store.

    mounts      layout(), mount_facts(): the hierarchies of this machine
    compile     compile_cgroup(): spec -> CgroupPlan, pure
    resources   linux.resources -> wishes -> steps, pure (loaded if limits are asked for)
    systemd     manager(); spec -> the scope that systemd is asked for (with that driver only)
    properties  limits and device rules as properties of a unit, pure; gvariant: their text form
    scopes      start() and stop() a scope; bus: the D-Bus that carries it
    v1, v2      the files of either version for a wish, pure
    devices     linux.resources.devices -> rules, and their form in v1, pure
    devicebpf   rules -> the eBPF program that v2 needs, pure
    update      compile_update(): new resources -> steps on cgroups that exist, pure
    change      those done, or taken back
    stats       read_stats(): what a container uses
    owner       whose the cgroup becomes, pure (loaded if a container can write to it)
    perform     apply(), open_doors(), attach(): the steps done
    tree        processes(), signal(), kill(), remove(), freeze(), thaw(), oom_killed()
    words       steps and hints in words, cold

Names are loaded on first use, so that `delete` does not pay for the compiler.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cgroups.compile import CgroupPlan, compile_cgroup, joining
    from ocirun.cgroups.devices import compile_devices
    from ocirun.cgroups.mounts import Layout, layout, mount_facts
    from ocirun.cgroups.perform import Doors, apply, attach, failed_to_join, open_doors, undo
    from ocirun.cgroups.tree import freeze, kill, oom_killed, processes, remove, signal, thaw
    from ocirun.cgroups.update import compile_update

_MODULES = {
    "CgroupPlan": "compile",
    "compile_cgroup": "compile",
    "compile_devices": "devices",
    "compile_update": "update",
    "joining": "compile",
    "Layout": "mounts",
    "layout": "mounts",
    "mount_facts": "mounts",
    "apply": "perform",
    "attach": "perform",
    "failed_to_join": "perform",
    "open_doors": "perform",
    "Doors": "perform",
    "undo": "perform",
    "freeze": "tree",
    "kill": "tree",
    "oom_killed": "tree",
    "processes": "tree",
    "remove": "tree",
    "signal": "tree",
    "thaw": "tree",
}

__all__ = [
    "CgroupPlan",
    "Doors",
    "Layout",
    "apply",
    "attach",
    "compile_cgroup",
    "compile_devices",
    "compile_update",
    "failed_to_join",
    "freeze",
    "joining",
    "kill",
    "layout",
    "mount_facts",
    "oom_killed",
    "open_doors",
    "processes",
    "remove",
    "signal",
    "thaw",
    "undo",
]


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(__import__(f"{__name__}.{module}", None, None, (name,)), name)
    globals()[name] = value
    return value
