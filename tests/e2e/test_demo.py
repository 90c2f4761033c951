"""The demo, the example bundles, and that the README shows what they really print."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.runtime import CHECKOUT, Runtime, wait_for

BUNDLES = sorted(path.parent.name for path in CHECKOUT.glob("bundles/*/config.json"))


def demo(runtime: Runtime) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OCIRUN": str(runtime.path)}
    return subprocess.run(
        [CHECKOUT / "tools/demo.sh"],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
    )


@pytest.mark.only("ocirun")
def test_demo(runtime: Runtime) -> None:
    before = set(Path("/tmp").glob("ocirun-demo.*"))
    result = demo(runtime)
    assert result.returncode == 0, result.stdout
    for words in ("I am process 1", "Hello from hello", '"status": "stopped"', "mood", "== Done"):
        assert words in result.stdout
    assert "\x1b" not in result.stdout
    assert set(Path("/tmp").glob("ocirun-demo.*")) == before


@pytest.mark.only("ocirun")
def test_demo_notices_a_failure(runtime: Runtime, bundle: Bundle) -> None:
    """A runtime that does nothing, successfully, does not pass for a working one."""
    runtime.path = Path(shutil.which("true") or "/bin/true")
    assert demo(runtime).returncode != 0


def plain(text: str) -> list[str]:
    """Lines without what differs from one run to the next: pids, folders, numbers of cgroups."""
    text = re.sub(r"/tmp/ocirun-demo\.\w+", "/tmp/ocirun-demo", text)
    return [re.sub(r"\d+", "0", line).strip() for line in text.splitlines() if line.strip()]


@pytest.mark.only("ocirun")
def test_readme_shows_what_the_demo_prints(runtime: Runtime) -> None:
    """Every line of the README's transcript is a line of the demo, in the same order."""
    readme = (CHECKOUT / "README.md").read_text()
    transcript = readme.split("```console\n")[1].split("```")[0]
    printed = iter(plain(demo(runtime).stdout))
    for line in plain(transcript):
        assert line in printed, f"the demo does not print, or not at that place: {line}"


@pytest.mark.parametrize("name", BUNDLES)
def test_bundles(
    runtime: Runtime, make_bundle: Callable[..., Bundle], folder: Path, name: str
) -> None:
    """The example bundles run with every runtime, and end at SIGTERM."""
    place, container = folder / name, make_bundle().id
    shutil.copytree(CHECKOUT / "bundles" / name, place, ignore=shutil.ignore_patterns("rootfs"))
    subprocess.run([CHECKOUT / "bundles/make-rootfs.sh", place / "rootfs"], check=True)
    created = runtime.call("create", "--bundle", place, container).ok()
    runtime.start(container).ok()
    wait_for(lambda: created.out.startswith("Hello from "), "its words")
    runtime.kill(container, "TERM").ok()
    runtime.wait_status(container, "stopped")
    assert created.out.endswith("Goodbye.\n")
    runtime.delete(container).ok()


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("name", BUNDLES)
def test_bundles_are_valid_without_a_warning(runtime: Runtime, folder: Path, name: str) -> None:
    place = folder / name
    shutil.copytree(CHECKOUT / "bundles" / name, place, ignore=shutil.ignore_patterns("rootfs"))
    (place / "rootfs").mkdir()
    assert runtime.call("validate", place).ok().out == "valid: 0 errors, 0 warnings\n"
