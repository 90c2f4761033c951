"""`run ID`: create and start a container, and wait for it."""

from typing import Annotated

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def run(
    ctx: typer.Context,
    id: common.NewId,
    bundle: common.Bundle = ".",
    config: common.Config = "config.json",
    pid_file: common.PidFile = "",
    console_socket: common.ConsoleSocket = "",
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it runs; do not wait for it.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Do not delete it when it ends.")] = False,
    no_pivot: common.NoPivot = False,
    no_new_keyring: common.NoNewKeyring = False,
    no_subreaper: Annotated[
        bool, typer.Option("--no-subreaper", help="Do not adopt its orphaned processes.")
    ] = False,
    preserve_fds: common.PreserveFds = 0,
    pidfd_socket: common.PidfdSocket = "",
) -> int:
    """Create a container, start it, wait for its end and delete it; exit with its status.

    Signals are passed on to the container's process. If config.json asks for a terminal, it is
    the caller's own; with --detach it is sent to --console-socket.

    Exit status: that of the process, or 128 + the signal that has ended it; with --detach 0, once
    it runs; 1 if there could be no container.
    """
    return hot.run(
        ctx.obj,
        id=id,
        bundle=bundle,
        config=config,
        pid_file=pid_file,
        console_socket=console_socket,
        detach=detach,
        keep=keep,
        no_pivot=no_pivot,
        no_new_keyring=no_new_keyring,
        no_subreaper=no_subreaper,
        preserve_fds=preserve_fds,
        pidfd_socket=pidfd_socket,
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun run --bundle /srv/web web",
        "ocirun run --detach --pid-file /run/web.pid web",
    )
    app.command("run", cls=Command, epilog=epilog)(run)
