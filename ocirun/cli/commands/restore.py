"""`restore ID`: make a container again from what `checkpoint` has written."""

from typing import Annotated

import typer

from ocirun.cli.commands import common, criu
from ocirun.cli.gostyle import Command
from ocirun.cli.hot import open_runtime


def restore(
    ctx: typer.Context,
    id: common.NewId,
    bundle: common.Bundle = ".",
    image_path: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the images.")
    ] = "checkpoint",
    work_path: criu.WorkPath = "",
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it runs; do not wait for it.")
    ] = False,
    console_socket: common.ConsoleSocket = "",
    pid_file: common.PidFile = "",
    no_subreaper: Annotated[
        bool, typer.Option("--no-subreaper", help="Do not adopt its orphaned processes.")
    ] = False,
    no_pivot: Annotated[
        bool, typer.Option("--no-pivot", help="As with runc: CRIU changes the root its own way.")
    ] = False,
    tcp_established: criu.TcpEstablished = False,
    ext_unix_sk: criu.ExtUnixSk = False,
    shell_job: criu.ShellJob = False,
    file_locks: criu.FileLocks = False,
    link_remap: criu.LinkRemap = False,
    manage_cgroups_mode: criu.CgroupsMode = "soft",
    empty_ns: criu.EmptyNs = None,
    auto_dedup: criu.AutoDedup = False,
    lazy_pages: criu.LazyPages = False,
    lsm_profile: Annotated[
        str, typer.Option(metavar="TYPE:NAME", help="Profile of AppArmor or SELinux to run under.")
    ] = "",
    lsm_mount_context: Annotated[
        str, typer.Option(metavar="CONTEXT", help="SELinux context of mounts that have one.")
    ] = "",
) -> int:
    """Restore a container from a checkpoint, wait for its end and delete it.

    Processes, memory, open files and pipes come from the images; cgroups, limits and what is
    bound from the host come from the bundle's config.json. The root file system must be there,
    as it was.

    Exit status: that of the process, or 128 + the signal that has ended it; with --detach 0, once
    it runs; 1 if it could not be restored.
    """
    from ocirun.runtime.restore import RestoreRequest

    request = RestoreRequest(id, bundle)
    request.image_path, request.work_path = image_path, work_path
    request.console_socket, request.pid_file, request.no_pivot = console_socket, pid_file, no_pivot
    request.tcp_established, request.ext_unix_sk = tcp_established, ext_unix_sk
    request.shell_job, request.file_locks, request.link_remap = shell_job, file_locks, link_remap
    request.auto_dedup, request.lazy_pages = auto_dedup, lazy_pages
    request.cgroups_mode, request.empty_ns = manage_cgroups_mode, empty_ns or []
    request.lsm_profile, request.lsm_mount_context = lsm_profile, lsm_mount_context
    return open_runtime(ctx.obj).restore(request, detach=detach, no_subreaper=no_subreaper)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun restore --detach --image-path /var/tmp/web --bundle /srv/web web",
    )
    app.command("restore", cls=Command, epilog=epilog)(restore)
