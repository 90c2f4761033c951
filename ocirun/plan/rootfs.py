"""The root file system: its source, its propagation, read-only and masked paths.

root, linux.rootfsPropagation, linux.maskedPaths, linux.readonlyPaths, and the
annotations that ask for an overlay: `run.ocirun.overlay.lowerdir` (one or more
directories, separated by colons, the uppermost first), with `.upperdir` and
`.workdir`, or with `.upperdir` = "tmpfs" for a layer that is gone with the container.
"""

from ocirun.errors import BundleError, InvalidConfig
from ocirun.linux.mount import MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE
from ocirun.plan.host import Host
from ocirun.plan.mounts import context, mount_label
from ocirun.plan.namespaces import Namespaces
from ocirun.plan.options import PROPAGATION
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import clean, encode, join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OVERLAY = "run.ocirun.overlay."


def compile_root(plan: Plan, spec: "dict[str, Any]", host: Host, spaces: Namespaces) -> None:
    """Append the steps that put the root file system in place."""
    root = spec.get("root")
    if not root:
        raise InvalidConfig("config.json has no root", pointer="/root")
    plan.rootfs = join(plan.bundle, root["path"]).rstrip("/") or "/"
    wanted = (spec.get("linux") or {}).get("rootfsPropagation") or ""
    shared = PROPAGATION.get(wanted, 0) & MS_SHARED
    if "mount" in spaces.new:
        # Nothing that is mounted from here on may reach the host, unless asked for.
        first = first_propagation(wanted)
        plan.child.append(first)
        if shared:
            # pivot_root(2) wants a private parent, and the clone of the rootfs must
            # not be mounted on the host as well.
            parent = encode(host.mountpoint_of(plan.rootfs), "/root/path")
            plan.child.append(Step("propagation", first.pointer, parent, MS_PRIVATE))
    if not _overlay(plan, spec, host, host.rootless or spaces.private("user")):
        rootfs = encode(plan.rootfs, "/root/path")
        if plan.rootfs == "/":
            raise BundleError("the root of the host cannot be a container's root", path="/")
        plan.child.append(Step("rootfs", "/root/path", rootfs))


def first_propagation(wanted: str) -> Step:
    """What becomes of the host's mounts in a new mount namespace, by linux.rootfsPropagation."""
    shared = PROPAGATION.get(wanted, 0) & MS_SHARED
    first = MS_SHARED if shared else MS_PRIVATE if "private" in wanted else MS_SLAVE
    pointer = "/linux/rootfsPropagation" if wanted else ""
    return Step("propagation", pointer, b"/", first | MS_REC)


def _overlay(plan: Plan, spec: "dict[str, Any]", host: Host, userxattr: bool) -> bool:
    notes = spec.get("annotations") or {}
    lower = notes.get(OVERLAY + "lowerdir")
    pointer = "/annotations/" + OVERLAY
    if not lower:
        for name in ("lowerdir", "upperdir", "workdir"):
            if OVERLAY + name in notes:
                raise InvalidConfig(f"an overlay needs {OVERLAY}lowerdir", pointer=pointer + name)
        return False
    upper, work = notes.get(OVERLAY + "upperdir", ""), notes.get(OVERLAY + "workdir", "")
    if upper not in ("", "tmpfs") and not work:
        raise InvalidConfig(
            f"{OVERLAY}upperdir needs {OVERLAY}workdir",
            pointer=pointer + "upperdir",
            hint="the work directory must be empty and on the same file system as the upper one",
        )
    lowers = [join(plan.bundle, path) for path in lower.split(":")]
    if upper and upper != "tmpfs":
        upper, work = join(plan.bundle, upper), join(plan.bundle, work)
    plan.child.append(
        Step(
            "overlay",
            pointer + "lowerdir",
            encode(plan.rootfs, "/root/path"),
            tuple(encode(path, pointer + "lowerdir") for path in lowers),
            encode(upper, pointer + "upperdir"),
            encode(work, pointer + "workdir"),
            userxattr,
            context(mount_label(spec, host)),
        )
    )
    return True


def compile_paths(plan: Plan, spec: "dict[str, Any]", host: Host) -> None:
    """Append the steps for read-only and masked paths (config-linux.md)."""
    linux = spec.get("linux") or {}
    label = mount_label(spec, host)
    cover = (context(label),) if label else ()
    for name, op in (("readonlyPaths", "readonly"), ("maskedPaths", "mask")):
        for index, path in enumerate(linux.get(name) or ()):
            pointer = f"/linux/{name}/{index}"
            if clean(path) == "/":
                if op == "mask":
                    raise InvalidConfig("the root itself cannot be masked", pointer=pointer)
                plan.child.append(Step("root-readonly", pointer))
                continue
            more = cover if op == "mask" else ()
            plan.child.append(Step(op, pointer, encode(path, pointer), *more))


def compile_pivot(
    plan: Plan, spec: "dict[str, Any]", spaces: Namespaces, pivot: bool, again: list[Step]
) -> None:
    """Append the steps that make the root file system the root.

    `again` follows where the root's propagation would be that of all mounts.
    """
    wanted = (spec.get("linux") or {}).get("rootfsPropagation") or ""
    if spec["root"].get("readonly"):
        plan.child.append(Step("root-readonly", "/root/readonly"))
    if "mount" in spaces.new:
        plan.child.append(Step("pivot" if pivot else "move-root", ""))
    else:
        plan.child.append(Step("chroot", ""))
    if wanted:
        if wanted not in PROPAGATION:
            raise InvalidConfig(
                f"unknown propagation: {wanted}", pointer="/linux/rootfsPropagation"
            )
        flags = PROPAGATION[wanted]
        plan.child.append(Step("propagation", "/linux/rootfsPropagation", b"/", flags))
        if flags & MS_REC:
            plan.child.extend(again)
