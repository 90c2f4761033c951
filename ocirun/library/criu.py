"""Checkpoint and restore by the library: CRIU is a child of the executor.

Belongs here: what `Container.checkpoint` and `Runtime.restore` take, and who has CRIU, and what
it restores, as a child. The work itself is done by `ocirun.runtime.checkpoint` and `.restore`.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from ocirun.criu.options import CriuOptions
from ocirun.errors import WrongStatus
from ocirun.executor.parent import NotBorn
from ocirun.library.executor import Executor, RemoteProcess
from ocirun.library.streams import DEVNULL, Streams
from ocirun.runtime.checkpoint import CheckpointRequest, checkpoint
from ocirun.runtime.restore import RestoreRequest
from ocirun.runtime.settings import Settings

if TYPE_CHECKING:
    import _socket
    from typing import Any

    from ocirun.executor.criu import Launch

R = TypeVar("R", bound=CriuOptions)
Folder = str | os.PathLike[str]


class Away:
    """CRIU, which gets the streams, and what it restores are children of the executor."""

    def __init__(self, executor: Executor, streams: Streams) -> None:
        self._executor = executor
        self._streams = streams

    def start(self, launch: "Launch", line: "_socket.socket") -> RemoteProcess:
        """Have the process made that becomes CRIU. Raises ExecutorDied."""
        return self._executor.start_criu(launch, line, self._streams.theirs)

    def adopt(self, pid: int) -> RemoteProcess:
        """Hold what CRIU has restored. Raises WrongStatus, ExecutorDied."""
        try:
            return self._executor.adopt(pid)
        except NotBorn:
            raise WrongStatus("the restored process has ended at once") from None


def checkpoint_request(
    container_id: str,
    image_path: Folder,
    *,
    parent_path: Folder = "",
    pre_dump: bool = False,
    leave_running: bool = False,
    page_server: str = "",
    status_fd: int = -1,
    tcp_skip_in_flight: bool = False,
    **options: "Any",
) -> CheckpointRequest:
    """What `checkpoint` of the command line would ask for."""
    request = _shared(CheckpointRequest(container_id), image_path, **options)
    request.parent_path = os.fspath(parent_path)
    request.pre_dump, request.leave_running = pre_dump, leave_running
    request.page_server, request.status_fd = page_server, status_fd
    request.tcp_skip_in_flight = tcp_skip_in_flight
    return request


def restore_request(
    container_id: str,
    image_path: Folder,
    *,
    console_socket: str = "",
    pid_file: str = "",
    lsm_profile: str = "",
    lsm_mount_context: str = "",
    **options: "Any",
) -> RestoreRequest:
    """What `restore --detach` of the command line would ask for, but for the bundle."""
    request = _shared(RestoreRequest(container_id), image_path, **options)
    request.console_socket, request.pid_file = console_socket, pid_file
    request.lsm_profile, request.lsm_mount_context = lsm_profile, lsm_mount_context
    return request


def _shared(
    request: R,
    image_path: Folder,
    *,
    work_path: Folder = "",
    tcp_established: bool = False,
    ext_unix_sk: bool = False,
    shell_job: bool = False,
    file_locks: bool = False,
    link_remap: bool = False,
    auto_dedup: bool = False,
    lazy_pages: bool = False,
    manage_cgroups_mode: str = "soft",
    empty_ns: Sequence[str] = (),
) -> R:
    request.image_path, request.work_path = os.fspath(image_path), os.fspath(work_path)
    request.tcp_established, request.ext_unix_sk = tcp_established, ext_unix_sk
    request.shell_job, request.file_locks, request.link_remap = shell_job, file_locks, link_remap
    request.auto_dedup, request.lazy_pages = auto_dedup, lazy_pages
    request.cgroups_mode, request.empty_ns = manage_cgroups_mode, list(empty_ns)
    return request


def perform(settings: Settings, executor: Executor, request: CheckpointRequest) -> None:
    """`Container.checkpoint`."""
    streams = Streams(DEVNULL, DEVNULL, DEVNULL)
    request.family = Away(executor, streams)
    try:
        checkpoint(settings, request)
    finally:
        streams.close()
