"""The manual pages: current, complete, without a fault, and true in their examples."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from ocirun.cli.main import app
from tools import gen_man

CHECKOUT = Path(__file__).parents[2]
GROUP: Any = typer.main.get_command(app)
PAGES = {page.name: page for page in gen_man.Page(GROUP).all_()}
needs_man = pytest.mark.skipif(not shutil.which("man"), reason="needs man (man-db)")
needs_mandoc = pytest.mark.skipif(not shutil.which("mandoc"), reason="needs mandoc")


def commands(group: Any, path: str = "ocirun") -> Iterator[tuple[str, Any]]:
    """Every command that somebody can call, by name of its page, without the generator."""
    yield path, group
    for name, inner in getattr(group, "commands", {}).items():
        if not inner.hidden:
            yield from commands(inner, f"{path}-{name}")


COMMANDS = dict(commands(GROUP))


def shown(file: Path) -> str:
    """A page as `man` shows it at 80 columns, without bold and italics."""
    env = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANROFFOPT": "-c"}
    command = ["man", "--no-justification", "--warnings=w", "-l", file]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert done.stderr == ""
    return re.sub(".\b", "", done.stdout)


def lint(*files: Path) -> str:
    done = subprocess.run(["mandoc", "-T", "lint", *files], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_they_are_current() -> None:
    assert gen_man.generate(gen_man.TARGET) == {
        file: file.read_text() for file in gen_man.TARGET.iterdir()
    }


def test_each_command_has_a_page() -> None:
    assert {file.stem for file in gen_man.TARGET.iterdir()} == set(COMMANDS)
    assert len(COMMANDS) > 25


@needs_man
@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option_and_argument(name: str) -> None:
    text = shown(gen_man.TARGET / f"{name}.8")
    heads = [line.strip() for line in text.splitlines() if re.match(r" {7}\S", line)]
    command = COMMANDS[name]
    for parameter in command.get_params(PAGES[name].context):
        if parameter.param_type_name == "argument":
            ways = [f"{parameter.metavar}"]
        else:
            ways = parameter.opts
        for way in ways:
            found = [head for head in heads if re.search(rf"(^|, ){re.escape(way)}(\W|$)", head)]
            assert bool(found) is not parameter.hidden, way


CONVENTION = (
    "NAME", "SYNOPSIS", "DESCRIPTION", "ARGUMENTS", "OPTIONS", "COMMANDS", "EXIT STATUS",
    "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO",
)  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_sections_are_those_of_man_pages_7(name: str) -> None:
    found = re.findall(r"^\.SH (.*)$", (gen_man.TARGET / f"{name}.8").read_text(), re.MULTILINE)
    assert found == [title for title in CONVENTION if title in found]
    assert {"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"} <= set(found)


@needs_man
def test_the_first_page_names_all_others() -> None:
    text = shown(gen_man.TARGET / "ocirun.8")
    direct = {name for name in COMMANDS if name.count("-") == 1}
    assert set(re.findall(r"^ {7}(ocirun-[\w-]+)\(8\)$", text, re.MULTILINE)) == direct
    for name in COMMANDS:
        above, _, _ = name.rpartition("-")
        if above:
            assert f"{name}(8)" in shown(gen_man.TARGET / f"{above}.8")


@needs_mandoc
def test_mandoc_finds_no_fault(tmp_path: Path) -> None:
    assert lint(*gen_man.TARGET.iterdir()) == ""
    (tmp_path / "x.8").write_text(".TH X 8\n.SH NAME\nx\n")
    assert "missing date" in lint(tmp_path / "x.8")


@needs_man
def test_apropos_finds_them() -> None:
    files = sorted(gen_man.TARGET.iterdir())
    done = subprocess.run(["lexgrog", *files], capture_output=True, text=True, check=True)
    names = re.findall(r'^.*: "(\S+) - \S.{4,90}"$', done.stdout, re.MULTILINE)
    assert names == [file.stem for file in files]


@needs_man
def test_man_finds_them() -> None:
    folder = CHECKOUT / "share" / "man"
    for name in COMMANDS:
        done = subprocess.run(["man", "-M", folder, "-w", name], capture_output=True, text=True)
        assert done.stdout.strip() == f"{folder}/man8/{name}.8"


def examples() -> list[str]:
    """The command lines of every page's examples."""
    epilogs = (command.epilog or "" for command in COMMANDS.values())
    return [line for epilog in epilogs for line in epilog.split("\n")[1:]]


