"""Writing answers to standard output. On the hot path; no formatting here."""

import posix


def emit(text: str) -> None:
    """Write text to standard output at once, as UTF-8 whatever the locale is.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[posix.write(1, data) :]
