"""What several commands share: parameter types and the way to the api. Cold."""

from typing import TYPE_CHECKING, Annotated

import typer

from ocirun.cli import completion

if TYPE_CHECKING:
    from ocirun.api import Runtime

ContainerId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Name of the container.",
        show_default=False,
        autocompletion=completion.containers,
    ),
]
NewId = Annotated[
    str, typer.Argument(metavar="ID", help="Name of the new container.", show_default=False)
]
Bundle = Annotated[
    str,
    typer.Option("--bundle", "-b", metavar="DIR", help="Folder with config.json and rootfs."),
]
_CONFIG_HELP = "Use FILE instead of the bundle's config.json."
Config = Annotated[str, typer.Option("--config", "-f", metavar="FILE", help=_CONFIG_HELP)]
LongConfig = Annotated[str, typer.Option("--config", metavar="FILE", help=_CONFIG_HELP)]
BundleArgument = Annotated[str, typer.Argument(metavar="BUNDLE", help="Folder with config.json.")]
ConsoleSocket = Annotated[
    str,
    typer.Option(
        metavar="SOCKET",
        help="Unix socket that receives the master side of the terminal.",
        show_default=False,
    ),
]
PidFile = Annotated[
    str,
    typer.Option(
        metavar="FILE", help="Write the pid of the container's process here.", show_default=False
    ),
]
PidfdSocket = Annotated[
    str,
    typer.Option(
        metavar="SOCKET",
        help="Unix socket that receives a pidfd of the container's process.",
        show_default=False,
    ),
]
NoPivot = Annotated[
    bool,
    typer.Option("--no-pivot", help="Change the root without pivot_root (rootfs on a ramdisk)."),
]
NoNewKeyring = Annotated[
    bool, typer.Option("--no-new-keyring", help="Keep the caller's session keyring.")
]
IgnoredNoSubreaper = Annotated[
    bool, typer.Option("--no-subreaper", help="Ignored.", hidden=True, expose_value=False)
]
PreserveFds = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="Pass N more file descriptors to the container, from 3 on."
    ),
]


def runtime(ctx: typer.Context) -> "Runtime":
    """Return the api's Runtime for the global options of this command line."""
    from ocirun.cli.hot import open_runtime

    return open_runtime(ctx.obj)


def examples(*lines: str) -> str:
    """Return command lines, which may have a comment, as the end of a command's help."""
    return "\n".join(("Examples:", *lines))
