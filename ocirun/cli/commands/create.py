"""`create ID`: prepare a container that then waits for `start`."""

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def create(
    ctx: typer.Context,
    id: common.NewId,
    bundle: common.Bundle = ".",
    config: common.Config = "config.json",
    pid_file: common.PidFile = "",
    console_socket: common.ConsoleSocket = "",
    no_pivot: common.NoPivot = False,
    no_new_keyring: common.NoNewKeyring = False,
    no_subreaper: common.IgnoredNoSubreaper = False,
    preserve_fds: common.PreserveFds = 0,
    pidfd_socket: common.PidfdSocket = "",
) -> int:
    """Create a container from a bundle; its process waits for `start`.

    Namespaces, mounts, cgroups and devices are made and the hooks before the start are run: all
    but the command itself. If anything fails, nothing is left, and the error names the line of
    config.json that asked for it.
    """
    return hot.create(
        ctx.obj,
        id=id,
        bundle=bundle,
        config=config,
        pid_file=pid_file,
        console_socket=console_socket,
        no_pivot=no_pivot,
        no_new_keyring=no_new_keyring,
        preserve_fds=preserve_fds,
        pidfd_socket=pidfd_socket,
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun create --bundle /srv/web web",
        "ocirun create --pid-file /run/web.pid web    # the bundle is the current folder",
    )
    app.command("create", cls=Command, epilog=epilog)(create)
