"""docs/library.md and the README: their examples are run, and print what the page says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from lib.runtime import CHECKOUT

import ocirun.library.runtime
import ocirun.state.store

pytestmark = [pytest.mark.root, pytest.mark.only("ocirun")]

GUIDE = CHECKOUT / "docs/library.md"
Captured = pytest.CaptureFixture[str]
PAGES = {GUIDE: 10, CHECKOUT / "README.md": 1}  # and how many examples they have at least


class Block(NamedTuple):
    line: int
    code: str

    @property
    def is_of_pytest(self) -> bool:
        return "def test_" in self.code

    @property
    def needs_criu(self) -> bool:
        return self.code.startswith("# needs CRIU\n")

    def promised(self) -> list[str]:
        """The lines that it is said to print."""
        return re.findall(r"# -> (.*)", self.code)


def blocks(text: str) -> list[Block]:
    """The python blocks of a page."""
    return [
        Block(text.count("\n", 0, found.start(1)), found[1])
        for found in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)
    ]


def matches(promised: str, printed: str) -> bool:
    """Equal, where "..." stands for anything."""
    return bool(re.fullmatch(".*".join(map(re.escape, promised.split("..."))), printed))


@pytest.fixture
def place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the examples, prepared as the page says; the default root is elsewhere."""
    (folder / "bundles/hello").mkdir(parents=True)
    config = CHECKOUT / "bundles/hello/config.json"
    (folder / "bundles/hello/config.json").write_bytes(config.read_bytes())
    rootfs = folder / "bundles/hello/rootfs"
    subprocess.run([CHECKOUT / "bundles/make-rootfs.sh", rootfs], check=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(ocirun.state.store, "default_root", lambda: str(tmp_path / "root"))
    monkeypatch.setattr(ocirun.library.runtime, "_default", None)
    yield folder
    runtime = ocirun.library.runtime.default()
    for container in runtime.list():
        runtime.delete(container.id, force=True)
    runtime.close()


def execute(page: Path, block: Block, names: dict[str, object], capfd: Captured) -> None:
    """Runs an example, which must print what the page says."""
    code = compile("\n" * block.line + block.code, str(page), "exec")
    exec(code, names)
    printed = [line for line in capfd.readouterr().out.splitlines() if line]
    promised = block.promised()
    where = f"{page.name}:{block.line + 1}"
    assert len(printed) == len(promised), f"{where} prints {printed}"
    for said, line in zip(promised, printed, strict=True):
        assert matches(said, line), f"{where} prints {line!r} where it says {said!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples(page: Path, place: Path, capfd: Captured) -> None:
    names: dict[str, object] = {"__name__": "guide"}
    found = [b for b in blocks(page.read_text()) if not (b.is_of_pytest or b.needs_criu)]
    for block in found:
        execute(page, block, names, capfd)
    assert len(found) >= PAGES[page]


@pytest.mark.lab("criu")
def test_examples_with_criu(place: Path, capfd: Captured) -> None:
    found = [block for block in blocks(GUIDE.read_text()) if block.needs_criu]
    assert found
    for block in found:
        execute(GUIDE, block, {"__name__": "guide"}, capfd)


def test_the_tests_of_the_guide(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for pytest pass, with the plugin."""
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    found = [block for block in blocks(GUIDE.read_text()) if block.is_of_pytest]
    assert found
    for number, block in enumerate(found):
        (place / f"test_{number}.py").write_text(block.code)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "ocirun.pytest", "-p", "no:cacheprovider"]
    result = subprocess.run(argv, cwd=place, capture_output=True, text=True, timeout=50)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{sum(block.code.count('def test_') for block in found)} passed" in result.stdout


@pytest.mark.parametrize(
    ("promised", "printed", "same"),
    [("a", "a", True), ("a", "ab", False), ("a...", "ab", True), ("pid=...)", "pid=7)", True)],
)
def test_what_matches(promised: str, printed: str, same: bool) -> None:
    assert matches(promised, printed) is same
