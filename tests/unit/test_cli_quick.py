"""The quick path and Typer read every command line alike."""

from typing import Any

import pytest
import typer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ocirun.cli import hot, quick
from ocirun.cli.main import app
from ocirun.cli.options import Options
from ocirun.cli.table import COMMANDS, GLOBALS
from tools import gen_table

GROUP: Any = typer.main.get_command(app)


def facts(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in Options.__slots__}


def read_by_typer(argv: list[str]) -> tuple[dict[str, Any], str, dict[str, Any]] | None:
    """What the Typer application would call: (globals, command, values); None = a mistake."""
    calls = []

    def recorder(name: str) -> Any:
        def record(options: Options, **values: Any) -> int:
            calls.append((facts(options), name, values))
            return 0

        return record

    # Typer's commands look their function up in `hot` when they are called.
    functions = {name: function.__name__ for name, function in hot.COMMANDS.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, function in functions.items():
            patch.setattr(hot, function, recorder(name))
        try:
            GROUP.main(argv, prog_name="ocirun", standalone_mode=False)
        except typer.TyperException:
            return None
    return calls[0] if calls else None


def read_by_quick(argv: list[str]) -> tuple[dict[str, Any], str, dict[str, Any]] | None:
    options, command, values = quick.parse(argv)
    return (facts(options), command, values) if command else None


# argv comes from the system as UTF-8 with surrogates for stray bytes. Typer refuses
# those, the quick path passes them on (a path may hold any byte): not compared here.
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


numbers = st.integers(0, 10**11).map(str) | st.sampled_from(
    ("-1", "-0", "007", "+3", "1_0", " 4", "4 ", "2.0", "1e2", "0x1", "\u0663", "\u00b2", "")
)


def option_tokens(interface: Any) -> st.SearchStrategy[list[str]]:
    """Options of an interface, in all their spellings, mostly with a value that fits."""
    options = interface[0]

    @st.composite
    def one(draw: Any) -> list[str]:
        name = draw(st.sampled_from(sorted(options)))
        kind = options[name][1]
        dashes = draw(st.sampled_from(("-", "--")))
        if kind == "flag":
            return [dashes + name]
        fitting = {
            "text": words,
            "number": numbers,
        }.get(kind, st.sampled_from(kind))
        value = draw(fitting if draw(st.integers(0, 9)) else words)
        joined = draw(st.booleans())
        return [f"{dashes}{name}={value}"] if joined else [dashes + name, value]

    return one() if options else st.just([])


@st.composite
def command_lines(draw: Any) -> list[str]:
    command = draw(st.sampled_from(sorted(COMMANDS)))
    stray = st.lists(words | st.sampled_from(("--", "-", "-df", "-aq", "-bX", "---b")), max_size=1)
    argv: list[str] = []
    for part in draw(st.lists(option_tokens(GLOBALS), max_size=3)):
        argv += part
    argv += draw(stray) if not draw(st.integers(0, 9)) else []
    argv.append(command)
    own = option_tokens(COMMANDS[command])
    for part in draw(st.permutations([draw(own), draw(own), ["id"] if command != "list" else []])):
        argv += part
    return argv + (draw(stray) if not draw(st.integers(0, 4)) else [])


@settings(max_examples=400, deadline=None)
@given(command_lines())
@example(["--", "state", "--", "-x"])
@example(["--", "--", "state", "x"])
@example(["kill", "", ""])
@example(["create", "-b=", "x"])
@example(["-log", "x", "-systemd-cgroup", "run", "-no-subreaper", "--b", "/x", "c", "-d"])
def test_both_read_alike(argv: list[str]) -> None:
    found = read_by_quick(argv)
    if found is not None:
        assert found == read_by_typer(argv)


@pytest.mark.parametrize(
    ("command", "name", "kind"),
    [(c, name, kind) for c in COMMANDS for name, (_, kind) in COMMANDS[c][0].items()],
)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_option_is_read_alike(command: str, name: str, kind: Any, data: Any) -> None:
    value = data.draw(numbers if kind == "number" else words if kind == "text" else st.just(""))
    if not isinstance(kind, str):
        value = data.draw(st.sampled_from((*kind, "other", "", kind[0].upper())))
    dashes = data.draw(st.sampled_from(("-", "--")))
    given_as = data.draw(
        st.sampled_from(
            ([f"{dashes}{name}"], [f"{dashes}{name}={value}"], [f"{dashes}{name}", value])
        )
    )
    argv = [command, *given_as, *([] if command == "list" else ["id"])]
    found = read_by_quick(argv)
    if found is not None:
        assert found == read_by_typer(argv)


@settings(max_examples=200, deadline=None)
@given(st.lists(words | st.sampled_from(("-", "--", "--root", "state", "-v", "-h")), max_size=5))
def test_noise_is_read_alike_or_declined(argv: list[str]) -> None:
    found = read_by_quick(argv)
    if found is not None:
        assert found == read_by_typer(argv)


# What engines send must not fall back to Typer: that would cost them 200 ms.
ENGINES = [
    "--root /r --log /l --log-format json create --bundle /b --pid-file /p --no-pivot c",
    "--log-format=json --log=/l --systemd-cgroup create --console-socket /s --no-new-keyring -b /b c",
    "--cgroup-manager disabled --rootless true --debug --log-level debug start c",
    "--root /r state c",
    "kill --all c 9",
    "kill c SIGKILL",
    "kill -a c 15",
    "delete --force c",
    "run -d --keep -no-subreaper --preserve-fds 3 --pidfd-socket /s c",
    "list -q --format json",
]


@pytest.mark.parametrize("line", ENGINES)
def test_engines_get_the_quick_path(line: str) -> None:
    found = read_by_quick(line.split())
    assert found is not None
    assert found == read_by_typer(line.split())


DECLINED = [
    "",
    "--help",
    "-v",
    "state",
    "state a b",
    "state -h",
    "--bogus state a",
    "create --bogus a",
    "create --bundle",
    "create --no-pivot=true a",
    "create --preserve-fds x a",
    "list --format yaml",
    "validate",
    "--rootless maybe state a",
]


@pytest.mark.parametrize("line", DECLINED)
def test_what_it_does_not_know_is_left_to_typer(line: str) -> None:
    assert read_by_quick(line.split()) is None


def test_a_mistake_keeps_the_options_before_it() -> None:
    options, command, _ = quick.parse(["--log", "/l", "--log-format", "json", "--bogus", "state"])
    assert (command, options.log, options.log_format) == ("", "/l", "json")


def test_stray_bytes_in_a_path_pass_through() -> None:
    _, command, values = quick.parse(["create", "-b", "/\udcff", "c"])
    assert (command, values["bundle"]) == ("create", "/\udcff")


def test_the_table_is_current() -> None:
    assert gen_table.TARGET.read_text() == gen_table.generate()
