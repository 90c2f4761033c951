"""Options as runc's users know them, on top of Typer; nothing else.

Callers of runc may write any option with one dash or two (`-no-subreaper`,
`--b DIR`), because Go's flag package does not tell them apart, and give a flag a
value (`--leave-running=false`). `Command` and `Group` accept that too; help and
completion show the usual form, and no type behind options that take no value.
Usage names arguments as manual pages do.
"""

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Context, Parameter
    from typer._click.parser import _OptionParser, _ParsingState

# strconv.ParseBool's, and crun's "no".
_TRUE = ("1", "t", "T", "TRUE", "true", "True", "yes")
_FALSE = ("0", "f", "F", "FALSE", "false", "False", "no")


def _as_in_go(parser: "_OptionParser") -> "_OptionParser":
    for known in (parser._long_opt, parser._short_opt):
        for token, option in list(known.items()):
            name = token.lstrip("-")
            parser._long_opt.setdefault("-" + name, option)
            parser._long_opt.setdefault("--" + name, option)
    if "--help" in parser._long_opt:
        parser._long_opt["-?"] = parser._long_opt["--help"]  # crun's
    match = parser._match_long_opt

    def match_with_value(opt: str, explicit_value: str | None, state: "_ParsingState") -> None:
        option, value = parser._long_opt.get(opt), explicit_value
        if option is not None and not option.takes_value:
            if value in _FALSE:
                state.opts.pop(str(option.dest), None)
                return
            if value in _TRUE:
                value = None
        match(opt, value, state)

    parser._match_long_opt = match_with_value  # type: ignore[method-assign]
    return parser


def _without_flag_types(parameters: "list[Parameter]") -> "list[Parameter]":
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def is_argument(parameter: "Parameter") -> bool:
    """Tell an argument from an option."""
    return parameter.param_type_name == "argument"


class Command(TyperCommand):
    """A command whose options can be written as in Go: `app.command(cls=Command)`."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        """As Typer's; each paragraph of the help is one line, for the terminal to break."""
        super().__init__(name, **settings)
        paragraphs = (self.help or "").split("\n\n")
        self.help = "\n\n".join(" ".join(text.split()) for text in paragraphs)

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the first paragraph of the help, for completion; it is short as it is."""
        return str(self.help).split("\n\n")[0]

    def collect_usage_pieces(self, ctx: "Context") -> list[str]:
        """Return what stands behind the command's name: ID, [SIGNAL], NAME..."""
        pieces = [self.options_metavar] if self.options_metavar else []
        for parameter in self.get_params(ctx):
            if is_argument(parameter):
                name = parameter.metavar or str(parameter.name).upper()
                bare = parameter.required or name.startswith("[")
                pieces.append(name if bare else f"[{name}]")
        return pieces

    def make_parser(self, ctx: "Context") -> "_OptionParser":
        """Return Typer's parser, which then reads options as Go's flag package does."""
        return _as_in_go(super().make_parser(ctx))

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        """Return Typer's parameters, of which help shows no type if they take no value."""
        return _without_flag_types(super().get_params(ctx))


class InnerCommand(Command):
    """A command line that ends with a command of the container's, where its options end.

    Options may stand before the first `places` words; from there on every word is what it is,
    dashes or not.
    """

    places = 1

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Find COMMAND, and put `--` in front of the words that are no options."""
        own = [p for p in self.get_params(ctx) if is_argument(p) and p.nargs == 1]
        options: list[str] = []
        words: list[str] = []
        rest = list(args)
        ctx.allow_interspersed_args = False
        for _ in range(self.places):
            parser = self.make_parser(ctx)
            parser._args.clear()  # options alone: what it leaves begins with a word
            _, left, _ = parser.parse_args(list(rest))
            read = rest[: len(rest) - len(left)]
            rest = left
            ended = read[-1:] == ["--"]
            options += read[:-1] if ended else read
            if ended:
                break
            words += rest[:1]
            del rest[:1]
        if rest[:1] == ["--"] and len(words) == len(own):
            del rest[0]
        return super().parse_args(ctx, [*options, "--", *words, *rest])

    def is_complete(self, ctx: "Context") -> bool:
        """Tell whether the next word is the container's command's, and no option of ours."""
        values = [ctx.params.get(one.name) for one in self.get_params(ctx) if is_argument(one)]
        words = sum(len(one) if isinstance(one, list | tuple) else bool(one) for one in values)
        return words >= self.places


class Group(TyperGroup):
    """The same for the options before a command: `typer.Typer(cls=Group)`."""

    def make_parser(self, ctx: "Context") -> "_OptionParser":
        """Return Typer's parser, which then reads options as Go's flag package does."""
        return _as_in_go(super().make_parser(ctx))

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        """Return Typer's parameters, of which help shows no type if they take no value."""
        return _without_flag_types(super().get_params(ctx))
