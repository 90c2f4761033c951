"""`doctor`: what this host can do and cannot, and what mends it."""

from typing import Annotated, Literal

import typer

from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command
from ocirun.cli.output import emit, wants_colour


def doctor(
    format: Annotated[
        Literal["text", "json"], typer.Option("--format", "-f", help="Form of the answer.")
    ] = "text",
) -> int:
    """Try what containers need of this host, and tell how to mend what is missing.

    Everything is tried in short-lived processes, which leave nothing.

    Exit status: 0 if containers can be run, else 1.
    """
    from ocirun.cli.findings import lines, table
    from ocirun.doctor import can_run, examine

    found = examine()
    able = can_run(found)
    if format == "json":
        from dataclasses import asdict

        from ocirun.cli.hot import to_json

        document = {"canRun": able, "findings": [asdict(one) for one in found]}
        emit(to_json(document) + "\n")
    else:
        emit(table(found) if wants_colour(1) else lines(found))
    return 0 if able else 1


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun doctor",
        "ocirun doctor --format json",
    )
    app.command("doctor", cls=Command, epilog=epilog)(doctor)
