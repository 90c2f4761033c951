"""The log: errors and debug messages, where --log says and on standard error.

On the hot path: a success writes nothing and opens nothing. Nothing here decides
what an error's message is; that is `ocirun.cli.render`.
"""

import posix
import time

from ocirun.cli.options import Options

_STDERR_LIMIT = 8000
"""Bytes: conmon reads standard error once, at most 8191 bytes of it."""

_options = Options()


def setup(options: Options) -> None:
    """Use the global options from now on."""
    global _options
    if options.criu and not _options.criu:  # runc's words, and to standard error alone, too
        _write_all(2, "WARNING: --criu ignored (criu binary from $PATH is used); do not use\n")
    _options = options


def options() -> Options:
    """Return the global options in use (the defaults before any were read)."""
    return _options


def debug(message: str) -> None:
    """Log a message if --debug was given: where --log says, else to standard error."""
    if _options.debug and not (_options.log and _append("debug", message)):
        _write_all(2, _line("debug", message))


def warning(message: str) -> None:
    """Log a warning, and show it on standard error."""
    from ocirun.cli.render import clean

    shown = f"ocirun: warning: {clean(message)}\n"
    if _options.log:
        _append("warning", message)
    _write_all(2, _short_line("warning", message) if _options.log_format == "json" else shown)


def error(message: str, shown: str) -> None:
    """Log an error, and show it on standard error.

    Args:
        message: everything in one line, for the log file and for JSON.
        shown: the same for a person: lines of text, each ending in a newline.
    """
    if _options.log_format == "json":
        shown = _short_line("error", message)
    if _options.log and not _append("error", message):
        shown += f"ocirun: cannot write to the log {_options.log}\n"
    _write_all(2, shown)


def _line(level: str, message: str) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    from _json import encode_basestring_ascii as quote

    if _options.log_format == "json":
        return f'{{"level":"{level}","msg":{quote(message)},"time":"{now}"}}\n'
    return f'time="{now}" level={level} msg={quote(message)}\n'


def _short_line(level: str, message: str) -> str:
    """A line that standard error has room for, and whose JSON is whole."""
    line = _line(level, message)
    while len(line) > _STDERR_LIMIT:
        message = message[: len(message) * (_STDERR_LIMIT - 200) // len(line)] + " ..."
        line = _line(level, message)
    return line


def _append(level: str, message: str) -> bool:
    """Append to the log; False if it takes nothing."""
    driver, colon, path = _options.log.partition(":")
    if colon and driver in ("journald", "syslog"):
        from ocirun.cli.daemons import send

        return send(driver, path or "ocirun", level, message)
    if driver != "file":
        path = _options.log
    flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC
    try:
        fd = posix.open(path, flags, 0o644)
    except (OSError, ValueError):
        return False
    try:
        posix.write(fd, _line(level, message).encode("utf-8", "backslashreplace"))
    except OSError:
        return False
    finally:
        posix.close(fd)
    return True


def _write_all(fd: int, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > _STDERR_LIMIT:
        data = data[: _STDERR_LIMIT - 5] + b" ...\n"
    try:
        while data:
            data = data[posix.write(fd, data) :]
    except OSError:
        pass  # nobody reads; there is no one left to tell
