"""`state ID`: what a container is doing, as JSON."""

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def state(ctx: typer.Context, id: common.ContainerId) -> int:
    """Print the state of a container as JSON.

    The document is that of the OCI Runtime Specification. Its `status` is creating, created,
    running, paused or stopped; `pid` is the container's process as the host sees it.
    """
    return hot.state(ctx.obj, id=id)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun state web",
    )
    app.command("state", cls=Command, epilog=epilog)(state)
