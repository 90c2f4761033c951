"""`start ID`: let a created container's process begin."""

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def start(ctx: typer.Context, id: common.ContainerId) -> int:
    """Run the process of a created container.

    It returns as soon as the command runs. If the kernel cannot execute it, that is the error of
    `start`, and the container is then stopped.
    """
    return hot.start(ctx.obj, id=id)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun create web",
        "ocirun start web",
    )
    app.command("start", cls=Command, epilog=epilog)(start)
