"""The default config.json, as `ocirun spec` writes it.

Belongs here: that one document and its rootless variant, value for value what
`runc spec` writes, so that bundles can be moved between the two; the unit test
lists the differences. Does not belong here: writing the file.
"""

from posix import getegid, geteuid

OCI_VERSION = "1.3.0"
"""The version of the OCI runtime-spec that ocirun follows."""

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")

_NAMESPACES = ("pid", "network", "ipc", "uts", "mount")

_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
)
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def default_spec(rootless: bool = False) -> "dict[str, object]":
    """A new config.json for a container that runs `sh` on a terminal.

    With `rootless` the container gets a user namespace in which the caller is
    root, shares the host's network, and has no cgroup settings: what a user
    without privileges may have. OCI runtime-spec 1.3, config.md.
    """
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            # No ambient set: the kernel raises only what is inheritable as well, so
            # the one that runc 1.1 writes never had an effect.
            "capabilities": {
                "bounding": [*_CAPABILITIES],
                "effective": [*_CAPABILITIES],
                "permitted": [*_CAPABILITIES],
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "ocirun",
        "mounts": _mounts(rootless),
        "linux": _linux(rootless),
    }


def _mounts(rootless: bool) -> "list[dict[str, object]]":
    guarded = ["nosuid", "noexec", "nodev"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if not rootless:
        pts.append("gid=5")  # tty; not mapped in a rootless container
    sys = ("sysfs", "sysfs", [*guarded, "ro"])
    if rootless:  # mounting a sysfs needs a network namespace of one's own
        sys = ("none", "/sys", ["rbind", *guarded, "ro"])
    entries: list[tuple[str, str, str, list[str] | None]] = [
        ("/proc", "proc", "proc", None),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts", pts),
        ("/dev/shm", "tmpfs", "shm", [*guarded, "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", "mqueue", guarded),
        ("/sys", *sys),
        ("/sys/fs/cgroup", "cgroup", "cgroup", [*guarded, "relatime", "ro"]),
    ]
    mounts: list[dict[str, object]] = []
    for destination, kind, source, options in entries:
        mount: dict[str, object] = {"destination": destination, "type": kind, "source": source}
        if options is not None:
            mount["options"] = [*options]
        mounts.append(mount)
    return mounts


def _linux(rootless: bool) -> "dict[str, object]":
    kinds = ("pid", "ipc", "uts", "mount", "user") if rootless else _NAMESPACES
    paths: dict[str, object] = {
        "namespaces": [{"type": kind} for kind in kinds],
        "maskedPaths": [*_MASKED],
        "readonlyPaths": [*_READONLY],
    }
    if rootless:
        return {
            "uidMappings": [{"containerID": 0, "hostID": geteuid(), "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": getegid(), "size": 1}],
            **paths,
        }
    return {"resources": {"devices": [{"allow": False, "access": "rwm"}]}, **paths}
