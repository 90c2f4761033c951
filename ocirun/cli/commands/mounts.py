"""`mounts add ID FILE` and `mounts remove ID FILE`: mounts of a container that runs."""

from typing import Annotated

import typer

from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command, Group
from ocirun.cli.hot import open_existing

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="JSON as config.json's `mounts`, an array; - is standard input.",
        show_default=False,
    ),
]


def add(ctx: typer.Context, id: common.ContainerId, file: File) -> int:
    """Mount in a container that runs: all of the mounts, or none.

    Sources, types and options are what they are in config.json. The container may also be
    created or paused.
    """
    from ocirun.runtime.mounts import read_mounts

    open_existing(ctx.obj).get(id).add_mounts(read_mounts(file))
    return 0


def remove(ctx: typer.Context, id: common.ContainerId, file: File) -> int:
    """Unmount in a container that runs what is at the mounts' destinations: all, or nothing.

    Nothing but the destinations counts, so the file of `add` will do. The last one goes first;
    what uses a mount keeps it until it lets go.
    """
    from ocirun.runtime.mounts import read_mounts

    open_existing(ctx.obj).get(id).remove_mounts(read_mounts(file))
    return 0


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(cls=Group, no_args_is_help=True)
    adding = common.examples(
        "ocirun mounts add web mounts.json",
        """echo '[{"destination": "/mnt", "type": "tmpfs"}]' | ocirun mounts add web -""",
    )
    removing = common.examples("ocirun mounts remove web mounts.json")
    group.command("add", cls=Command, epilog=adding)(add)
    group.command("remove", cls=Command, epilog=removing)(remove)
    app.add_typer(group, name="mounts", help="Add mounts to a container that runs, remove them.")
