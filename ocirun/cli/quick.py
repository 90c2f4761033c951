"""Reading the command line of a hot command by the generated table. On the hot path.

`parse` either understands all of it, exactly as the Typer application would, or
declines; it never reports a mistake. Help, errors, completion and cold commands
are Typer's. tests/unit/test_cli_quick.py proves that both read alike.
"""

from ocirun.cli.options import Options
from ocirun.cli.table import COMMANDS, GLOBALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    Kind = str | tuple[str, ...]
    Value = str | int | bool | list[str] | None
    Interface = tuple[dict[str, tuple[str, Kind]], tuple[tuple[str, str], ...], dict[str, Value]]


def parse(argv: "list[str]") -> "tuple[Options, str, dict[str, Value]]":
    """Read a command line.

    Returns:
        (global options, name of the command, its values). The name is "" if
        Typer must read this line; the options are then those that were
        understood, so that an error of Typer's reaches the log.
    """
    globals_ = dict(GLOBALS[2])
    words: list[str] = []
    at = _read(GLOBALS, argv, 0, globals_, words)
    options = Options(**globals_)  # type: ignore[arg-type]
    if not at or not words or words[0] not in COMMANDS:
        return options, "", {}
    command = words.pop()
    interface = COMMANDS[command]
    values = dict(interface[2])
    if not _read(interface, argv, at, values, words) or not _assign(interface, words, values):
        return options, "", {}
    return options, command, values


def _assign(interface: "Interface", words: "list[str]", values: "dict[str, Value]") -> bool:
    """Give the words to the positionals; False if they are too few or too many."""
    positionals = interface[1]
    for position, (key, kind) in enumerate(positionals):
        if position >= len(words):
            if kind == "required":
                return False
        elif kind == "rest":
            values[key] = words[position:]
            return True
        else:
            values[key] = words[position]
    return len(words) <= len(positionals)


def _read(
    interface: "Interface",
    argv: "list[str]",
    at: int,
    values: "dict[str, Value]",
    words: "list[str]",
) -> int:
    """Read argv[at:] into `values` (options) and `words` (the rest).

    The global options end at the first word, which is the command.

    Returns:
        The index at which it stopped, or 0 if it does not understand.
    """
    options, positionals, _ = interface
    up_to_first_word = interface is GLOBALS
    own = len(positionals) - 1 if positionals and positionals[-1][1] == "rest" else -1
    while at < len(argv):
        token = argv[at]
        at += 1
        if token == "--":
            end = at + 1 if up_to_first_word else len(argv)
            words += argv[at:end]
            return end
        if token[:1] != "-" or token == "-":
            words.append(token)
            if up_to_first_word:
                break
            if len(words) == own:  # what follows is not ours to read
                words += argv[at + (argv[at : at + 1] == ["--"]) :]
                return len(argv)
            continue
        name, equals, value = token[2 if token[1] == "-" else 1 :].partition("=")
        if name not in options:
            return 0
        key, kind = options[name]
        if kind == "flag":
            if equals:
                return 0
            values[key] = True
            continue
        if not equals:
            if at == len(argv):
                return 0
            value = argv[at]
            at += 1
        if kind == "number":
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                return 0
            values[key] = int(value)
        elif kind == "texts":
            values[key] = [*(values[key] or ()), value]  # type: ignore[misc]
        elif kind == "text" or value in kind:
            values[key] = value
        else:
            return 0
    return at
