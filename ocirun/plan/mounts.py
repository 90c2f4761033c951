"""Mounts: config.json's `mounts`, in their order (config.md, "Mounts")."""

from ocirun.cgroups import mount_facts
from ocirun.errors import InvalidConfig, Unsupported
from ocirun.linux.mount import MOUNT_ATTR_RDONLY
from ocirun.plan.host import Host
from ocirun.plan.namespaces import Namespaces, await_cgroup
from ocirun.plan.options import MS_SUPERBLOCK, Options, parse_options
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import clean, encode, join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Places below /proc that may be covered: a fake procfs would defeat masks and
# labels (CVE-2019-16884, CVE-2023-27561), these files only inform.
INSIDE_PROC = {
    "/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev",
    "/proc/slabinfo", "/proc/stat", "/proc/swaps", "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid", "/proc/uptime",
}  # fmt: skip


_UNLABELLED = ("proc", "sysfs", "mqueue")


def compile_mounts(
    plan: Plan, spec: "dict[str, Any]", host: Host, spaces: Namespaces
) -> tuple[list[Step], list[Step]]:
    """Append a step or more for every mount.

    Returns the steps to be done when all else is in place: file systems that
    must stay writable until then; and the mounts' own propagation, for a root file system
    whose propagation is set recursively.
    """
    late: list[Step] = []
    again: dict[str, Step] = {}
    label = mount_label(spec, host)
    for index, entry in enumerate(spec.get("mounts") or ()):
        pointer = f"/mounts/{index}"
        options = parse_options(entry.get("options") or [])
        kind = entry.get("type") or ""
        target = _check_destination(entry["destination"], pointer, kind)
        if options.propagation:
            flags = tuple(options.propagation)
            again[target] = Step("propagate", pointer + "/options", encode(target, pointer), flags)
        elif not options.remount:
            again.pop(target, None)
        if options.remount:
            plan.child.append(_remount(options, target, pointer))
        elif options.bind or kind in ("bind", "rbind"):
            options.recursive = options.recursive or kind == "rbind"
            if spaces.private("user"):
                _protect_sys(entry, options)
            mapping: tuple[object, ...] = ()
            if options.idmap or entry.get("uidMappings") or entry.get("gidMappings"):
                from ocirun.plan.idmap import mapping_of

                mapping = mapping_of(entry, options, spaces, pointer)
            plan.child.append(_bind(plan, entry, options, target, pointer, mapping))
        elif options.idmap or entry.get("uidMappings") or entry.get("gidMappings"):
            raise Unsupported(
                "only a bind mount can be id-mapped",
                pointer=pointer + ("/options" if options.idmap else ""),
                hint="a new file system belongs to the container's user namespace: it needs no map",
            )
        elif kind in ("cgroup", "cgroup2"):
            _not_over_the_root(target, pointer, f"a mount of type {kind}")
            _refuse_words(options, pointer, "a view of the cgroups")
            _cgroup(plan, host, spaces, kind, options, target, pointer, label)
        else:
            if options.mount_only:
                _not_over_the_root(target, pointer, "a mount with iversion or silent")
            if target == "/dev" and options.attr_set & MOUNT_ATTR_RDONLY:
                options.attr_set &= ~MOUNT_ATTR_RDONLY
                late.append(
                    Step("attributes", pointer + "/options", b"/dev", MOUNT_ATTR_RDONLY, 0, False)
                )
            plan.child.append(_filesystem(entry, options, kind, target, pointer, label))
            if label and kind == "mqueue":  # it takes no context
                plan.child.append(
                    Step("file-label", "/linux/mountLabel", encode(target, pointer), label)
                )
    return late, list(again.values())


def _refuse_words(options: Options, pointer: str, what: str) -> None:
    """Refuse what only a new file system can have: the kernel would ignore it."""
    words = options.of_a_new_file_system()
    if words:
        raise InvalidConfig(
            f"{what} cannot have the option {words[0]!r}",
            pointer=pointer + "/options",
            hint="it belongs to a file system, and this mount makes none",
        )


def mount_label(spec: "dict[str, Any]", host: Host) -> bytes:
    """linux.mountLabel, b"" without one. Raises Unsupported where there is no SELinux."""
    if not (spec.get("linux") or {}).get("mountLabel"):
        return b""
    from ocirun.plan.labels import check_mount_label

    return check_mount_label(spec["linux"]["mountLabel"], host)


