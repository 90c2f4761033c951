"""`pause ID` and `resume ID`: stop the container's processes, let them go on."""

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def pause(ctx: typer.Context, id: common.ContainerId) -> int:
    """Stop all processes of a container, until `resume`.

    The freezer of the container's cgroup stops them: they do not notice.
    """
    return hot.pause(ctx.obj, id=id)


def resume(ctx: typer.Context, id: common.ContainerId) -> int:
    """Let a container go on that `pause` has stopped."""
    return hot.resume(ctx.obj, id=id)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("pause", cls=Command, epilog=common.examples("ocirun pause web"))(pause)
    app.command("resume", cls=Command, epilog=common.examples("ocirun resume web"))(resume)
