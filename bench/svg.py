"""The benchmark as a picture: horizontal bars, one per contender. No dependency is worth it."""

COLOURS = {
    "run": "#4c78a8", "create": "#4c78a8", "start": "#72b7b2", "state": "#54a24b",
    "kill": "#eeca3b", "delete": "#e45756",
}  # fmt: skip
STEPS = ("create", "start", "state", "kill", "delete")
LEFT, WIDTH, HEIGHT, GAP = 160, 560, 20, 8
PHASES = {
    "interpreter": "#4c78a8", "imports": "#9ecae9", "plan": "#eeca3b", "clone": "#f58518",
    "record, cgroups": "#54a24b", "init until execve": "#72b7b2",
    "command and its end": "#b279a2", "cleanup": "#e45756",
}  # fmt: skip
COLUMNS = 4  # of a legend


def draw(
    found: dict[str, dict[str, float]], phases: dict[str, dict[str, float]] | None = None
) -> str:
    """Draw medians in milliseconds: `run` for all, then create to delete for the runtimes.

    Beneath: where the time goes, a bar for each of `phases`, on a scale of its own.
    """
    lines: list[str] = []
    y = 10
    longest = max(max(row["run"], row.get("sum", 0)) for row in found.values())
    scale = WIDTH / longest
    y = _heading(lines, y, "run, /bin/true (ms)")
    for name, row in found.items():
        y = _bar(lines, y, name, [("run", row["run"])], scale)
    y = _heading(lines, y + 10, "create + start + state + kill + delete (ms)")
    for name, row in found.items():
        if "sum" in row:
            y = _bar(lines, y, name, [(step, row[step]) for step in STEPS], scale)
    x = LEFT
    for step in STEPS:
        lines.append(f'<rect x="{x}" y="{y + 6}" width="10" height="10" fill="{COLOURS[step]}"/>')
        lines.append(f'<text x="{x + 14}" y="{y + 15}">{step}</text>')
        x += 80
    y += 26
    for title, parts in (phases or {}).items():
        y = _heading(lines, y + 10, f"{title}: where the time goes (ms, a scale of its own)")
        y = _phases(lines, y, [(name, parts[name]) for name in PHASES if name in parts])
    style = "text{font:12px sans-serif;fill:#333}.h{font-weight:bold}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 70}" height="{y}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>'
    )
    return head + "\n" + "\n".join(lines) + "\n</svg>\n"


def _heading(lines: list[str], y: int, text: str) -> int:
    lines.append(f'<text class="h" x="10" y="{y + 14}">{text}</text>')
    return y + 24


def _bar(lines: list[str], y: int, name: str, parts: list[tuple[str, float]], scale: float) -> int:
    lines.append(f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{name}</text>')
    x = float(LEFT)
    for what, value in parts:
        width = value * scale
        lines.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{HEIGHT}" '
            f'fill="{COLOURS[what]}"><title>{what}: {value:.1f} ms</title></rect>'
        )
        x += width
    total = sum(value for _, value in parts)
    lines.append(f'<text x="{x + 6:.1f}" y="{y + 15}">{total:.1f}</text>')
    return y + HEIGHT + GAP


def _phases(lines: list[str], y: int, parts: list[tuple[str, float]]) -> int:
    """A bar, and its legend with the figures."""
    total = sum(value for _, value in parts)
    x, left, width = float(LEFT), 20, (LEFT + WIDTH + 40) // COLUMNS
    for number, (name, value) in enumerate(parts):
        wide = value * WIDTH / total
        text = f"{name} {value:.2f}"
        lines.append(
            f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{HEIGHT}" '
            f'fill="{PHASES[name]}"><title>{text} ms</title></rect>'
        )
        x += wide
        row, column = divmod(number, COLUMNS)
        at, below = left + column * width, y + HEIGHT + GAP + 18 * row
        lines.append(
            f'<rect x="{at}" y="{below}" width="10" height="10" fill="{PHASES[name]}"/>'
            f'<text x="{at + 14}" y="{below + 9}">{text}</text>'
        )
    lines.append(f'<text x="{x + 6:.1f}" y="{y + 15}">{total:.1f}</text>')
    return y + HEIGHT + GAP + 18 * -(-len(parts) // COLUMNS) + GAP
