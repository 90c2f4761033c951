"""`help [COMMAND]`: what runc's users type for `COMMAND --help`."""

from typing import Annotated

import typer

from ocirun.cli.gostyle import Command


def help_(
    ctx: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]", show_default=False)
    ] = None,
) -> int:
    """Show the help of a command, or the list of commands."""
    app = ctx.find_root().command
    app.main([*(command or ()), "--help"], prog_name="ocirun", standalone_mode=False)
    return 0


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("help", cls=Command, hidden=True)(help_)