def context(label: bytes) -> "tuple[tuple[bytes, bytes | None], ...]":
    """The option that gives everything in a file system the label (mount(8), "context=")."""
    return ((b"context", label),) if label else ()


def _check_destination(destination: str, pointer: str, kind: str) -> str:
    target = clean(destination)
    if target.startswith("/proc/") and target not in INSIDE_PROC:
        raise InvalidConfig(
            f"{target} cannot be covered: it is inside /proc",
            pointer=pointer + "/destination",
            hint="use linux.maskedPaths or linux.readonlyPaths for parts of /proc",
        )
    if target == "/proc" and kind not in ("proc", "bind", "rbind", ""):
        raise InvalidConfig(
            f"only procfs can be mounted on /proc, not {kind}", pointer=pointer + "/type"
        )
    return target


def _not_over_the_root(target: str, pointer: str, what: str) -> None:
    if target == "/":
        raise Unsupported(f"{what} cannot be the root", pointer=pointer + "/destination")


def _bind(
    plan: Plan, entry: "dict[str, Any]", options: Options, target: str, pointer: str,
    mapping: tuple[object, ...],
) -> Step:  # fmt: skip
    source = entry.get("source") or ""
    if not source:
        raise InvalidConfig("a bind mount needs a source", pointer=pointer)
    _refuse_words(options, pointer, "a bind mount")
    _refuse_data(options, pointer)
    return Step(
        "bind",
        pointer,
        encode(target, pointer + "/destination"),
        encode(join(plan.bundle, source), pointer + "/source"),
        options.recursive,
        options.attr_set,
        options.attr_clr,
        options.tree_set,
        options.tree_clr,
        tuple(options.propagation),
        target in INSIDE_PROC,
        mapping,
    )


def _protect_sys(entry: "dict[str, Any]", options: Options) -> None:
    """A user's /sys, which cannot be mounted anew, is the host's: "ro" is for all of it.

    Cgroups below it that belong to the user could be changed from inside (CVE-2023-25809).
    """
    source = clean(entry.get("source") or "")
    if options.recursive and options.attr_set & MOUNT_ATTR_RDONLY and source == "/sys":
        options.tree_set |= MOUNT_ATTR_RDONLY


def _refuse_data(options: Options, pointer: str) -> None:
    if options.data:
        word = options.data[0][0]
        raise InvalidConfig(
            f"a bind mount has no option {word!r}",
            pointer=pointer + "/options",
            hint="file system data cannot be given to a bind mount: the kernel would ignore it",
        )


def _data(options: Options, pointer: str) -> tuple[tuple[bytes, bytes | None], ...]:
    pointer += "/options"
    return tuple(
        (encode(key, pointer), None if value is None else encode(value, pointer))
        for key, value in options.data
    )


def _remount(options: Options, target: str, pointer: str) -> Step:
    superblock = [*options.superblock, *options.superblock_off]
    if options.bind:
        superblock = []
        _refuse_data(options, pointer)
    else:
        options.superblock = []
    _refuse_words(options, pointer, "a remount")
    return Step(
        "remount",
        pointer,
        encode(target, pointer + "/destination"),
        options.attr_set,
        options.attr_clr,
        tuple(flag.encode() for flag in superblock),
        _data(options, pointer),
        tuple(options.propagation),
        (options.tree_set, options.tree_clr),
    )


def _filesystem(
    entry: "dict[str, Any]", options: Options, kind: str, target: str, pointer: str, label: bytes
) -> Step:
    if not kind:
        raise InvalidConfig(
            "a mount needs a type",
            pointer=pointer,
            hint='for a bind mount add "bind" or "rbind" to its options',
        )
    source = entry.get("source") or kind
    superblock, mount_only = options.superblock, options.mount_only
    if options.copy_up and (kind != "tmpfs" or mount_only):
        raise InvalidConfig(
            "tmpcopyup is for a tmpfs, without iversion or silent", pointer=pointer + "/options"
        )
    if mount_only:  # then all of them go the old way
        mount_only |= sum(MS_SUPERBLOCK[flag] for flag in superblock)
        superblock = []
    data = _data(options, pointer)
    if label and kind not in _UNLABELLED:
        # mount(2) takes the data as one text, in which a label's commas must not count.
        data += context(b'"' + label + b'"' if mount_only else label)
    return Step(
        "mount-copy" if options.copy_up else "mount",
        pointer,
        encode(target, pointer + "/destination"),
        encode(kind, pointer + "/type"),
        encode(source, pointer + "/source"),
        options.attr_set,
        tuple(flag.encode() for flag in superblock),
        data,
        mount_only,
        # Attributes of a tree on a mount that is alone are attributes of the mount.
        (options.tree_set, options.tree_clr),
        tuple(options.propagation),
    )


