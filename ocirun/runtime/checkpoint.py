"""checkpoint: write a container's processes to files, by CRIU, so that `restore` can go on."""

import posix
from errno import ENOENT, ESRCH

from ocirun.criu import mounts, streams
from ocirun.criu import options as criu
from ocirun.criu.options import CriuOptions, Folders
from ocirun.criu.service import (
    DUMP,
    LAZY_PAGES,
    MEM_TRACK,
    PRE_DUMP,
    Failed,
    Service,
    failure,
    find_criu,
)
from ocirun.errors import Unsupported, UsageError, WrongStatus
from ocirun.executor.criu import Launch
from ocirun.plan.rootfs import OVERLAY
from ocirun.runtime.delete import clear
from ocirun.runtime.settings import Settings, status_of
from ocirun.spec.load import load_kept
from ocirun.state.store import SOCKET, Folder, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.criu.protobuf import Message

LOG = "dump.log"


class CheckpointRequest(CriuOptions):
    """What the caller of checkpoint asks for.

    Attributes:
        id: of the container.
        parent_path: an earlier checkpoint, seen from image_path; only what has changed since is
            written. pre_dump: write the memory alone, for such a parent; the container runs on.
        leave_running: let the container run on.
        page_server: ADDRESS:PORT of the CRIU that takes the memory, or "".
        status_fd: gets a NUL byte once pages can be fetched (lazy_pages), and is closed; or -1.
    """

    def __init__(self, container_id: str) -> None:
        super().__init__()
        self.id = container_id
        self.parent_path = ""
        self.pre_dump = False
        self.leave_running = False
        self.page_server = ""
        self.status_fd = -1


def checkpoint(settings: Settings, request: CheckpointRequest) -> None:
    """Write a container that runs to files; it is deleted then, unless it is left running.

    Raises NotFound, WrongStatus, UsageError, Unsupported, CriuFailed; the container goes on.
    """
    criu.need_root()
    server = _page_server(request.page_server)
    folder = settings.store.open(request.id, lock=True)
    try:
        record = folder.read()
        status = status_of(folder, record)
        if status == "paused" and folder.has(SOCKET):
            status = "created"
        if status not in ("running", "paused"):
            raise WrongStatus(
                f"cannot checkpoint a container that is {status}: {record.id}",
                bundle=record.bundle,
            )
        spec = load_kept(folder.fd)
        folders = Folders(request, make=True)
        try:
            _dump(request, record, spec, folders, server)
        except OSError as error:
            if error.errno not in (ENOENT, ESRCH):
                raise
            # Something of /proc/PID is gone.
            raise WrongStatus(
                f"container not running: {record.id}: it has ended meanwhile", bundle=record.bundle
            ) from None
        finally:
            folders.close()
        if not (request.leave_running or request.pre_dump):
            _forget(settings, folder, record)
    finally:
        folder.close()


def _dump(
    request: CheckpointRequest,
    record: Record,
    spec: "dict[str, Any]",
    folders: Folders,
    server: "Message",
) -> None:
    if (spec.get("annotations") or {}).get(OVERLAY + "upperdir") == "tmpfs":
        raise Unsupported(
            "the container's writable layer is in memory, and would be lost",
            pointer=f"/annotations/{OVERLAY}upperdir",
            bundle=record.bundle,
        )
    fields = criu.common(request, spec, record.fields["rootfs"], LOG)
    fields += [(criu.PID, record.pid), (criu.LEAVE_RUNNING, request.leave_running)]
    fields += [(criu.EXTERNAL, name) for name in _external(record, spec, folders, request)]
    frozen = record.cgroups.get("freezer") or record.cgroups.get("")
    if frozen:
        fields.append((criu.FREEZE_CGROUP, frozen))
    if server:
        fields.append((criu.PAGE_SERVER, server))
    if request.parent_path:
        _check_parent(folders, request.parent_path)
        fields += [(criu.PARENT_IMG, request.parent_path), (criu.TRACK_MEM, True)]
    elif request.pre_dump:
        fields.append((criu.TRACK_MEM, True))
    _check_features(request)

    def notified(script: str, pid: int, fd: int) -> None:
        if script != "status-ready":
            return
        service.let_others()  # the restore that fetches the pages, for one
        if request.status_fd >= 0:
            posix.write(request.status_fd, b"\0")
            posix.close(request.status_fd)

    service = Service(folders.launch(), request.family)
    try:
        service.ask(PRE_DUMP if request.pre_dump else DUMP, fields, notified)
    except Failed as error:
        service.close()  # so that its log is complete
        what = f"checkpoint {record.id}"
        raise failure(error, what, f"{folders.work}/{LOG}", record.bundle) from None
    finally:
        service.close()


def _external(
    record: Record, spec: "dict[str, Any]", folders: Folders, request: CheckpointRequest
) -> list[str]:
    """All that is not the container's own, as CRIU names it."""
    found = []
    for file, name, _ in criu.external_namespaces(spec):
        inode = posix.stat(f"/proc/{record.pid}/ns/{file}").st_ino
        found.append(f"{file}[{inode}]:{name}")
    if request.pre_dump:
        return found
    inside = mounts.read_mounts(record.pid)
    outer = mounts.external(inside, mounts.read_mounts("self"))
    root = posix.open(f"/proc/{record.pid}/root", posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        named = mounts.names(outer, spec, root, record.cgroups)
    finally:
        posix.close(root)
    mounts.keep(folders.fd, named, mounts.are_scattered(outer), spec.get("mounts") or [])
    kept = streams.describe(record.pid, inside)
    streams.keep(folders.fd, kept)
    found += [f"mnt[{point}]:{name}" for point, name in named.items()]
    return found + [name for name in dict.fromkeys(kept) if streams.is_external(name)]


def _check_features(request: CheckpointRequest) -> None:
    for wanted, feature, what in (
        (request.pre_dump or bool(request.parent_path), MEM_TRACK, "track changes of memory"),
        (request.lazy_pages, LAZY_PAGES, "fetch pages later (userfaultfd)"),
    ):
        if not wanted:
            continue
        service = Service(Launch(find_criu()), request.family)
        try:
            able = service.has(feature)
        finally:
            service.close()
        if not able:
            raise Unsupported(
                f"this CRIU on this kernel cannot {what}",
                hint="`criu check --all` tells what is missing",
            )


def _check_parent(folders: Folders, path: str) -> None:
    if path.startswith("/"):
        raise UsageError(
            "--parent-path must be relative",
            hint="it is seen from --image-path, so that both can be moved: ../before",
        )
    try:
        posix.close(posix.open(path, posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=folders.fd))
    except OSError as error:
        raise UsageError(
            f"--parent-path {path}: no such folder, seen from {folders.images}",
            syscall="open(O_DIRECTORY)",
            errno=error.errno or 0,
        ) from None


def _page_server(text: str) -> "Message":
    """ADDRESS:PORT as criu_page_server_info. Raises UsageError."""
    if not text:
        return []
    address, _, port = text.rpartition(":")
    if not address or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"--page-server {text}: not ADDRESS:PORT")
    return [(1, address.strip("[]")), (2, int(port))]


def _forget(settings: Settings, folder: Folder, record: Record) -> None:
    """Delete the container, whose processes CRIU has ended."""
    fields = dict(record.fields)
    # What `launch` has made is what the images go on with.
    fields["annotations"] = {
        name: text for name, text in fields["annotations"].items() if name != "run.ocirun.launch"
    }
    clear(settings, folder, record.cgroups, fields)
