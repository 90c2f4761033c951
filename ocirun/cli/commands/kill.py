"""`kill ID [SIGNAL]`: send a signal to a container."""

from typing import Annotated

import typer

from ocirun.cli import completion, hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def kill(
    ctx: typer.Context,
    id: common.ContainerId,
    signal: Annotated[
        str,
        typer.Argument(
            metavar="SIGNAL",
            help="Name, with or without SIG, or number.",
            autocompletion=completion.signals,
        ),
    ] = "TERM",
    all_: Annotated[
        bool, typer.Option("--all", "-a", help="Send it to all processes of the container.")
    ] = False,
    regex: Annotated[
        bool, typer.Option("--regex", "-r", help="ID is a pattern: do it to all that match.")
    ] = False,
) -> int:
    """Send a signal to the container's process.

    That process has pid 1 in its pid namespace: signals but KILL and STOP reach it only if it has
    a handler for them (pid_namespaces(7)).
    """
    return hot.kill(ctx.obj, id=id, signal=signal, all_=all_, regex=regex)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun kill web                  # TERM",
        "ocirun kill --all web KILL",
        "ocirun kill --regex '^test-' INT",
    )
    app.command("kill", cls=Command, epilog=epilog)(kill)
