"""`features`: what this runtime can do, as the JSON document of the OCI specification."""

import typer

from ocirun.cli import hot
from ocirun.cli.gostyle import Command


def features(ctx: typer.Context) -> int:
    """Print what this runtime can do, as JSON."""
    return hot.features(ctx.obj)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("features", cls=Command)(features)
