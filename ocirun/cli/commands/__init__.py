"""One module a command, and the list of them. Cold: Typer is imported here.

A command's module defines its interface with Typer's types, calls the api (or,
for a hot command, the function of the same name in `ocirun.cli.hot`), prints the
answer and returns the exit status. At most 30 lines; no policy, no syscalls:

    def pause(ctx: typer.Context, id: ContainerId) -> int:
        '''Suspend all processes of a container.'''
        runtime(ctx).get(id).pause()
        return 0

    def register(app: typer.Typer) -> None:
        app.command("pause", cls=Command)(pause)

Failures are raised as `ocirun.errors`; `ocirun.cli.entry` reports them. Answers
are printed with `ocirun.cli.output.emit`, never with print.
"""

import typer

from ocirun.cli.commands import (
    checkpoint,
    create,
    delete,
    doctor,
    events,
    explain,
    features,
    image,
    kill,
    launch,
    mounts,
    pause,
    ps,
    restore,
    run,
    spec,
    start,
    state,
    update,
    validate,
)
from ocirun.cli.commands import exec as exec_
from ocirun.cli.commands import help as help_
from ocirun.cli.commands import list as list_

MODULES = (
    create,
    start,
    state,
    kill,
    delete,
    run,
    exec_,
    ps,
    pause,
    checkpoint,
    restore,
    update,
    mounts,
    events,
    list_,
    spec,
    features,
    doctor,
    validate,
    explain,
    launch,
    image,
    help_,
)
"""In the order in which `--help` shows them."""


def register_all(app: typer.Typer) -> None:
    """Add every command to the application."""
    for module in MODULES:
        module.register(app)
