"""`exec ID COMMAND [ARG...]`: one more process in a container that runs."""

from typing import Annotated

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import InnerCommand


def exec_(
    ctx: typer.Context,
    id: common.ContainerId,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND] [ARG]...", help="What to run.", show_default=False),
    ] = None,
    process: Annotated[
        str,
        typer.Option(
            "--process",
            "-p",
            metavar="FILE",
            help="Take the whole process, as in config.json, from FILE; - is standard input.",
            show_default=False,
        ),
    ] = "",
    cwd: Annotated[
        str, typer.Option(metavar="PATH", help="Start in this directory.", show_default=False)
    ] = "",
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="NAME=VALUE", help="Add a variable."),
    ] = None,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="Give it a terminal.")] = False,
    user: Annotated[
        str,
        typer.Option("--user", "-u", metavar="UID[:GID]", help="Run as user.", show_default=False),
    ] = "",
    additional_gids: Annotated[
        list[str] | None,
        typer.Option("--additional-gids", "-g", metavar="GID", help="Add a group."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it runs; do not wait for it.")
    ] = False,
    pid_file: common.PidFile = "",
    console_socket: common.ConsoleSocket = "",
    process_label: Annotated[
        str, typer.Option(metavar="LABEL", help="Its SELinux label.", show_default=False)
    ] = "",
    apparmor: Annotated[
        str, typer.Option(metavar="PROFILE", help="Its AppArmor profile.", show_default=False)
    ] = "",
    no_new_privs: Annotated[
        bool, typer.Option("--no-new-privs", help="It can gain no privileges.")
    ] = False,
    cap: Annotated[
        list[str] | None,
        typer.Option("--cap", "-c", metavar="CAP", help="Add a capability."),
    ] = None,
    preserve_fds: common.PreserveFds = 0,
    cgroup: Annotated[
        list[str] | None,
        typer.Option(metavar="[CONTROLLER:]PATH", help="Run it in a cgroup below the container's."),
    ] = None,
    ignore_paused: Annotated[
        bool, typer.Option("--ignore-paused", help="In a paused container, wait until `resume`.")
    ] = False,
    pidfd_socket: common.PidfdSocket = "",
) -> int:
    """Run one more process in a container, and exit with its status.

    It joins the namespaces and the cgroup of the container, and is confined as the container's
    own process is: what the options do not say is taken from config.json. Options end where
    COMMAND begins.

    Exit status: that of the process, or 128 + the signal that has ended it; with --detach 0, once
    it runs; 255 if it could not be run.
    """
    return hot.exec_(
        ctx.obj,
        id=id,
        command=command,
        process=process,
        cwd=cwd,
        env=env,
        tty=tty,
        user=user,
        additional_gids=additional_gids,
        detach=detach,
        pid_file=pid_file,
        console_socket=console_socket,
        process_label=process_label,
        apparmor=apparmor,
        no_new_privs=no_new_privs,
        cap=cap,
        preserve_fds=preserve_fds,
        cgroup=cgroup,
        ignore_paused=ignore_paused,
        pidfd_socket=pidfd_socket,
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun exec --tty web sh",
        "ocirun exec --user 1000:1000 --cwd /tmp --env HOME=/tmp web id",
        "ocirun exec --process process.json web",
    )
    app.command("exec", cls=InnerCommand, epilog=epilog)(exec_)
