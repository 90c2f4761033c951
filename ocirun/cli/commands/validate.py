"""`validate [BUNDLE]`: everything that is wrong with, or odd about, a config.json."""

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ocirun.cli import render
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command
from ocirun.cli.output import emit, emit_styled
from ocirun.spec.load import CONFIG

if TYPE_CHECKING:
    from ocirun.spec.validate import Report


def validate(
    bundle: common.BundleArgument = ".",
    config: common.LongConfig = "config.json",
    format: Annotated[
        Literal["text", "json"], typer.Option("--format", "-f", help="Form of the answer.")
    ] = "text",
) -> int:
    """Check a bundle's config.json: every error and warning at once.

    Each finding has its line, column and JSON pointer. Warnings do not make a bundle invalid.

    Exit status: 0 valid, 1 invalid, 2 unreadable.
    """
    from ocirun.spec.validate import validate_bundle

    report = validate_bundle(bundle, "" if config == CONFIG else config)
    if format == "json":
        emit(report.to_json() + "\n")
    else:
        emit_styled(_lines(report))
    return report.status


def _lines(report: "Report") -> list[list[tuple[str, str]]]:
    """Return lines of (text, style): each finding with its place, then the count."""
    lines = []
    for finding in report.findings:
        style = "bold red" if finding.severity == "error" else "bold yellow"
        name = os.path.basename(report.path)
        place = f"{name}:{finding.line}:{finding.column} " if finding.line else ""
        pointer = f" {finding.pointer}" if finding.pointer else ""
        message = f": {finding.message}"
        lines.append([(place, "bold"), (finding.severity, style), (pointer, "cyan"), (message, "")])
        for label in ("expected", "hint", "section"):
            if text := getattr(finding, label):
                lines.append([(f"    {label}: ", "dim"), (text, "")])
    errors, warnings = len(report.errors), len(report.warnings)
    counts = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    verdict = ("valid", "invalid", "unreadable")[report.status]
    lines.append(
        [(verdict, "bold green" if report.status == 0 else "bold red"), (f": {counts}", "")]
    )
    return [[(render.clean(text), style) for text, style in line] for line in lines]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun validate /srv/web",
        "ocirun validate --format json /srv/web",
    )
    app.command("validate", cls=Command, epilog=epilog)(validate)
