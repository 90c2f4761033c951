"""What TAB offers, as the shells' scripts are told; tests/e2e/test_completion.py has the shells."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ocirun.cli import hot
from ocirun.cli.completion import SCRIPTS, Line
from ocirun.cli.main import app
from ocirun.errors import StateError
from tests.unit.test_cli_commands import FakeRuntime

GROUP: Any = typer.main.get_command(app)


def answer(monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    monkeypatch.setenv("COMP_LINE", line)
    text: str = Line(GROUP, {}, "ocirun", "_OCIRUN_COMPLETE").complete()
    assert all(c.isprintable() or c in "\t\n" for c in text)
    return text.splitlines()


def values(monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """The words that are offered for the last one of a line."""
    lines = [one.split("\t") for one in answer(monkeypatch, line)]
    assert all(len(one) == 3 and one[0] == "plain" for one in lines)
    return [one[1] for one in lines]


WORDS = [
    ("ocirun st", ["start", "state"]),
    ("ocirun sta", ["start", "state"]),
    ("ocirun state --", ["--help"]),
    ("ocirun bogus ", []),
    ("ocirun image ", ["import", "list", "remove"]),
    ("ocirun image bogus ", []),
    ("ocirun image list --q", ["--quiet"]),
    ("ocirun --log-f", ["--log-format"]),
    ("ocirun --log-format ", ["text", "json"]),
    ("ocirun --log-format=", ["--log-format=text", "--log-format=json"]),
    ("ocirun --log-format=j", ["--log-format=json"]),
    ("ocirun -log-format=j", ["-log-format=json"]),
    ("ocirun -log-format j", ["json"]),
    ("ocirun --log-level=wa", ["--log-level=warning", "--log-level=warn"]),
    ("ocirun --root /nowhere li", ["list"]),
    ("ocirun --root=/nowhere li", ["list"]),
    ("ocirun --version li", ["list"]),
    ("ocirun list -f ", ["table", "json"]),
    ("ocirun list --f j", ["json"]),
    ("ocirun run --no-p", ["--no-pivot"]),
    ("ocirun run --keep --k", []),
    ("ocirun exec -e A=B --en", ["--env"]),
    ("ocirun update --kernel", []),
    ("ocirun kill x US", ["USR1", "USR2"]),
    ("ocirun kill x SIGUS", ["SIGUSR1", "SIGUSR2"]),
    ("ocirun kill --all x KI", ["KILL"]),
    ("ocirun checkpoint --manage-cgroups-mode s", ["soft", "strict"]),
    ("ocirun launch box ho", ["host"]),
    ("ocirun launch box host --mem", ["--memory"]),
    # What follows is the container's command line.
    ("ocirun exec x ", []),
    ("ocirun exec x sh --", []),
    ("ocirun exec x sh -e", []),
    ("ocirun exec x sh --process ", []),
    ("ocirun ps x -", []),
    ("ocirun launch box host ls --mem", []),
    # In words that the shell would have to quote, and in a line that is not finished.
    ("ocirun 'st", ["start", "state"]),
    ("ocirun --log 'a b' st", ["start", "state"]),
    ("ocirun --log a\\ b st", ["start", "state"]),
    ("ocirun create --pid-file", ["--pid-file"]),
]


@pytest.mark.parametrize(("line", "words"), WORDS)
def test_words(monkeypatch: pytest.MonkeyPatch, line: str, words: list[str]) -> None:
    assert values(monkeypatch, line) == words


PATHS = [
    ("ocirun run --bundle ", "dir"),
    ("ocirun run -b x/", "dir"),
    ("ocirun run -bundle x/", "dir"),
    ("ocirun run --bundle=x", "dir"),
    ("ocirun run --bundle 'my d", "dir"),
    ("ocirun run --pid-file ", "file"),
    ("ocirun --root ", "dir"),
    ("ocirun --log ", "file"),
    ("ocirun exec --process ", "file"),
    ("ocirun create --console-socket=", "file"),
    ("ocirun update --resources ", "file"),
    ("ocirun validate ", "dir"),
    ("ocirun explain ", "dir"),
    ("ocirun checkpoint --image-path ", "dir"),
    ("ocirun image import box ", "file"),
    ("ocirun launch --data-root ", "dir"),
]


@pytest.mark.parametrize(("line", "kind"), PATHS)
def test_paths_are_left_to_the_shell(monkeypatch: pytest.MonkeyPatch, line: str, kind: str) -> None:
    assert answer(monkeypatch, line) == [kind]


@pytest.mark.parametrize("line", ["ocirun exec --cwd ", "ocirun launch --workdir "])
def test_paths_in_the_container_are_not(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    assert answer(monkeypatch, line) == []


def test_help_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = answer(monkeypatch, "ocirun create")
    words = "Create a container from a bundle; its process waits for `start`."
    assert line == f"plain\tcreate\t{words}"
    (line,) = answer(monkeypatch, "ocirun launch --hostn")
    assert line == "plain\t--hostname\tIts host name. (default: ID)"


WITH_CONTAINER = ("start", "state", "kill", "delete", "exec", "ps", "pause", "resume",
                  "checkpoint", "update", "events")  # fmt: skip


class TestContainers:
    @pytest.fixture
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """The global options with which the containers, "web" and another, are looked for."""
        found: dict[str, Any] = {}

        def look(options: Any) -> FakeRuntime:
            found.update(root=options.root, rootless=options.rootless)
            return FakeRuntime()

        monkeypatch.setattr(hot, "open_runtime", look)
        return found

    @pytest.mark.parametrize("command", WITH_CONTAINER)
    def test_ids(self, monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any], command: str) -> None:
        assert answer(monkeypatch, f"ocirun {command} ") == [
            "plain\tweb\trunning",
            "plain\ta-rather-long-name\tunknown",
        ]
        assert seen == {"root": "", "rootless": "auto"}
        assert values(monkeypatch, f"ocirun --root=/r -rootless true {command} w") == ["web"]
        assert seen == {"root": "/r", "rootless": "true"}

    @pytest.mark.parametrize("command", ["create", "run", "restore", "launch"])
    def test_a_new_container_has_a_new_id(
        self, monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any], command: str
    ) -> None:
        assert values(monkeypatch, f"ocirun {command} ") == []

    def test_those_are_all_commands(self) -> None:
        for name, command in GROUP.commands.items():
            first = next((p for p in command.params if p.param_type_name == "argument"), None)
            offers = bool(getattr(first, "_custom_shell_complete", None))
            assert offers is (name in WITH_CONTAINER), name

    @pytest.mark.parametrize("error", [StateError("not yours"), PermissionError(13, "x")])
    def test_what_cannot_be_read_is_silent(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        error: Exception,
    ) -> None:
        def fail(options: Any) -> FakeRuntime:
            raise error

        monkeypatch.setattr(hot, "open_runtime", fail)
        assert answer(monkeypatch, "ocirun state ") == []
        assert capfd.readouterr() == ("", "")

    def test_a_hostile_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("good", "\x1b[31mred", "$(touch x)", "a b", "a\tb", "a\nb", "`x`", "\udcff"):
            (tmp_path / name).mkdir(mode=0o700)
        (tmp_path / "good" / "state.json").write_text("\x1b]0;title\x07")
        tmp_path.chmod(0o700)
        line = f"ocirun --root {tmp_path} state "
        assert answer(monkeypatch, line) == ["plain\tgood\tunknown"]


class TestImages:
    @pytest.fixture
    def data_root(self, tmp_path: Path) -> Path:
        for name in ("busybox%3a1.36", "busybox%3a1.37", "app%2fweb", ".import-x", "\x1b[31mred",
                     "a b", "$(x)"):  # fmt: skip
            (tmp_path / "images" / name).mkdir(parents=True)
            (tmp_path / "images" / name / "image.json").write_text(json.dumps({"source": "\x1b"}))
        return tmp_path

    def test_launch(self, monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
        line = f"ocirun launch --data-root {data_root} box "
        images = ["app/web", "busybox:1.36", "busybox:1.37"]
        assert values(monkeypatch, line) == ["host", *images]
        assert values(monkeypatch, line + "busybox:") == images[1:]
        monkeypatch.setenv("OCIRUN_DATA_ROOT", str(data_root))
        assert values(monkeypatch, "ocirun launch box ") == ["host", *images]

    def test_remove(self, monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
        line = f"ocirun image remove --data-root {data_root} "
        assert values(monkeypatch, line + "b") == ["busybox:1.36", "busybox:1.37"]
        assert values(monkeypatch, line + "app/web busybox:1.37 b") == ["busybox:1.36"]

    def test_a_data_root_that_is_not_there(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        assert values(monkeypatch, f"ocirun image remove --data-root {tmp_path}/x ") == []
        assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts_are_shown_and_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shell: str
) -> None:
    script = SCRIPTS[shell].read_text()
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    monkeypatch.setattr("typer._completion_shared._get_shell_name", lambda: shell)
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = CliRunner().invoke(app, ["--show-completion"], prog_name="ocirun")
    assert (shown.exit_code, shown.output.strip()) == (0, script.strip())
    installed = CliRunner().invoke(app, ["--install-completion"], prog_name="ocirun")
    assert installed.exit_code == 0
    copies = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert script.strip() in {copy.read_text().strip() for copy in copies}


def test_nothing_is_done_while_completing(tmp_path: Path) -> None:
    """A whole line that would do something is completed, never run."""
    before = os.listdir(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hot, "open_runtime", lambda options: pytest.fail("was run"))
        assert values(patch, f"ocirun spec --bundle {tmp_path} ") == []
        assert values(patch, f"ocirun --log {tmp_path}/log --debug delete --force -") != []
    assert os.listdir(tmp_path) == before
