"""What `doctor` has found, for a person: a table on a terminal, lines in a pipe. Cold."""

from typing import TYPE_CHECKING

from ocirun.cli.render import clean

if TYPE_CHECKING:
    from ocirun.doctor.finding import Finding


def word(finding: "Finding") -> str:
    """ok; missing, if no container can do without it; else limited."""
    return "ok" if finding.good else "missing" if finding.needed else "limited"


def lines(findings: "list[Finding]") -> str:
    """A line for each, for grep: WORD, AREA: NAME: DETAIL [mend: COMMAND]."""
    text = ""
    for one in findings:
        mend = f" [mend: {clean(one.mend)}]" if one.mend else ""
        text += f"{word(one):<8} {one.area}: {one.name}: {clean(one.detail)}{mend}\n"
    return text + _summary(findings)


def table(findings: "list[Finding]") -> str:
    """The same as a coloured table, an area after the other."""
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, highlight=False)
    styles = {"ok": "green", "limited": "yellow", "missing": "bold red"}
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "what", "found", "mends it"):
        shown.add_column(name, overflow="fold")
    area = ""
    for one in findings:
        if one.area != area:
            area = one.area
            shown.add_row("", Text(area, style="bold cyan"), "", "")
        state = word(one)
        row = (one.name, clean(one.detail), clean(one.mend))
        shown.add_row(Text(state, style=styles[state]), *(Text(text) for text in row))
    console.print(shown)
    return out.getvalue() + _summary(findings)


def _summary(findings: "list[Finding]") -> str:
    from ocirun.doctor import can_run

    if can_run(findings):
        limits = sum(not one.good for one in findings)
        return "Containers can be run." + (f" Limits: {limits}." if limits else "") + "\n"
    missing = [one.name for one in findings if one.needed and not one.good]
    return f"Containers cannot be run: {', '.join(missing)}.\n"