@pytest.mark.parametrize("line", examples())
def test_the_examples_are_understood(line: str) -> None:
    words = shlex.split(line, comments=True)
    words = words[words.index("ocirun") + 1 :]
    context = GROUP.make_context("ocirun", words)
    while context._protected_args:
        rest = context._protected_args + context.args
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    assert context.command.callback is not GROUP.callback


def test_each_page_has_examples() -> None:
    lonely = [name for name, one in COMMANDS.items() if not one.epilog]
    assert lonely == [name for name, one in COMMANDS.items() if hasattr(one, "commands")][1:]


@pytest.mark.parametrize(
    ("text", "names", "roff"),
    [
        (".so /etc/passwd", (), "\\&.so /etc/passwd\n"),
        ("'tis", (), "\\&'tis\n"),
        ("a\\fBb", (), "a\\efBb\n"),
        ("see `x --y`", (), "see \\fBx \\-\\-y\\fR\n"),
        ("with --no-pivot.", (), "with \\fB\\-\\-no\\-pivot\\fR.\n"),
        ("pre-dump", (), "pre-dump\n"),
        ("-1 for none", (), "\\-1 for none\n"),
        ("as ps(1)", (), "as \\fBps\\fR(1)\n"),
        ("ID, VALID, ID-X, --ID", ("ID",), "\\fIID\\fR, VALID, ID-X, --ID\n"),
        ("One. Two: three", (), "One.\nTwo:\nthree\n"),
        ("1.5G e.g.", (), "1.5G e.g.\n"),
        ("`^~'`", (), "\\fB\\(ha\\(ti\\(aq\\fR\n"),
    ],
)
def test_prose(text: str, names: tuple[str, ...], roff: str) -> None:
    assert gen_man.prose(text, names) == roff


@pytest.fixture
def other(tmp_path: Path) -> tuple[Path, typer.Typer]:
    """Another application: a group and a command that the generator has never seen."""
    other = typer.Typer(help="Do. More.")
    inner = typer.Typer()

    def add(
        source: Annotated[str, typer.Argument(help=".br 'x' \\n")],
        count: Annotated[int, typer.Option(help="How many `-x`.")] = 3,
    ) -> None:
        """Add it: really."""

    def gone() -> None:
        """Nobody sees this."""

    inner.command("add")(add)
    inner.command("gone", hidden=True)(gone)
    other.add_typer(inner, name="things", help="Things.")
    return tmp_path, other


@needs_mandoc
def test_it_takes_any_command(other: tuple[Path, typer.Typer]) -> None:
    folder, application = other
    pages = gen_man.generate(folder, application)
    assert {file.stem for file in pages} == {"ocirun", "ocirun-things", "ocirun-things-add"}
    for file, text in pages.items():
        file.write_text(text)
    assert lint(*pages) == ""
    text = pages[folder / "ocirun-things-add.8"]
    assert "\\-\nadd it\n" in text
    assert "\\&.br 'x' \\en\n" in text
    assert "Default: \n" not in text
    assert "Default:\n\\fB3\\fR.\n" in text


def test_the_date_is_that_of_the_last_change(
    other: tuple[Path, typer.Typer], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, application = other

    def at(seconds: str) -> dict[Path, str]:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", seconds)
        return gen_man.generate(folder, application)

    first = at("86400")
    assert all('"1970-01-02"' in text for text in first.values())
    for file, text in first.items():
        file.write_text(text)
    assert at("172800") == first
    application.info.help = "Do. Less."
    changed = at("172800")
    assert {file.stem for file in first if first[file] != changed[file]} == {"ocirun"}
    assert '"1970-01-03"' in changed[folder / "ocirun.8"]


def test_a_stale_page_is_told(tmp_path: Path) -> None:
    for file in gen_man.TARGET.iterdir():
        shutil.copy(file, tmp_path)
    code = (
        "import sys; from pathlib import Path; from tools import gen_man;"
        f"gen_man.TARGET = Path({str(tmp_path)!r}); sys.exit(gen_man.main())"
    )

    def check() -> tuple[int, str]:
        command = [sys.executable, "-c", code, "--check"]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
        return done.returncode, done.stderr

    assert check() == (0, "")
    (tmp_path / "ocirun-gone.8").touch()
    with (tmp_path / "ocirun-run.8").open("a") as file:
        file.write("x\n")
    status, said = check()
    assert status == 1
    assert said.splitlines() == [
        "ocirun-gone.8 is out of date: run `make generate`",
        "ocirun-run.8 is out of date: run `make generate`",
    ]
