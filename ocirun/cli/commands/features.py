"""`features`: what this runtime can do, as the JSON document of the OCI specification."""

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def features(ctx: typer.Context) -> int:
    """Print what this runtime can do, as JSON.

    The document is that of the OCI Runtime Specification: hooks, mount options, namespaces,
    capabilities, cgroups, seccomp and the like that this runtime knows.
    """
    return hot.features(ctx.obj)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun features",
    )
    app.command("features", cls=Command, epilog=epilog)(features)
