"""What is installed: the wheel's contents, the launcher, the archive of the hot modules."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tools import install

CHECKOUT = Path(__file__).parents[2]
PYTHON = Path(sys.prefix) / "bin" / "python3"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's contents, as pip would unpack it."""
    wheels = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", wheels, CHECKOUT], check=True, stdin=subprocess.DEVNULL)
    (wheel,) = wheels.glob("ocirun-*.whl")
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


def test_the_wheel_has_every_module_and_schema(site: Path) -> None:
    modules = {path.relative_to(CHECKOUT) for path in (CHECKOUT / "ocirun").rglob("*.py")}
    assert modules == {path.relative_to(site) for path in (site / "ocirun").rglob("*.py")}
    schemas = {path.name for path in (CHECKOUT / "schema").glob("*.json")}
    assert schemas == {path.name for path in (site / "ocirun/_schema").glob("*.json")}
    assert len(schemas) >= 3


@pytest.fixture
def share(site: Path) -> Path:
    """What the wheel puts below PREFIX/share."""
    (folder,) = site.glob("*.data/data/share")
    return folder


COMPLETIONS = {
    "bash-completion/completions/ocirun": "ocirun.bash",
    "zsh/site-functions/_ocirun": "_ocirun",
    "fish/vendor_completions.d/ocirun.fish": "ocirun.fish",
}


def test_the_wheel_has_manual_pages_and_completion(site: Path, share: Path) -> None:
    pages = [path.name for path in (CHECKOUT / "share/man/man8").iterdir()]
    assert files(share) == sorted([*COMPLETIONS, *(f"man/man8/{page}" for page in pages)])
    for name, script in COMPLETIONS.items():
        assert (share / name).read_text() == (site / "ocirun/cli/completion" / script).read_text()


def test_the_wheel_has_an_ordinary_console_script(site: Path) -> None:
    (entry_points,) = site.glob("*.dist-info/entry_points.txt")
    assert "ocirun = ocirun.cli.entry:main" in entry_points.read_text()
    assert "[pytest11]\nocirun = ocirun.pytest" in entry_points.read_text()


@pytest.fixture
def launcher(site: Path, tmp_path: Path) -> Path:
    """The launcher as `make install` writes it, beside the wheel's contents."""
    lines = install.write_archive(PYTHON, site, tmp_path / "ocirun.archive")
    paths = [str(site), sysconfig.get_path("purelib")]
    install.write_launcher(tmp_path / "bin/ocirun", PYTHON, paths, True, lines)
    return tmp_path / "bin/ocirun"


def run(launcher: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [launcher, *argv], env={}, cwd="/", capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )  # fmt: skip


def test_the_first_line_names_the_interpreter_isolated(launcher: Path) -> None:
    first = launcher.read_text().splitlines()[0]
    assert first.startswith(f"#!{PYTHON} -IS")
    assert os.path.isabs(first[2:])


def test_the_quick_path_needs_the_archive_alone(launcher: Path, site: Path) -> None:
    hidden = site.with_name("hidden")
    site.rename(hidden)
    try:
        done = run(launcher, "--root", "/nonexistent/x", "list")
    finally:
        hidden.rename(site)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ID ")


def test_cold_modules_come_from_the_package(launcher: Path) -> None:
    assert "create" in run(launcher, "--help").stdout
    assert run(launcher, "validate", "/nonexistent").returncode == 2


def test_without_its_archive_it_imports_as_usual(launcher: Path, tmp_path: Path) -> None:
    (tmp_path / "ocirun.archive").unlink()
    done = run(launcher, "--root", "/nonexistent/x", "list")
    assert (done.returncode, done.stderr) == (0, "")


def test_it_writes_nothing_into_the_package(launcher: Path, site: Path) -> None:
    before = sorted(site.rglob("*"))
    run(launcher, "--root", "/nonexistent/x", "list")
    run(launcher, "spec", "--help")
    assert sorted(site.rglob("*")) == before


def test_the_environment_cannot_inject_code(launcher: Path, tmp_path: Path) -> None:
    canary = "import os; os.write(1, b'injected')"
    for name in ("sitecustomize", "usercustomize", "typer", "posix", "ocirun"):
        (tmp_path / f"{name}.py").write_text(canary)
    env = {"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "typer.py"),
           "PYTHONHOME": "/nonexistent", "PYTHONVERBOSE": "1", "PYTHONINSPECT": "1"}  # fmt: skip
    for argv in (["list"], ["--help"]):
        done = subprocess.run(
            [launcher, "--root", "/nonexistent/x", *argv],
            env=env, cwd=tmp_path, capture_output=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"injected" not in done.stdout


@pytest.mark.parametrize("interpreter", ["/" + "long/" * 60 + "python3", "/my folder/python3"])
def test_what_the_kernel_cannot_start_is_refused(tmp_path: Path, interpreter: str) -> None:
    with pytest.raises(SystemExit, match="shorter PREFIX"):
        install.write_launcher(tmp_path / "ocirun", Path(interpreter), [], True)
    assert not (tmp_path / "ocirun").exists()


def test_the_commit_is_written_into_the_copy(tmp_path: Path) -> None:
    copy = tmp_path / "version.py"
    copy.write_text((CHECKOUT / "ocirun/version.py").read_text())
    install.stamp_commit(copy)
    head = subprocess.run(
        ["git", "-C", CHECKOUT, "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    assert f'COMMIT = "{head or "unknown"}"' in copy.read_text()


def test_remove_takes_only_its_own(share: Path, tmp_path: Path) -> None:
    (tmp_path / "share/man/man8").mkdir(parents=True, mode=0o711)
    install.install_shared(share, tmp_path / "share")
    assert files(tmp_path / "share") == files(share)
    assert (tmp_path / "share/man/man8").stat().st_mode & 0o777 == 0o711
    for name in ("bin/ocirun", "bin/other", "lib/ocirun/x", "lib/other/x",
                 "share/man/man8/ocirun-old.8", "share/man/man8/ocirunner.8"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    install.install_shared(share, tmp_path / "share")
    assert not (tmp_path / "share/man/man8/ocirun-old.8").exists()
    install.remove(tmp_path)
    assert files(tmp_path) == ["bin/other", "lib/other/x", "share/man/man8/ocirunner.8"]
