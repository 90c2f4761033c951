"""`checkpoint ID`: write a running container to files, by CRIU."""

from typing import Annotated

import typer

from ocirun.cli.commands import common, criu
from ocirun.cli.gostyle import Command
from ocirun.cli.hot import open_existing


def checkpoint(
    ctx: typer.Context,
    id: common.ContainerId,
    image_path: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the images; made if it is missing.")
    ] = "checkpoint",
    work_path: criu.WorkPath = "",
    parent_path: Annotated[
        str,
        typer.Option(metavar="PATH", help="An earlier pre-dump, seen from --image-path."),
    ] = "",
    leave_running: Annotated[
        bool, typer.Option("--leave-running", help="Let the container run on.")
    ] = False,
    tcp_established: criu.TcpEstablished = False,
    tcp_skip_in_flight: criu.TcpSkipInFlight = False,
    ext_unix_sk: criu.ExtUnixSk = False,
    shell_job: criu.ShellJob = False,
    lazy_pages: criu.LazyPages = False,
    status_fd: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Descriptor that gets a NUL once pages can be had.",
            show_default=False,
        ),
    ] = -1,
    page_server: Annotated[
        str, typer.Option(metavar="ADDRESS:PORT", help="CRIU page server that takes the memory.")
    ] = "",
    file_locks: criu.FileLocks = False,
    pre_dump: Annotated[
        bool, typer.Option("--pre-dump", help="Write the memory alone, and let it run on.")
    ] = False,
    manage_cgroups_mode: criu.CgroupsMode = "soft",
    empty_ns: criu.EmptyNs = None,
    auto_dedup: criu.AutoDedup = False,
    link_remap: criu.LinkRemap = False,
) -> int:
    """Write a running container to files (CRIU), for `restore`; it is deleted then.

    Root of the machine and a CRIU that knows its kernel are needed: `ocirun doctor` tells. The
    root file system is not written. If CRIU fails, the container runs on.
    """
    from ocirun.runtime.checkpoint import CheckpointRequest

    request = CheckpointRequest(id)
    request.image_path, request.work_path = image_path, work_path
    request.parent_path, request.pre_dump = parent_path, pre_dump
    request.leave_running, request.status_fd = leave_running, status_fd
    request.tcp_established, request.tcp_skip_in_flight = tcp_established, tcp_skip_in_flight
    request.ext_unix_sk, request.shell_job, request.file_locks = ext_unix_sk, shell_job, file_locks
    request.lazy_pages, request.page_server = lazy_pages, page_server
    request.auto_dedup, request.link_remap = auto_dedup, link_remap
    request.cgroups_mode, request.empty_ns = manage_cgroups_mode, empty_ns or []
    open_existing(ctx.obj).get(id).checkpoint(request)
    return 0


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun checkpoint --image-path /var/tmp/web web",
        "ocirun checkpoint --leave-running --tcp-established web",
        "ocirun checkpoint --pre-dump --image-path /var/tmp/before web",
    )
    app.command("checkpoint", cls=Command, epilog=epilog)(checkpoint)
