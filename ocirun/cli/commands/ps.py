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
    """Show the processes of a container."""
    return hot.ps(ctx.obj, id=id, format=format, arguments=arguments)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("ps", cls=InnerCommand)(ps)
