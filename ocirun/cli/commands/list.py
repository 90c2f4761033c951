"""`list`: the containers of a root."""

from typing import Annotated, Literal

import typer

from ocirun.cli import hot
from ocirun.cli.gostyle import Command


def list_containers(
    ctx: typer.Context,
    format: Annotated[
        Literal["table", "json"], typer.Option("--format", "-f", help="Form of the answer.")
    ] = "table",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the ids alone.")] = False,
) -> int:
    """List the containers."""
    return hot.list_containers(ctx.obj, format=format, quiet=quiet)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("list", cls=Command)(list_containers)
