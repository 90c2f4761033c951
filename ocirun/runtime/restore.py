"""restore: make a container's processes again from the files of `checkpoint`, by CRIU.

The container gets a record, cgroups and the hooks of the host as at its creation; init becomes
a child of this process.
"""

import posix

from ocirun.cgroups import CgroupPlan, apply, attach, kill, layout, undo
from ocirun.cgroups.files import read
from ocirun.cgroups.mounts import own_paths
from ocirun.criu import mounts, streams
from ocirun.criu import options as criu
from ocirun.criu.options import CriuOptions, Folders
from ocirun.criu.service import RESTORE, Failed, Service, failure
from ocirun.errors import OcirunError, StepFailed
from ocirun.executor.criu import HELD, STREAMS
from ocirun.executor.parent import Process
from ocirun.executor.paths import is_directory
from ocirun.linux.fs import O_PATH
from ocirun.linux.process import PR_SET_CHILD_SUBREAPER, prctl
from ocirun.plan.compile import compile_plan
from ocirun.plan.options import is_bind
from ocirun.plan.step import Plan
from ocirun.runtime.create import (
    Created,
    Request,
    host_hooks,
    load_spec,
    record_fields,
    unused,
)
from ocirun.runtime.handover import console_socket, send_descriptor, write_pid_file
from ocirun.runtime.run import Forwarder, attend, clear_away
from ocirun.runtime.settings import Settings, state_file
from ocirun.spec.fastjson import dumps
from ocirun.spec.load import CONFIG, check_spec
from ocirun.state.process import start_time
from ocirun.state.store import Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

    from ocirun.criu.protobuf import Message
    from ocirun.executor.criu import Root

LOG = "restore.log"


class RestoreRequest(CriuOptions, Request):
    """What the caller of restore asks for; of Request: id, bundle, console_socket, pid_file.

    Attributes:
        lsm_profile: TYPE:NAME of the profile to be restored with; "" for the one it had.
        lsm_mount_context: the SELinux context of mounts that have one; "" for theirs.
    """

    def __init__(self, container_id: str, bundle: str = ".") -> None:
        CriuOptions.__init__(self)
        Request.__init__(self, container_id, bundle)
        self.wait = False
        self.lsm_profile = ""
        self.lsm_mount_context = ""


class Restored(Created):
    """A container that is being restored. `made`: cgroups that were made for it."""

    def __init__(self, folder: Folder, fields: "dict[str, Any]") -> None:
        self.folder = folder
        self.fields = fields
        self.pid = 0
        self.process = Process(0)
        self.console = -1
        self.made: list[str] = []
        self.cgroup: CgroupPlan | None = None
        self.scope = False

    def abort(self) -> None:
        """End its processes, and take back its cgroups."""
        if self.pid:
            self.process.end()
            if self.fields["cgroups"] and not self.fields["ownPids"]:
                kill(self.fields["cgroups"])
        if self.console >= 0:
            posix.close(self.console)
        if self.scope and self.cgroup is not None and self.cgroup.scope is not None:
            from ocirun.cgroups.scopes import stop

            unit, _, bus, *_ = self.cgroup.scope.args
            stop(str(unit), str(bus), self.cgroup.paths)
        undo(self.made)


def restore(
    settings: Settings, request: RestoreRequest, *, detach: bool = False, subreaper: bool = False
) -> int:
    """Restore a container.

    Args:
        detach: return when it runs, and leave it there.
        subreaper: adopt what the container leaves behind in a shared pid namespace.

    Returns:
        The exit status of its process, 128 + n if signal n ended it; 0 with `detach`.

    Raises:
        OcirunError: if it could not be restored; nothing of it is left then.
    """
    if subreaper and not detach:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    request.foreground = not detach and not request.console_socket
    signals = Forwarder()
    if not detach:
        signals.install()
    try:
        born = bring_back(settings, request)
        signals.forward_to(born.pid)
        try:
            if detach:
                return 0
            status = attend(born.pid, born.console)
            signals.pid = 0  # it may be another's from now on
            clear_away(settings, born)
            return status
        finally:
            born.folder.close()
    finally:
        signals.restore()


