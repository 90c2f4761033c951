"""Where the command starts and ends. On the hot path.

From the command line to an exit status: reading it (`quick`, else Typer), doing
it, and reporting whatever failed, once, here. Nothing leaves this module but an
exit status.
"""

import posix
import sys

from ocirun.cli import log
from ocirun.cli.output import emit
from ocirun.cli.quick import parse
from ocirun.errors import OcirunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
BROKEN_PIPE = 141  # 128 + SIGPIPE


def main() -> "NoReturn":
    """Run the command line of this process and end it.

    Ends with _exit: the interpreter's own way out costs a millisecond and has
    nothing to clean up here.
    """
    _open_missing_descriptors()
    posix._exit(_flushed(guarded(sys.argv[1:])))


def guarded(argv: "list[str]") -> int:
    """Run a command line, report what fails, and return the exit status (0-255)."""
    try:
        return _dispatch(argv)
    except OcirunError as error:
        from ocirun.cli import render

        log.error(render.one_line(error), render.shown(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except SystemExit as end:  # Typer's completion ends so
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as bug:
        from ocirun.cli import render

        line = render.internal_error(bug)
        log.error(line, f"ocirun: {line}\n")
        return 1


def _dispatch(argv: "list[str]") -> int:
    options, command, values = parse(argv)
    log.setup(options)
    if command:
        from ocirun.cli.hot import COMMANDS

        return COMMANDS[command](options, **values)
    if argv in (["--version"], ["-v"]):
        from ocirun.version import version_text

        emit(version_text())
        return 0
    return _ask_typer(argv)


def _ask_typer(argv: "list[str]") -> int:
    """Run a command line through the Typer application.

    Raises:
        UsageError: Typer found a mistake in it.
    """
    import typer

    from ocirun.cli.main import app

    command = typer.main.get_command(app)
    try:
        status = command.main(argv, prog_name="ocirun", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.TyperException as error:
        message = error.format_message()
        if not message:  # no arguments: Typer has printed the help
            return 0
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "ocirun"
        raise UsageError(message.rstrip("."), hint=f"see {path} --help") from None
    return status if isinstance(status, int) else 0


def _open_missing_descriptors() -> None:
    """Open /dev/null for whichever of descriptors 0-2 the caller left closed.

    Else the next file opened (a mount, the state) would become standard output.
    """
    while (fd := posix.open("/dev/null", posix.O_RDWR)) <= 2:
        posix.set_inheritable(fd, True)
    posix.close(fd)


def _flushed(status: int) -> int:
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        return status or BROKEN_PIPE
    return status
