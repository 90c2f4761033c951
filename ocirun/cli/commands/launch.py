"""`launch ID IMAGE [COMMAND] [ARG...]`: an image runs in one command."""

from typing import Annotated, Literal

import typer

from ocirun.cli import completion
from ocirun.cli.commands import common
from ocirun.cli.commands.image import DataRoot
from ocirun.cli.gostyle import InnerCommand
from ocirun.errors import UsageError


class LaunchCommand(InnerCommand):
    """Options may stand before ID, before IMAGE and before COMMAND."""

    places = 3


def launch(
    ctx: typer.Context,
    id: common.NewId,
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            help="Name of an image, or `host`: this machine's own root.",
            autocompletion=completion.images_and_host,
        ),
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COMMAND] [ARG]...",
            help="What to run. [dim](default: the image's own command)[/]",
            show_default=False,
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            "-e",
            metavar="NAME[=VALUE]",
            help="Set a variable; NAME alone passes on the caller's.",
            show_default=False,
        ),
    ] = None,
    workdir: Annotated[
        str,
        typer.Option(
            "--workdir", "-w", metavar="PATH", help="Start in this directory.", show_default=False
        ),
    ] = "",
    user: Annotated[
        str,
        typer.Option(
            "--user",
            "-u",
            metavar="USER[:GROUP]",
            help="Run as, by name or number.",
            show_default=False,
        ),
    ] = "",
    volume: Annotated[
        list[str] | None,
        typer.Option(
            "--volume",
            "-v",
            metavar="SRC:DST[:ro]",
            help="Show a directory or file of the host; `ro`: to read only.",
            show_default=False,
        ),
    ] = None,
    terminal: Annotated[bool, typer.Option("--tty", "-t", help="Give it a terminal.")] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Pass on standard input.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what it writes; a later --keep goes on with it.")
    ] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Let it write nothing.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it runs; `delete` ends it.")
    ] = False,
    hostname: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Its host name. [dim](default: ID)[/]", show_default=False
        ),
    ] = "",
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Most memory, such as 64m.", show_default=False)
    ] = "",
    cpus: Annotated[
        float, typer.Option(metavar="N", help="Most processors, such as 0.5.", show_default=False)
    ] = 0,
    pids_limit: Annotated[
        int, typer.Option(metavar="N", help="Most processes.", show_default=False)
    ] = 0,
    network: Annotated[
        Literal["none", "host"], typer.Option(help="Its own empty network, or the host's.")
    ] = "none",
    bundle_only: Annotated[
        str,
        typer.Option(
            metavar="DIR", help="Write the bundle to DIR and do not run it.", show_default=False
        ),
    ] = "",
    data_root: DataRoot = "",
) -> int:
    """Run an image: a writable layer over it, gone when it ends; exit with its status.

    The image `host` is always there: the root file system of this machine, which is not changed.
    Other images come from `ocirun image import`. Options end where COMMAND begins.

    Exit status: that of the process, or 128 + the signal that has ended it; with --detach 0, once
    it runs; 1 if there could be no container.
    """
    from ocirun.image.bundle import write_bundle
    from ocirun.image.launch import launch as run
    from ocirun.image.options import LaunchOptions

    options = LaunchOptions(
        id=id,
        image=image,
        command=tuple(command or ()),
        keep=keep,
        read_only=read_only,
        env=tuple(env or ()),
        workdir=workdir,
        user=user,
        volumes=tuple(volume or ()),
        terminal=terminal,
        interactive=interactive,
        hostname=hostname,
        memory=memory,
        cpus=cpus,
        pids_limit=pids_limit,
        network=network,
    )
    if bundle_only:
        if detach or keep:
            raise UsageError("--bundle-only runs nothing, so --detach and --keep mean nothing")
        write_bundle(bundle_only, options, data_root)
        return 0
    return run(common.runtime(ctx), options, data_root=data_root, detach=detach)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun launch box host sh",
        "ocirun launch --tty --memory 64m box busybox:1.36 sh",
        "ocirun launch -v /srv/data:/data:ro -e LANG box busybox:1.36 ls /data",
    )
    app.command("launch", cls=LaunchCommand, epilog=epilog)(launch)