def bring_back(settings: Settings, request: RestoreRequest) -> Restored:
    """Restore a container, and return when it runs. Raises as `restore`."""
    criu.need_root()
    bundle, _, data, spec = load_spec(settings, request)
    folders = Folders(request, make=False)
    console = None
    folder = None
    try:
        kept = mounts.Kept(folders.images)
        if added := kept.added_to(spec):
            spec = check_spec({**spec, "mounts": [*(spec.get("mounts") or ()), *added]})
            data = b""
        console = console_socket(spec, request)
        folder = settings.store.create(request.id)
        folder.write_file(CONFIG, data or dumps(spec).encode())
        plan = compile_plan(spec, settings.host(), request.id, bundle)
        born = Restored(folder, record_fields(request, spec, plan))
        born.fields["cgroups"] = unused(born.fields["cgroups"])
        folder.write(born.fields)
        try:
            _call_criu(request, plan, spec, folders, kept, born, console)
            if request.pid_file:
                write_pid_file(request.pid_file, born.pid)
            folder.unlock()
        except BaseException:
            born.abort()
            raise
        return born
    except BaseException as error:
        if folder is not None:
            folder.remove()
            folder.close()
        if isinstance(error, OcirunError) and not error.bundle:
            error.bundle = bundle
        raise
    finally:
        folders.close()
        if console is not None:
            console.close()


def _call_criu(
    request: RestoreRequest,
    plan: Plan,
    spec: "dict[str, Any]",
    folders: Folders,
    kept: mounts.Kept,
    born: Restored,
    console: "_socket.socket | None",
) -> None:
    launch = folders.launch()
    launch.root = _root(plan, spec)
    # CRIU before 4.0 does not bring it back, but what it makes inherits it.
    launch.no_new_privileges = bool(spec["process"].get("noNewPrivileges"))
    names = []
    try:
        for _, name, path in criu.external_namespaces(spec):
            launch.held.append(_open_namespace(path))
            names.append(name)
        service = Service(launch, request.family)
        try:
            fields = criu.common(request, spec, plan.rootfs, LOG)
            fields += _options(request, plan, spec, folders, kept)
            fields += [(criu.INHERIT_FD, [(1, n), (2, fd)]) for fd, n in enumerate(names, HELD)]
            _join_cgroups(plan, born, service.pid)
            fields += [(criu.CG_ROOT, [(1, key), (2, path)]) for key, path in _own(service.pid)]
            service.ask(RESTORE, fields, _listener(request, plan, born, console))
        except Failed as error:
            service.close()  # so that its log is complete
            log = f"{folders.work}/{LOG}"
            raise failure(error, f"restore {plan.id}", log, plan.bundle) from None
        finally:
            service.close()
    finally:
        for fd in launch.held:
            posix.close(fd)


def _open_namespace(path: str) -> int:
    try:
        return posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        raise StepFailed(
            "cannot join a namespace that the container has had",
            pointer="/linux/namespaces",
            syscall="open",
            errno=error.errno or 0,
            path=path,
        ) from None


