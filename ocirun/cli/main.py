"""The Typer application: the one definition of the command line. Cold.

Here: the application and the global options. Each command is a module of
`ocirun.cli.commands`. `tools/gen_table.py` derives from this the table by which
`ocirun.cli.quick` reads the hot commands without importing Typer; what that
cannot read (help, a mistake, completion, a cold command) comes here.
"""

from typing import Annotated, Literal

import typer

from ocirun.cli import commands, completion
from ocirun.cli.commands.common import examples
from ocirun.cli.gostyle import Group
from ocirun.cli.log import setup
from ocirun.cli.options import Options
from ocirun.cli.output import emit
from ocirun.version import version_text

app = typer.Typer(
    name="ocirun",
    cls=Group,
    help="Run containers from OCI bundles, and explain what is done and why.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "ocirun launch box host sh          # this machine under a throw-away layer",
        "ocirun run --bundle /srv/web web   # a bundle, with its config.json",
        "ocirun explain /srv/web            # what that would do",
        "ocirun doctor                      # what this host can do",
    ),
)


def _show_version(ctx: typer.Context, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:  # which is completion
        emit(version_text())
        raise typer.Exit


@app.callback()
def global_options(
    ctx: typer.Context,
    root: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Folder of the containers' state; should be on a tmpfs."
            " [dim](default: /run/ocirun, or $XDG_RUNTIME_DIR/ocirun when rootless)[/]",
            show_default=False,
        ),
    ] = "",
    log: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Append errors to FILE, or send them to [b]journald:NAME[/] or [b]syslog:NAME[/].",
            show_default=False,
        ),
    ] = "",
    log_format: Annotated[
        Literal["text", "json"], typer.Option(help="Format of errors: lines of text or JSON.")
    ] = "text",
    log_level: Annotated[
        Literal["trace", "debug", "info", "warning", "warn", "error", "fatal", "panic"],
        typer.Option(help="Least severe messages to log.", show_choices=False, metavar="LEVEL"),
    ] = "info",
    debug: Annotated[
        bool, typer.Option("--debug", help="Log what is done, and show tracebacks of bugs.")
    ] = False,
    systemd_cgroup: Annotated[
        bool, typer.Option("--systemd-cgroup", help="Short for --cgroup-manager systemd.")
    ] = False,
    cgroup_manager: Annotated[
        Literal["cgroupfs", "systemd", "disabled"],
        typer.Option(help="Who makes the cgroups."),
    ] = "cgroupfs",
    rootless: Annotated[
        Literal["true", "false", "auto"],
        typer.Option(
            help="Whether the caller has no privileges: cgroups that cannot be made are left out."
        ),
    ] = "auto",
    criu: Annotated[str, typer.Option(hidden=True)] = "",
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-v", "-V", is_eager=True, callback=_show_version, help="Show the version."
        ),
    ] = False,
) -> None:
    """Hand the global options to the command."""
    ctx.obj = Options(
        root=root,
        log=log,
        log_format=log_format,
        log_level=log_level,
        debug=debug,
        systemd_cgroup=systemd_cgroup,
        cgroup_manager=cgroup_manager,
        rootless=rootless,
        criu=criu,
    )
    setup(ctx.obj)


commands.register_all(app)
completion.register()
