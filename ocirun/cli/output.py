"""Writing answers to standard output. On the hot path; colours are imported when used."""

import posix


def emit(text: str) -> None:
    """Write text to standard output at once, as UTF-8 whatever the locale is.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[posix.write(1, data) :]


def wants_colour(fd: int) -> bool:
    """Tell whether a descriptor is a terminal whose user has not refused colours."""
    environ = posix.environ
    return posix.isatty(fd) and not environ.get(b"NO_COLOR") and environ.get(b"TERM") != b"dumb"


def styled(lines: "list[list[tuple[str, str]]]", fd: int) -> str:
    """Join lines of (text, rich style) pieces; with the styles where `fd` wants colours."""
    if not wants_colour(fd):
        return "".join("".join(text for text, _ in line) + "\n" for line in lines)
    import io

    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(Text.assemble(*line))
    return out.getvalue()


def emit_styled(lines: "list[list[tuple[str, str]]]") -> None:
    """Write lines of (text, rich style) pieces to standard output."""
    emit(styled(lines, 1))
