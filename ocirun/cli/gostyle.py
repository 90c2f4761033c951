"""Options as runc's users know them, on top of Typer; nothing else.

Callers of runc may write any option with one dash or two (`-no-subreaper`,
`--b DIR`), because Go's flag package does not tell them apart. `Command` and
`Group` accept that too; help and completion show the usual form, and no type
behind options that take no value.
"""

from typing import TYPE_CHECKING

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Context, Parameter
    from typer._click.parser import _OptionParser


def _accept_any_dashes(parser: "_OptionParser") -> "_OptionParser":
    for known in (parser._long_opt, parser._short_opt):
        for token, option in list(known.items()):
            name = token.lstrip("-")
            parser._long_opt.setdefault("-" + name, option)
            parser._long_opt.setdefault("--" + name, option)
    return parser


def _without_flag_types(parameters: "list[Parameter]") -> "list[Parameter]":
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


class Command(TyperCommand):
    """A command whose options can be written as in Go: `app.command(cls=Command)`."""

    def make_parser(self, ctx: "Context") -> "_OptionParser":
        """Return Typer's parser, which then knows each option with one dash and with two."""
        return _accept_any_dashes(super().make_parser(ctx))

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        """Return Typer's parameters, of which help shows no type if they take no value."""
        return _without_flag_types(super().get_params(ctx))


class Group(TyperGroup):
    """The same for the options before a command: `typer.Typer(cls=Group)`."""

    def make_parser(self, ctx: "Context") -> "_OptionParser":
        """Return Typer's parser, which then knows each option with one dash and with two."""
        return _accept_any_dashes(super().make_parser(ctx))

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        """Return Typer's parameters, of which help shows no type if they take no value."""
        return _without_flag_types(super().get_params(ctx))
