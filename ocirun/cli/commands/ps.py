"""`ps ID [PS-OPTION...]`: the processes of a container."""

from typing import Annotated, Literal

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import InnerCommand


def ps(
    ctx: typer.Context,
    id: common.ContainerId,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PS-OPTION]...", help="Options of ps(1), instead of -ef.", show_default=False
        ),
    ] = None,
    format: Annotated[
        Literal["table", "json"], typer.Option("--format", "-f", help="Form of the answer.")
    ] = "table",
) -> int:
    """Show the processes of a container.

    They are those of its cgroup. The table is that of ps(1) on the host, cut down to the
    container; JSON is the list of their pids.
    """
    return hot.ps(ctx.obj, id=id, format=format, arguments=arguments)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun ps web",
        "ocirun ps web -o pid,user,cmd",
        "ocirun ps --format json web",
    )
    app.command("ps", cls=InnerCommand, epilog=epilog)(ps)
