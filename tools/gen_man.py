"""Write share/man/man8: a manual page for ocirun and for each command, in man(7).

The source is the Typer application, the one definition of the command line, with what
`tools.man_text` adds. The pages are committed, so that a wheel and `make install` have them.
Usage: python -m tools.gen_man [--check]. With --check nothing is written; the exit status
says whether the committed pages are current. The date of a page is that of its last change
($SOURCE_DATE_EPOCH, else today).
"""

import os
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from ocirun import __version__
from ocirun.cli.main import app
from tools import man_text

TARGET = Path(__file__).resolve().parent.parent / "share" / "man" / "man8"
STATUS = "Exit status: "
WIDTH = 78
TITLE = re.compile(r'^\.TH \S+ 8 "([-\d]*)"', re.MULTILINE)
MARKED = re.compile(
    r"`([^`]+)`"  # literal words
    r"|(?<![\w-])(--[a-z][a-z-]*)"  # options
    r"|\b([a-z][\w-]*)(?=\(\d\))"  # other pages
)
TYPED = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)
"""What roff would print as something else than what one types (groff_char(7))."""


def literal(text: str) -> str:
    """Return text that is typed as it stands."""
    return text.translate(TYPED)


def bold(text: str) -> str:
    """Return text to type, in bold."""
    return rf"\fB{literal(text)}\fR"


def italic(text: str) -> str:
    """Return a name that stands for something else."""
    return rf"\fI{literal(text)}\fR"


def placeholder(text: str) -> str:
    """Return the form of an argument, its names in italics: SRC:DST[:ro]."""
    return re.sub(r"[A-Za-z][\w-]*", lambda found: italic(found[0]), text)


def plain(text: str | None) -> str:
    """Return a help text without rich's markup."""
    return Text.from_markup(text or "").plain


