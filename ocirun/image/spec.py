"""What the options of a launch mean in config.json. Pure, but for looking at volumes' sources.

The folder around it is `bundle`'s business.
"""

import os
from collections.abc import Mapping
from typing import Any

from ocirun.errors import ImageError, UsageError
from ocirun.image.options import (
    LaunchOptions,
    merge_env,
    parse_cpus,
    parse_hostname,
    parse_pids,
    parse_size,
    parse_volume,
)
from ocirun.image.store import HOST, Image
from ocirun.image.users import User
from ocirun.spec.default import default_spec

OVERLAY = "run.ocirun.overlay."
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What Docker and Podman grant by default; images are made with these in mind.
CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
_RESOLV_CONF = "/etc/resolv.conf"


def launch_spec(
    options: LaunchOptions,
    image: Image,
    *,
    user: User,
    directory: str,
    environ: Mapping[str, str],
    rootless: bool,
) -> dict[str, Any]:
    """Return the config.json for a launch.

    Args:
        directory: that relative sources of volumes are relative to.
        environ: the caller's, for `-e NAME`.

    Raises:
        UsageError: an option's value is wrong.
        ImageError: the image has no command and none was given, or is not for a user.
    """
    if rootless and image.name == HOST:
        raise ImageError(
            "the machine's own root cannot be a user's image: the kernel keeps what is mounted "
            "below it in its place",
            hint="run as root, or import a root file system with `ocirun image import`",
        )
    # What the default configuration has for the options at hand is changed; the rest
    # (mounts, masked paths, rlimits, denied devices) stays.
    spec: dict[str, Any] = default_spec(rootless=rootless)
    config = image.config
    args = list(options.command or (*config.entrypoint, *config.cmd))
    if not args:
        raise ImageError(
            f"image {image.name!r} has no command of its own",
            hint="give one: launch ID IMAGE COMMAND",
        )
    env = (PATH, "TERM=xterm", *config.env) if options.terminal else (PATH, *config.env)
    process = spec["process"]
    process.update(
        terminal=options.terminal,
        user={"uid": user.uid, "gid": user.gid},
        args=args,
        env=merge_env(env, options.env, environ),
        cwd=_workdir(options.workdir or config.working_dir or "/"),
        capabilities={kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
        noNewPrivileges=True,
    )
    if rootless:
        # Whoever the user is inside, outside it is the caller, who cannot set other groups.
        for name, number in (("uidMappings", user.uid), ("gidMappings", user.gid)):
            spec["linux"][name][0]["containerID"] = number
    elif user.groups:
        process["user"]["additionalGids"] = list(user.groups)
    spec["root"] = {"path": "rootfs", "readonly": options.read_only}
    spec["hostname"] = parse_hostname(options)
    spec["annotations"] = _overlay(image)
    _network(spec, options.network, image)
    _resources(spec, options)
    spec["mounts"] += [parse_volume(volume, directory) for volume in options.volumes]
    return spec


def _workdir(path: str) -> str:
    if not path.startswith("/"):
        raise UsageError(f"the working directory {path[:200]!r} is not an absolute path")
    return path


def _overlay(image: Image) -> dict[str, str]:
    if ":" in image.rootfs:
        raise UsageError(
            "the path of the data root holds a colon, which separates layers of an overlay",
            path=image.rootfs,
            hint="choose another with --data-root",
        )
    if image.name == HOST:
        return {OVERLAY + "lowerdir": "/", OVERLAY + "upperdir": "tmpfs"}
    # Relative to the bundle, so that it can be moved.
    return {
        OVERLAY + "lowerdir": image.rootfs,
        OVERLAY + "upperdir": "upper",
        OVERLAY + "workdir": "work",
    }


def _network(spec: dict[str, Any], network: str, image: Image) -> None:
    if network not in ("none", "host"):
        raise UsageError(f"unknown network {network[:40]!r}", hint="none or host")
    namespaces = spec["linux"]["namespaces"]
    kinds = {namespace["type"] for namespace in namespaces}
    namespaces += [{"type": kind} for kind in ("network", "cgroup") if kind not in kinds]
    if network == "none":
        return
    namespaces[:] = [namespace for namespace in namespaces if namespace["type"] != "network"]
    # Names are resolved as on the host. Nothing else of the host's /etc is lent.
    if image.name != HOST and os.path.isfile(_RESOLV_CONF):
        spec["mounts"].append(
            {
                "destination": _RESOLV_CONF,
                "type": "bind",
                "source": os.path.realpath(_RESOLV_CONF),
                "options": ["bind", "rprivate", "ro", "nosuid", "noexec", "nodev"],
            }
        )


def _resources(spec: dict[str, Any], options: LaunchOptions) -> None:
    resources = spec["linux"].setdefault("resources", {})
    if options.memory:
        resources["memory"] = {"limit": parse_size(options.memory, "memory limit")}
    if options.cpus:
        quota, period = parse_cpus(options.cpus)
        resources["cpu"] = {"quota": quota, "period": period}
    if limit := parse_pids(options.pids_limit):
        resources["pids"] = {"limit": limit}
