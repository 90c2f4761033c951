"""`spec`: write a config.json to start from."""

from pathlib import Path
from typing import Annotated

import typer

from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command
from ocirun.cli.hot import to_json
from ocirun.errors import BundleError, UsageError


def spec(
    bundle: common.Bundle = ".",
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="Name of the file to write.")
    ] = "config.json",
    rootless: Annotated[
        bool, typer.Option("--rootless", help="For a container that an ordinary user runs.")
    ] = False,
) -> int:
    """Write a config.json to start from; never over an existing one.

    It runs `sh` on a terminal, with the root file system in the folder `rootfs` beside it.
    """
    from ocirun.spec.default import default_spec

    path = Path(bundle, file)
    text = to_json(default_spec(rootless=rootless)) + "\n"
    try:
        with path.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already", hint="remove it first") from None
    except OSError as error:
        raise BundleError(f"cannot write {path}", errno=error.errno or 0) from None
    return 0


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun spec --bundle /srv/web",
        "ocirun spec --rootless",
    )
    app.command("spec", cls=Command, epilog=epilog)(spec)
