"""`kill ID [SIGNAL]`: send a signal to a container."""

from typing import Annotated

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def kill(
    ctx: typer.Context,
    id: common.ContainerId,
    signal: Annotated[
        str,
        typer.Argument(metavar="SIGNAL", help="Name, with or without SIG, or number."),
    ] = "TERM",
    all_: Annotated[
        bool, typer.Option("--all", "-a", help="Send it to all processes of the container.")
    ] = False,
    regex: Annotated[
        bool, typer.Option("--regex", "-r", help="ID is a pattern: do it to all that match.")
    ] = False,
) -> int:
    """Send a signal to the container's process."""
    return hot.kill(ctx.obj, id=id, signal=signal, all_=all_, regex=regex)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("kill", cls=Command)(kill)