def _options(
    request: RestoreRequest,
    plan: Plan,
    spec: "dict[str, Any]",
    folders: Folders,
    kept: mounts.Kept,
) -> "Message":
    """The fields of criu_opts that a restore has for itself."""
    fields: Message = [(criu.RST_SIBLING, True), (criu.EVASIVE_DEVICES, True)]
    cgroups = plan.cgroup.paths if plan.cgroup else {}
    hierarchies = layout().mounts
    fields.append((criu.MNTNS_COMPAT_MODE, kept.scattered))
    places = mounts.sources(kept.names, spec, plan.bundle, cgroups, hierarchies)
    fields += [(criu.EXTERNAL, f"mnt[{name}]:{place}") for name, place in places.items()]
    fields += [
        (criu.INHERIT_FD, [(1, name), (2, STREAMS + fd)])
        for name, fd in streams.inherited(folders.images).items()
    ]
    fields += [
        (criu.JOIN_NS, [(1, kind), (2, path)]) for kind, path in criu.joined_namespaces(spec)
    ]
    if request.lsm_profile:
        fields.append((criu.LSM_PROFILE, request.lsm_profile))
    if request.lsm_mount_context:
        fields.append((criu.LSM_MOUNT_CONTEXT, request.lsm_mount_context))
    return fields


def _listener(
    request: RestoreRequest, plan: Plan, born: Restored, console: "_socket.socket | None"
) -> "Callable[[str, int, int], None]":
    """What is to be done when CRIU tells how far it is."""

    def notified(script: str, pid: int, fd: int) -> None:
        if script == "setup-namespaces" and plan.hooks:
            state = state_file(born.fields, "creating", pid)
            try:
                host_hooks(plan, state)
            finally:
                posix.close(state)
        elif script == "orphan-pts-master" and fd >= 0:
            if console is not None:
                send_descriptor(console, fd, b"/dev/ptmx")
                posix.close(fd)
            else:
                born.console = fd
        elif script == "post-restore":
            # From here on it is to be found, and to be deleted, whatever becomes of this process.
            born.pid = pid
            born.process = request.family.adopt(pid)
            born.fields["pid"] = pid
            born.fields["startTime"] = start_time(pid)
            born.folder.write(born.fields)

    return notified


def _join_cgroups(plan: Plan, born: Restored, pid: int) -> None:
    """Make the container's cgroups as create does, with CRIU in them."""
    born.cgroup = plan.cgroup
    if plan.cgroup is None:
        return
    if plan.cgroup.scope is not None:
        from ocirun.cgroups.scopes import start

        start(plan.cgroup, pid)
        born.scope = True
    born.made = apply(plan.cgroup)
    born.fields["cgroups"] = plan.cgroup.paths  # they are known to be free
    born.folder.write(born.fields)
    attach(plan.cgroup, pid)


def _own(pid: int) -> "list[tuple[str, str]]":
    """(controller, cgroup) of a process, as CRIU wants it (cgroups(7), /proc/PID/cgroup)."""
    return list(own_paths(read(f"/proc/{pid}/cgroup")).items())


def _root(plan: Plan, spec: "dict[str, Any]") -> "Root":
    """What makes the root file system ready for CRIU."""
    overlay = next((step.args for step in plan.child if step.op == "overlay"), None)
    place = plan.rootfs.encode("utf-8", "surrogateescape")
    return place, overlay, _mount_points(spec, plan.bundle)


def _mount_points(spec: "dict[str, Any]", bundle: str) -> list[tuple[bytes, bool]]:
    """(path, whether a directory) of what is mounted right on the root file system."""
    entries = spec.get("mounts") or ()
    found: list[tuple[bytes, bool]] = []
    for entry in entries:
        path: str = entry["destination"]
        above = [
            one for one in entries if one is not entry and path.startswith(one["destination"] + "/")
        ]
        if above:
            continue  # CRIU brings what is in it, or it is the host's
        directory = True
        source = entry.get("source") or ""
        if is_bind(entry):
            fd = -1
            try:
                full = source if source.startswith("/") else f"{bundle}/{source}"
                fd = posix.open(full, O_PATH | posix.O_CLOEXEC)
                directory = is_directory(fd)
            except OSError as error:
                raise StepFailed(
                    f"the source {source} of a mount is missing",
                    syscall="open",
                    errno=error.errno or 0,
                    path=source,
                ) from None
            finally:
                if fd >= 0:
                    posix.close(fd)
        found.append((path.encode("utf-8", "surrogateescape"), directory))
    return found
