"""`explain [BUNDLE]`: what create and start would do, step by step."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ocirun.cli import log, render
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command
from ocirun.cli.output import emit, emit_styled

if TYPE_CHECKING:
    from ocirun.runtime.explain import Explained


def explain(
    bundle: common.BundleArgument = ".",
    config: common.LongConfig = "config.json",
    id: Annotated[
        str, typer.Option("--id", metavar="ID", help="Name the container would have.")
    ] = "example",
    format: Annotated[
        Literal["text", "json"], typer.Option("--format", "-f", help="Form of the answer.")
    ] = "text",
) -> int:
    """Show each step that create and start would do, and the line that asks for it.

    Nothing is done, and no privilege is needed.
    """
    from ocirun.runtime.explain import explain as explain_bundle

    options = log.options()
    systemd = options.systemd_cgroup or options.cgroup_manager == "systemd"
    steps = explain_bundle(bundle, id=id, systemd=systemd, config=config)
    if format == "json":
        from ocirun.spec.fastjson import dumps

        keys = ("number", "phase", "text", "pointer", "line")
        emit(dumps([{key: getattr(step, key) for key in keys} for step in steps]) + "\n")
    else:
        emit_styled(_lines(steps))
    return 0


def _lines(steps: "list[Explained]") -> list[list[tuple[str, str]]]:
    """Return lines of (text, style): the steps, numbered, under the name of their phase."""
    lines: list[list[tuple[str, str]]] = []
    phase = None
    for step in steps:
        if step.phase != phase:
            phase = step.phase
            lines.append([(phase, "bold")])
        line = [(f"{step.number:4}  ", "dim"), (render.clean(step.text), "")]
        if step.pointer:
            place = f"  {step.pointer}" + (f" (line {step.line})" if step.line else "")
            line.append((render.clean(place), "cyan"))
        lines.append(line)
    return lines


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun explain /srv/web",
        "ocirun --systemd-cgroup explain --id web /srv/web",
    )
    app.command("explain", cls=Command, epilog=epilog)(explain)
