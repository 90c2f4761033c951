"""TAB in real shells. What is offered where: tests/unit/test_cli_completion.py."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.runtime import CHECKOUT, Runtime
from lib.shells import PtyShell, fish

pytestmark = pytest.mark.only("ocirun")
SCRIPTS = {
    "ocirun.bash": "bash-completion/completions/ocirun",
    "_ocirun": "zsh/site-functions/_ocirun",
    "ocirun.fish": "fish/vendor_completions.d/ocirun.fish",
}


@pytest.fixture
def place(folder: Path) -> Path:
    """A folder to complete in: bundle/, file, and images; share/ as `make install` writes it."""
    for script, name in SCRIPTS.items():
        (folder / "share" / name).parent.mkdir(parents=True)
        shutil.copy(CHECKOUT / "ocirun/cli/completion" / script, folder / "share" / name)
    (folder / "cwd" / "bundle").mkdir(parents=True)
    (folder / "cwd" / "file").touch()
    for image in ("box%3a1.36", "box%3a1.37", "web"):
        (folder / "data/images" / image).mkdir(parents=True)
    return folder


def search_path(runtime: Runtime) -> str:
    return f"{runtime.path.parent}:/usr/bin:/bin"


def opened(name: str, place: Path, runtime: Runtime) -> PtyShell:
    if not shutil.which(name):
        pytest.skip(f"needs {name}")
    return PtyShell(name, place / "share", search_path(runtime), place / "cwd")


# (line, the line after TAB if that is one choice, else all choices as fish has them)
TABLE: list[tuple[str, str | set[str]]] = [
    ("ocirun che", "ocirun checkpoint "),
    ("ocirun st", {"start", "state"}),
    ("ocirun image ", {"import", "list", "remove"}),
    ("ocirun bogus ", set()),
    ("ocirun --log-format j", "ocirun --log-format json "),
    ("ocirun --log-format=j", "ocirun --log-format=json "),
    ("ocirun --log-format=", {"--log-format=json", "--log-format=text"}),
    ("ocirun run --no-", {"--no-pivot", "--no-new-keyring", "--no-subreaper"}),
    ("ocirun kill x SIGUS", {"SIGUSR1", "SIGUSR2"}),
    ("ocirun exec x sh --", set()),
    ("ocirun run --bundle ", "ocirun run --bundle bundle/"),
    ("ocirun run --bundle=b", "ocirun run --bundle=bundle/"),
    ("ocirun run --pid-file ", {"bundle/", "file"}),
    ("ocirun run --pid-file=f", "ocirun run --pid-file=file "),
    ("ocirun launch --data-root ../data c w", "ocirun launch --data-root ../data c web "),
    ("ocirun launch --data-root ../data c box:", {"box:1.36", "box:1.37"}),
    ("ocirun --root /nonexistent state ", set()),
]


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_bash_and_zsh(name: str, place: Path, runtime: Runtime) -> None:
    with opened(name, place, runtime) as shell:
        for line, wanted in TABLE:
            listed, after = shell.tab(line)
            if isinstance(wanted, str):
                assert after == wanted, line
            elif not wanted:
                assert (listed, after) == (set(), line)
            else:  # readline's words begin behind = and :
                short = {word.rpartition("=")[2].rpartition(":")[2] for word in wanted}
                assert listed in (wanted, short), (line, listed)


def test_fish(place: Path, runtime: Runtime) -> None:
    if not shutil.which("fish"):
        pytest.skip("needs fish")
    for line, wanted in TABLE:
        found = fish(line, place / "share", search_path(runtime), place / "cwd")
        assert found == ({wanted.split()[-1]} if isinstance(wanted, str) else wanted), line


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_containers(
    name: str, place: Path, runtime: Runtime, make_bundle: Callable[..., Bundle]
) -> None:
    bundle = make_bundle().sleeper()
    runtime.create(bundle).ok()
    line = f"ocirun --root {runtime.root} "
    hostile = runtime.root / "\x1b[31m$(touch x)"
    hostile.mkdir()
    with opened(name, place, runtime) as shell:
        for command in ("start", "exec", "delete --force"):
            assert shell.tab(f"{line}{command} ")[1] == f"{line}{command} {bundle.id} "
    if shutil.which("fish"):
        found = fish(f"{line}kill ", place / "share", search_path(runtime), place / "cwd")
        assert found == {bundle.id}
    hostile.rmdir()
    assert not (place / "cwd" / "x").exists()
    assert runtime.status(bundle.id) == "created"
