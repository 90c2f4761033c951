"""`events ID`: what a container uses, and when it runs out of memory."""

from typing import Annotated

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def events(
    ctx: typer.Context,
    id: common.ContainerId,
    interval: Annotated[
        str, typer.Option(metavar="DURATION", help="Time between statistics: 500ms, 5s, 1m30s.")
    ] = "5s",
    stats: Annotated[bool, typer.Option("--stats", help="Print the statistics once.")] = False,
) -> int:
    """Show what a container uses, until it ends: a table on a terminal, else lines of JSON.

    Lines have the form of runc's: their `type` is stats, or oom when the container has run out
    of memory.
    """
    return hot.events(ctx.obj, id=id, interval=interval, stats=stats)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun events --interval 500ms web",
        "ocirun events --stats web",
    )
    app.command("events", cls=Command, epilog=epilog)(events)
