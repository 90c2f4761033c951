"""What holds for all operations of one Runtime, and small things that several of them need."""

import posix
import time

from ocirun.errors import UsageError, WrongStatus
from ocirun.state.process import in_user_namespace
from ocirun.state.store import SOCKET, SOCKET_NEW, Folder, Record, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirun.plan.host import Host
    from ocirun.runtime.cache import Cache


class Settings:
    """The global options.

    Attributes:
        store: the containers below --root.
        rootless: "true", "false", or "auto": whether the caller is root is found out.
        manage_cgroups: False with --cgroup-manager disabled.
        systemd: systemd makes the cgroups.
        debug: takes a line of debug output, or None.
        warning: takes what went wrong without being an error of the operation; None: to debug.
        cache: what a library keeps from one container to the next, or None.
    """

    def __init__(
        self,
        root: str = "",
        systemd_cgroup: bool = False,
        cgroup_manager: str = "cgroupfs",
        debug: "Callable[[str], None] | None" = None,
        rootless: str = "auto",
    ) -> None:
        if rootless not in ("true", "false", "auto"):
            raise UsageError(f"--rootless is true, false or auto, not {rootless!r}")
        if cgroup_manager not in ("cgroupfs", "systemd", "disabled"):
            raise UsageError(f"unknown cgroup manager {cgroup_manager!r}")
        self.store = Store(root)
        self.manage_cgroups = cgroup_manager != "disabled"
        self.systemd = self.manage_cgroups and (systemd_cgroup or cgroup_manager == "systemd")
        self.debug = debug
        self.rootless = rootless
        self.warning: Callable[[str], None] | None = None
        self.cache: Cache | None = None

    def host(self) -> "Host":
        """Facts about this machine, read now, or known to be still the same."""
        if self.cache is not None:
            return self.cache.host(self._read_host)
        return self._read_host()

    def _read_host(self) -> "Host":
        from ocirun.cgroups import layout
        from ocirun.plan.host import Host, capabilities

        euid, egid = posix.geteuid(), posix.getegid()
        if self.rootless == "auto":
            rootless = euid != 0 or in_user_namespace()
        else:
            rootless = self.rootless == "true"
        host = Host(layout(), euid, capabilities(), egid=egid, rootless=rootless)
        host.managed = self.manage_cgroups
        if self.systemd:
            from ocirun.cgroups.systemd import manager

            host.manager = manager()
        return host

    def warn(self, line: str) -> None:
        """Say what went wrong, although the operation goes on."""
        if self.warning is not None:
            self.warning(line)
        else:
            self.note(line)

    def note(self, line: str) -> None:
        """Say something to whoever debugs."""
        if self.debug is not None:
            self.debug(line)


def absolute(path: str) -> str:
    """An absolute path, seen from the working directory; no symlinks are resolved."""
    if path.startswith("/"):
        return path.rstrip("/") or "/"
    here = posix.getcwd()
    path = path.rstrip("/")
    while path == "." or path.startswith("./"):
        path = path[2:].lstrip("/")
    return f"{here.rstrip('/')}/{path}" if path else here


def now() -> str:
    """The time in RFC 3339, UTC, with nanoseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    t = time.gmtime(seconds)
    return (
        f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}"
        f"T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}.{nanoseconds:09d}Z"
    )


def status_of(folder: Folder, record: Record) -> str:
    """The status of a container: creating, created, running, paused or stopped.

    Source: runtime.md, "State"; "paused" is runc's and crun's.
    """
    if record.pid == 0:
        return "creating"
    if not record.is_alive():
        return "stopped"
    if folder.has(SOCKET_NEW):
        return "creating"
    if is_frozen(record.cgroups):
        return "paused"
    return "created" if folder.has(SOCKET) else "running"


def need_alive(folder: Folder, record: Record, what: str) -> None:
    """See that a container is created, running or paused, to do `what`. Raises WrongStatus."""
    status = status_of(folder, record)
    if status not in ("created", "running", "paused"):
        why = "container not running: " if status == "stopped" else ""
        raise WrongStatus(
            f"cannot {what} a container that is {status}: {why}{record.id}", bundle=record.bundle
        )


def is_frozen(cgroups: dict[str, str]) -> bool:
    """The container's processes do not run: the freezer of v1 or of v2 holds them."""
    for key, name, frozen in (("freezer", "freezer.state", b"F"), ("", "cgroup.freeze", b"1")):
        if key not in cgroups:
            continue
        try:
            fd = posix.open(f"{cgroups[key]}/{name}", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            continue
        try:
            if posix.read(fd, 1) == frozen:  # FROZEN or FREEZING
                return True
        except OSError:
            pass
        finally:
            posix.close(fd)
    return False


def oci_state(fields: "dict[str, Any]", status: str, pid: int) -> "dict[str, Any]":
    """The state as the specification has it (runtime.md, "State"): for hooks."""
    state = {
        "ociVersion": fields["ociVersion"],
        "id": fields["id"],
        "status": status,
        "pid": pid,
        "bundle": fields["bundle"],
    }
    if fields["annotations"]:
        state["annotations"] = fields["annotations"]
    return state


def state_file(fields: "dict[str, Any]", status: str, pid: int, fd: int = -1) -> int:
    """A memory file with the state for hooks; written into `fd` if there is one."""
    from ocirun.spec.fastjson import dumps

    if fd < 0:
        fd = posix.memfd_create("state", posix.MFD_CLOEXEC)
    data = dumps(oci_state(fields, status, pid)).encode()
    while data:
        data = data[posix.write(fd, data) :]
    return fd
