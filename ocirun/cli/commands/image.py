"""`image import|list|remove`: the images that `launch` runs."""

from typing import Annotated, Literal

import typer

from ocirun.cli import completion
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command, Group
from ocirun.cli.output import emit
from ocirun.image.store import Image, Store

DataRoot = Annotated[
    str,
    typer.Option(
        metavar="DIR",
        envvar="OCIRUN_DATA_ROOT",
        help="Folder of images and launched containers. [dim](default: /var/lib/ocirun, or"
        " $XDG_DATA_HOME/ocirun when rootless)[/]",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Such as busybox:1.36.")]


def import_(
    name: Name,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE-OR-DIR",
            help="A root file system (directory or tar), a docker save archive, or an OCI image"
            " layout (directory or tar). `-` reads a tar from standard input.",
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace an image of that name.")] = False,
    reference: Annotated[
        str,
        typer.Option(metavar="TAG", help="Which image of the archive.", show_default=False),
    ] = "",
    platform: Annotated[
        str,
        typer.Option(
            metavar="OS/ARCH",
            help="Which platform of the image. [dim](default: this machine's)[/]",
            show_default=False,
        ),
    ] = "",
    max_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Refuse an image that holds more.")
    ] = "64g",
    data_root: DataRoot = "",
) -> int:
    """Import an image from a file or a directory.

    Tars may be compressed by gzip, bzip2, xz or zstd. Digests are checked where there are any. An
    image is there as a whole or not at all.
    """
    from ocirun.cli.progress import progress_bar
    from ocirun.image.importer import ImportOptions, import_image
    from ocirun.image.options import parse_size

    options = ImportOptions(force, reference, platform, parse_size(max_size))
    with progress_bar(name) as progress:
        import_image(name, source, data_root=data_root, options=options, progress=progress)
    return 0


def list_(
    format: Annotated[
        Literal["table", "json"], typer.Option("--format", "-f", help="Form of the answer.")
    ] = "table",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the names alone.")] = False,
    data_root: DataRoot = "",
) -> int:
    """List the images."""
    from ocirun.cli.hot import to_json

    images = Store(data_root).list_images()
    if quiet:
        emit("".join(f"{image.name}\n" for image in images))
    elif format == "json":
        emit(to_json([image.facts() for image in images]) + "\n")
    else:
        emit(_table(images))
    return 0


def remove(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="Images to remove.", autocompletion=completion.images
        ),
    ],
    data_root: DataRoot = "",
) -> int:
    """Remove images that no launched container uses.

    One that is used is an error, and so is one that is not there.
    """
    store = Store(data_root)
    for name in names:
        store.remove_image(name)
    return 0


def _table(images: list[Image]) -> str:
    rows = [("NAME", "SOURCE", "SIZE", "FILES", "IMPORTED", "DIGEST")]
    rows += [
        (i.name, i.source, _size(i.size), str(i.files), i.imported, i.problem or i.digest[:19])
        for i in images
    ]
    widths = [3 + max(len(row[column]) for row in rows) for column in range(6)]
    lines = ("".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(line + "\n" for line in lines)


def _size(size: float) -> str:
    if size < 1024:
        return f"{size:.0f} B"
    units = iter(("KiB", "MiB", "GiB", "TiB", "PiB"))
    unit = ""
    while size >= 1024:
        size, unit = size / 1024, next(units)
    return f"{size:.1f} {unit}"


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(cls=Group, no_args_is_help=True)
    importing = common.examples(
        "ocirun image import box rootfs.tar",
        "docker save busybox:1.36 | ocirun image import busybox:1.36 -",
        "ocirun image import --reference v2 app:2 layout/",
    )
    listing = common.examples("ocirun image list")
    removing = common.examples("ocirun image remove busybox:1.36 box")
    group.command("import", cls=Command, epilog=importing)(import_)
    group.command("list", cls=Command, epilog=listing)(list_)
    group.command("remove", cls=Command, epilog=removing)(remove)
    app.add_typer(group, name="image", help="Import, list and remove images.")
