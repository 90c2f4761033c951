"""What TAB offers in bash, zsh and fish. Cold.

A shell's script, beside this file, hands the command line up to the cursor over:

    COMP_LINE='ocirun state w' _OCIRUN_COMPLETE=complete_line ocirun

and gets lines of KIND, VALUE and HELP with tabs between them; KIND is `plain`, or `dir` or `file`
(without a value) if the shell is to complete a path. Typer finds out what the last word is; its
own scripts, which these replace, cannot complete --OPTION=VALUE, nor directories alone, and
start ocirun twice in fish. Words that a shell would have to quote are never offered.
"""

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer import _completion_shared
from typer._click.shell_completion import (
    CompletionItem,
    ShellComplete,
    _resolve_context,
    _resolve_incomplete,
    add_completion_class,
    split_arg_string,
)

from ocirun.cli.gostyle import Group, InnerCommand
from ocirun.cli.options import Options
from ocirun.errors import OcirunError

if TYPE_CHECKING:
    from typer._click.core import Context

SCRIPTS = {
    shell: Path(__file__).with_name(name)
    for shell, name in (("bash", "ocirun.bash"), ("zsh", "_ocirun"), ("fish", "ocirun.fish"))
}
_SAFE = re.compile(r"[A-Za-z0-9_+.,:/@=-]+")
_KINDS = {"DIR": "dir", "BUNDLE": "dir", "FILE": "file", "FILE-OR-DIR": "file", "SOCKET": "file"}
"""Name that stands for an option's or argument's value -> how a shell completes it."""
_CURSOR = "\ue000"


def containers(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The containers below --root with their status; none if the caller may not see them."""
    from ocirun.cli.hot import open_existing

    given = ctx.find_root().params
    known = {name: given[name] for name in Options.__slots__ if given.get(name) is not None}
    try:
        infos = open_existing(Options(**known)).list()
    except (OcirunError, OSError):
        return []
    return [(info.id, info.status) for info in infos]


def images(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The images below --data-root, those that the line has left out, with their source."""
    from ocirun.image.store import Store

    try:
        found = Store(ctx.params.get("data_root") or "").list_images()
    except (OcirunError, OSError):
        return []
    taken = ctx.params.get("names") or ()
    return [(image.name, image.source) for image in found if image.name not in taken]


def images_and_host(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """What `launch` can run: the images, and this machine itself."""
    return [("host", "this machine's own root"), *images(ctx, incomplete)]


def signals(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The names of the signals, without SIG unless the word begins so."""
    skip = 0 if incomplete.startswith("SIG") else len("SIG")
    return [(one.name[skip:], signal.strsignal(one) or "") for one in signal.Signals]


class Line(ShellComplete):
    """The answer to the scripts."""

    name = "line"
    source_template = ""

    def source_vars(self) -> dict[str, Any]:
        """Nothing: the scripts are files."""
        return {}

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one at the cursor, and that one as far as it goes."""
        words = split_arg_string(os.environ.get("COMP_LINE", "") + _CURSOR)
        return words[1:-1], words[-1].removesuffix(_CURSOR)

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return what can stand for the last word: whole words, --option=value too."""
        ctx = _resolve_context(self.cli, self.ctx_args, self.prog_name, args)
        if isinstance(ctx.command, InnerCommand) and ctx.command.is_complete(ctx):
            return []
        if isinstance(ctx.command, Group) and ctx._protected_args:  # there is no such command
            return []
        option, equals, value = incomplete.partition("=")
        if equals and option.startswith("-"):
            args = [*args, option]
        else:
            value = incomplete
        what, value = _resolve_incomplete(ctx, _usual(ctx, args), value)
        if kind := _KINDS.get(getattr(what, "metavar", None) or ""):
            return [CompletionItem("", type=kind)]
        found = what.shell_complete(ctx, value)
        for item in found:
            item.value = incomplete.removesuffix(value) + item.value
        return found

    def format_completion(self, item: CompletionItem) -> str:
        """Return an item as a line, or nothing if it is not safe."""
        if item.type != "plain":
            return item.type
        if not _SAFE.fullmatch(item.value):
            return ""
        words = re.sub(r"\[/?(dim)?\]", "", item.help or "").split("\n\n")[0]
        return "\t".join(("plain", item.value, "".join(c for c in words if c.isprintable())))

    def complete(self) -> str:
        """Return the lines."""
        return "\n".join(line for line in super().complete().split("\n") if line)


def _usual(ctx: "Context", args: list[str]) -> list[str]:
    """Write an option at the end, which may have one dash or two, as Typer looks for it."""
    for parameter in ctx.command.get_params(ctx):
        for option in parameter.opts:
            if args and args[-1] in (option, f"-{option}", option[1:]):
                return [*args[:-1], option]
    return args


def register() -> None:
    """Have Typer answer the scripts, and show and install them by its own options."""
    add_completion_class(Line, Line.name)
    for shell, script in SCRIPTS.items():
        text = script.read_text(encoding="utf-8")
        _completion_shared._completion_scripts[shell] = text.replace("%", "%%")
