"""The options that `checkpoint` and `restore` share, all of them CRIU's."""

from typing import Annotated, Literal

import typer

WorkPath = Annotated[
    str,
    typer.Option(
        metavar="DIR",
        help="Folder of CRIU's log and the like. [dim](default: that of the images)[/]",
        show_default=False,
    ),
]
TcpEstablished = Annotated[
    bool, typer.Option("--tcp-established", help="Allow open TCP connections.")
]
TcpSkipInFlight = Annotated[
    bool, typer.Option("--tcp-skip-in-flight", help="Leave out TCP connections on their way.")
]
ExtUnixSk = Annotated[
    bool, typer.Option("--ext-unix-sk", help="Allow Unix sockets that lead out of the container.")
]
ShellJob = Annotated[
    bool, typer.Option("--shell-job", help="Allow a session that began outside the container.")
]
FileLocks = Annotated[bool, typer.Option("--file-locks", help="Allow locks of files.")]
LinkRemap = Annotated[
    bool, typer.Option("--link-remap", help="Keep open files that have been unlinked.")
]
AutoDedup = Annotated[
    bool, typer.Option("--auto-dedup", help="Keep each page once in a row of images.")
]
LazyPages = Annotated[
    bool, typer.Option("--lazy-pages", help="Bring memory when it is used (userfaultfd).")
]
CgroupsMode = Annotated[
    Literal["soft", "full", "strict", "props", "none", "ignore"],
    typer.Option("--manage-cgroups-mode", help="As --manage-cgroups of criu(8)."),
]
EmptyNs = Annotated[
    list[str] | None,
    typer.Option(
        "--empty-ns",
        metavar="KIND",
        help="Make this namespace, `network`, but do not restore what is in it.",
        show_default=False,
    ),
]