def prose(text: str, names: Iterable[str] = ()) -> str:
    """Return sentences as lines, with options, literal words and `names` marked."""
    text = text.replace("\\", r"\e")
    text = re.sub(r"(?<![\w-])-(?=\d)", r"\-", text)
    text = MARKED.sub(lambda found: bold(next(filter(None, found.groups()))), text)
    if known := "|".join(sorted(map(re.escape, names), key=len, reverse=True)):
        text = re.sub(rf"(?<![\w\\/-])({known})(?![\w/-])", lambda found: italic(found[1]), text)
    lines = []
    for sentence in re.split(r"(?<=[.:;]) ", text):
        lines += textwrap.wrap(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join(rf"\&{line}" "\n" if line[0] in ".'" else f"{line}\n" for line in lines)


def paragraphs(texts: Iterable[str], names: Iterable[str] = ()) -> str:
    """Return paragraphs of prose."""
    return ".PP\n".join(prose(text, names) for text in texts)


def item(head: str, text: str, names: Iterable[str] = ()) -> str:
    """Return an entry of a list, with its text indented below it."""
    return f".TP\n{head}\n{prose(text, names)}"


def section(title: str, body: str) -> str:
    """Return a section, or nothing if it is empty."""
    return f".SH {title}\n{body}" if body else ""


class Page:
    """The page of one command.

    Attributes:
        name: of the page. path: the words of the command behind `ocirun`.
        context: what Typer needs to describe it. above: pages of the groups it is in.
        inner: pages of the commands below it. parameters: options and arguments to show.
        names: what stands for arguments and for values of options (ID, FILE).
    """

    context: typer.Context

    def __init__(self, command: Any, above: "tuple[Page, ...]" = ()) -> None:
        parent = above[-1].context if above else None
        name = command.name if above else "ocirun"
        self.context = typer.Context(command, parent, name, **command.context_settings)
        self.name = self.context.command_path.replace(" ", "-")
        self.path = self.context.command_path.partition(" ")[2]
        self.above = above
        self.parameters = [p for p in command.get_params(self.context) if not p.hidden]
        metavars = " ".join(one.metavar or "" for one in self.parameters)
        self.names = set(re.findall(r"[A-Z][A-Z-]*", metavars))
        commands = getattr(command, "commands", {}).values()
        self.inner = [Page(one, (*above, self)) for one in commands if not one.hidden]
        self.texts = plain(command.help).split("\n\n")

    def all_(self) -> "Iterator[Page]":
        """Yield this page and those below it."""
        yield self
        for one in self.inner:
            yield from one.all_()

    def render(self, date: str) -> str:
        """Return the text of the page."""
        brief = re.split("[.:;](?: |$)", self.texts[0].replace("`", ""))[0]
        title = f'{literal(self.name.upper())} 8 "{date}" "ocirun {__version__}" "ocirun"'
        texts = [text for text in self.texts if not text.startswith(STATUS)]
        texts += () if self.path else man_text.DESCRIPTION
        examples = (self.context.command.epilog or "").split("\n")[1:]
        sections = {
            "NAME": f"{literal(self.name)} \\-\n" + prose(brief[:1].lower() + brief[1:]),
            "SYNOPSIS": self.synopsis(),
            "DESCRIPTION": paragraphs(texts, self.names),
            "ARGUMENTS": self.described("argument"),
            "OPTIONS": self.described("option"),
            "COMMANDS": "".join(item(f"{bold(x.name)}(8)", x.texts[0]) for x in self.inner),
            "EXIT STATUS": self.exit_status(),
            "ENVIRONMENT": self.entries(man_text.ENVIRONMENT, bold),
            "FILES": self.entries(man_text.FILES, italic),
            "EXAMPLES": "\n".join((".nf", *map(literal, examples), ".fi\n")) if examples else "",
            "SEE ALSO": self.see_also(),
        }
        return "".join(
            (
                '.\\" Generated by tools/gen_man.py: do not edit.\n',
                f".TH {title}\n.nh\n.ad l\n",
                *(section(title, body) for title, body in sections.items()),
            )
        )

    def synopsis(self) -> str:
        """Return the line of the command."""
        words = [bold("ocirun")]
        words += [rf"[{italic('global options')}]", bold(self.path)] if self.path else []
        for piece in self.context.command.collect_usage_pieces(self.context):
            words.append(placeholder(piece.replace("OPTIONS", "options").replace("ARGS", "ARG")))
        return " ".join(words) + "\n"

    def described(self, kind: str) -> str:
        """Return the entries of all options, or of all arguments."""
        chosen = (one for one in self.parameters if one.param_type_name == kind)
        return "".join(self.parameter(one) for one in chosen)

    def parameter(self, one: Any) -> str:
        """Return the entry of an option or an argument: how to write it, help, default."""
        argument = one.param_type_name == "argument"
        choices = tuple(map(str, (one.type_descriptor and one.type_descriptor.choices) or ()))
        tokens = sorted(one.opts, key=len, reverse=True)  # those of --help come from a set
        heads = [] if argument else [", ".join(map(bold, tokens))]
        if one.metavar:
            heads.append(placeholder(one.metavar))
        elif argument or choices:
            heads.append("|".join(map(bold, choices)) or italic(one.name.upper()))
        text = [re.sub(r"\(default: (.*)\)$", r"Default: \1.", plain(one.help))]
        if choices and one.metavar:
            text.append("One of " + ", ".join(f"`{choice}`" for choice in choices) + ".")
        if not argument and one.multiple:
            text.append("May be given more than once.")
        if one.show_default and one.default == ".":
            text.append("Default: the current folder.")
        elif one.show_default and one.default not in (None, False, "", []):
            text.append(f"Default: `{one.default}`.")
        return item(" ".join(heads), " ".join(text), self.names)

    def exit_status(self) -> str:
        """Return what the exit status means: what the help says of it, or the usual."""
        if not self.path:
            return "".join(item(bold(status), text) for status, text in man_text.EXIT_STATUS)
        told = [text.removeprefix(STATUS) for text in self.texts if text.startswith(STATUS)]
        return paragraphs(text[:1].upper() + text[1:] for text in told or man_text.DEFAULT_STATUS)

    def entries(self, entries: Iterable[man_text.Entry], mark: Any) -> str:
        """Return the files or variables that concern the command."""
        has = {one.name for one in self.parameters}
        chosen = (one for one in entries if not self.path or one.parameters & has)
        return "".join(item(mark(one.name), one.text) for one in chosen)

    def see_also(self) -> str:
        """Return the pages to read next: those above, those of man_text, those below."""
        names = [one.name + "(8)" for one in self.above]
        names += man_text.SEE_ALSO.get(self.path, ())
        names += [one.name + "(8)" for one in self.inner if self.path]
        return ",\n".join(bold(name[:-3]) + name[-3:] for name in names) + "\n"


def generate(folder: Path, application: typer.Typer = app) -> dict[Path, str]:
    """Return the text of every page; one that has not changed in `folder` keeps its date."""
    now = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    today = time.strftime("%Y-%m-%d", time.gmtime(now))
    pages = {}
    for page in Page(typer.main.get_command(application)).all_():
        file = folder / f"{page.name}.8"
        before = file.read_text() if file.exists() else ""
        dated = TITLE.search(before)
        text = page.render(dated[1] if dated else today)
        pages[file] = text if text == before else page.render(today)
    return pages


def main() -> int:
    """Write the pages, or check them."""
    pages = generate(TARGET)
    stale = [file for file in TARGET.glob("*.8") if file not in pages]
    if sys.argv[1:] == ["--check"]:
        old = [f for f, text in pages.items() if not f.exists() or f.read_text() != text]
        for file in stale + old:
            print(f"{file.name} is out of date: run `make generate`", file=sys.stderr)
        return bool(stale + old)
    TARGET.mkdir(parents=True, exist_ok=True)
    for file in stale:
        file.unlink()
    for file, text in pages.items():
        file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