def _cgroup(
    plan: Plan, host: Host, spaces: Namespaces, kind: str, options: Options, target: str,
    pointer: str, label: bytes,
) -> None:  # fmt: skip
    """The container's view of the cgroups (config-linux.md, "Default Filesystems").

    v2, also asked for by "cgroup2" where v1 is in use: the hierarchy itself, from the root of
    the cgroup namespace; the container's own cgroup where there is a user namespace but no
    cgroup namespace. v1: a tmpfs with a directory per hierarchy, each a view of the
    container's own cgroup.
    """
    if host.layout is None or host.layout.mode == "none":
        raise Unsupported("cgroups are not available on this host", pointer=pointer)
    await_cgroup(plan, spaces)
    where = encode(target, pointer)
    steps = plan.child
    paths = plan.cgroup.paths if plan.cgroup else {}
    fresh = "cgroup" in spaces.new
    if not fresh and not set(host.layout.mounts) <= set(paths):
        # What is shown then is the caller's tree (CVE-2023-25809).
        options.attr_set |= MOUNT_ATTR_RDONLY
    if host.layout.mode == "v2" or (kind == "cgroup2" and "" in host.layout.mounts):
        own = paths.get("", "") if spaces.private("user") and not fresh else ""
        steps.append(_unified(host.layout.mounts[""], own, spaces, options, where, pointer))
        return
    if kind == "cgroup2" or options.data:
        word = options.data[0][0] if options.data else kind
        raise InvalidConfig(
            f"a view of v1 cgroups has no option {word!r}"
            if options.data
            else "this host has no cgroup v2 hierarchy",
            pointer=pointer + ("/options" if options.data else "/type"),
        )
    attrs = options.attr_set | options.tree_set
    entries, aliases = mount_facts(host.layout)
    views = []
    for name, mountpoint, words, key in entries:
        source = b"" if fresh else encode(paths.get(key, mountpoint), pointer)
        data = tuple(_word(word) for word in words.split(",")) if fresh else ()
        views.append((encode(name, pointer), source, data))
    links = tuple((alias.encode(), name.encode()) for alias, name in aliases)
    top = ((b"mode", b"755"), *context(label))
    steps.append(Step("cgroup-view", pointer, where, attrs, tuple(views), links, top))
    if options.propagation:
        steps.append(Step("propagate", pointer + "/options", where, tuple(options.propagation)))


def _unified(
    mountpoint: str, own: str, spaces: Namespaces, options: Options, where: bytes, pointer: str
) -> Step:
    """The v2 hierarchy: of the container's cgroup namespace, or all of it, as the host has it.

    A new mount from the host's cgroup namespace would take nsdelegate and memory_recursiveprot
    off the host's own (cgroup_init_fs_context in the kernel), and a user namespace may not
    make one: it is shown `own`, the container's cgroup.
    """
    flags = tuple(options.propagation)
    if spaces.private("cgroup") and not own:
        tree = (options.tree_set, options.tree_clr)
        data = _data(options, pointer)
        return Step(
            "mount", pointer, where, b"cgroup2", b"cgroup", options.attr_set, (), data, 0, tree,
            flags,
        )  # fmt: skip
    if options.data:
        raise InvalidConfig(
            f"the option {options.data[0][0]!r} would change the cgroups of the host",
            pointer=pointer + "/options",
            hint='add {"type": "cgroup"} to linux.namespaces',
        )
    attrs = options.attr_set | options.tree_set
    return Step(
        "bind", pointer, where, encode(own or mountpoint, pointer), True, 0, 0, attrs, 0, flags,
        False, (),
    )  # fmt: skip


def _word(word: str) -> tuple[bytes, bytes | None]:
    key, equals, value = word.partition("=")
    return key.encode(), value.encode() if equals else None
