"""`delete ID`: remove what a container has left."""

from typing import Annotated

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def delete(
    ctx: typer.Context,
    id: common.ContainerId,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Kill it first; a missing one is no error.")
    ] = False,
    regex: Annotated[
        bool, typer.Option("--regex", "-r", help="ID is a pattern: do it to all that match.")
    ] = False,
) -> int:
    """Delete a stopped container and everything that belongs to it.

    Its cgroups and its state are removed, and the poststop hooks are run. A container that has
    not stopped is refused, unless --force kills it first.
    """
    return hot.delete(ctx.obj, id=id, force=force, regex=regex)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun delete web",
        "ocirun delete --force --regex '^test-'",
    )
    app.command("delete", cls=Command, epilog=epilog)(delete)
