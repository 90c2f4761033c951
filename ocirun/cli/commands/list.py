"""`list`: the containers of a root."""

from typing import Annotated, Literal

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def list_containers(
    ctx: typer.Context,
    format: Annotated[
        Literal["table", "json"], typer.Option("--format", "-f", help="Form of the answer.")
    ] = "table",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the ids alone.")] = False,
) -> int:
    """List the containers.

    One whose record cannot be read is shown as unknown; `delete --force` clears it.
    """
    return hot.list_containers(ctx.obj, format=format, quiet=quiet)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun list",
        "ocirun --root /run/user/1000/ocirun list --quiet",
    )
    app.command("list", cls=Command, epilog=epilog)(list_containers)
