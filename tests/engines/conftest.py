"""Real engines: each test is a scenario, run with runc first and then with ocirun.

A scenario that fails with runc on this machine cannot say anything of ocirun: it is skipped, by
name and with runc's error. ENGINE_RUNTIMES names the runtimes (default: "runc ocirun"; "runc crun
ocirun" shows crun as well, whose failures are only shown). A table at the end has all results.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lib import engines
from lib.box import Box
from lib.containerd import Containerd
from lib.docker import BuildKit, Docker, Remapped
from lib.podman import Buildah, Podman, RootlessBuildah, RootlessPodman
from lib.scenarios import FAIL, PASS, SKIP, Table, runtime_of, scenario_of
from lib.swarm import Swarm

HERE = Path(__file__).parent
RUNTIMES = os.environ.get("ENGINE_RUNTIMES", "runc ocirun").split()
ENGINES: dict[str, Callable[[Box, str, dict[str, str]], engines.Engine]] = {
    "podman": Podman,
    "rootless": RootlessPodman,
    "docker": Docker,
    "buildkit": BuildKit,
    "remapped": Remapped,
    "containerd": Containerd,
    "buildah": Buildah,
    "rootless_buildah": RootlessBuildah,
}
TABLE = pytest.StashKey[Table]()
THEIRS = (AssertionError, engines.EngineDown)


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "programs(*names): what a scenario runs",
        "not_with(*runtimes): those the engine itself refuses for it",
    ):
        config.addinivalue_line("markers", line)
    config.stash[TABLE] = Table(RUNTIMES)
    config.pluginmanager.register(config.stash[TABLE])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The scenario's own parameters outside, the runtimes inside: one after the other."""
    if "runtime" in metafunc.fixturenames:
        metafunc.parametrize("runtime", RUNTIMES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """If several processes share the files, the longest one comes first."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.root)
            for reason in reasons_to_skip(item):
                item.add_marker(pytest.mark.skip(reason=reason))
    items.sort(key=lambda item: item.path != HERE / "test_swarm.py")


def reasons_to_skip(item: pytest.Item) -> Iterator[str]:
    runtime = runtime_of(item)
    programs = {name for mark in item.iter_markers("programs") for name in mark.args}
    if runtime not in ("", "ocirun"):
        programs.add(runtime)
    for program in sorted(programs):
        if not shutil.which(program):
            yield f"{program} is not installed"
    if any(runtime in mark.args for mark in item.iter_markers("not_with")):
        yield f"the engine refuses it with {runtime} by name"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without runc's success nothing is asked of ocirun."""
    if runtime_of(item) == "ocirun":
        outcome, why = item.config.stash[TABLE].result(scenario_of(item), "runc")
        if outcome == FAIL:
            pytest.skip(f"fails with runc on this machine: {why}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    runtime = runtime_of(item)
    if not runtime:
        return report  # type: ignore[return-value]
    outcome, why = PASS, ""
    if report.failed and call.excinfo:
        outcome, why = FAIL, words_of(call.excinfo.value)
        # Of the other runtimes only what they do may fail, not what the tests do.
        if runtime != "ocirun" and isinstance(call.excinfo.value, THEIRS):
            report.outcome = "skipped"
            reason = f"Skipped: fails with {runtime} on this machine: {why}"
            report.longrepr = (str(item.path), item.location[1] or 0, reason)
    elif report.skipped:
        outcome, why = SKIP, str(report.longrepr[2]).removeprefix("Skipped: ")
    report.user_properties.append(("scenario", [*scenario_of(item), runtime, outcome, why]))
    return report  # type: ignore[return-value]


def words_of(error: BaseException) -> str:
    """One line of an error; of an assertion the words before pytest's explanation."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:400]


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    made = Box()
    yield made
    made.close()


@pytest.fixture(scope="session")
def paths(box: Box) -> dict[str, str]:
    """The runtimes' paths in the box."""
    return engines.runtimes(box)


@pytest.fixture(scope="session")
def image(box: Box) -> Path:
    """The tar that is the image's root file system, in the box's folder."""
    folder = box.folder / "image"
    folder.mkdir()
    return engines.image_tar(folder)


@pytest.fixture(scope="session")
def made(
    box: Box, paths: dict[str, str], image: Path
) -> Iterator[Callable[[str, str], engines.Engine | Swarm]]:
    """Makes an engine with a default runtime, once a session."""
    known: dict[tuple[str, str], engines.Engine | Swarm] = {}

    def make(name: str, runtime: str) -> engines.Engine | Swarm:
        if (name, runtime) not in known:
            if name == "swarm":
                known[name, runtime] = Swarm(runtime, image)
            else:
                engine = ENGINES[name](box, runtime, paths)
                engine.load(image)
                known[name, runtime] = engine
        return known[name, runtime]

    yield make
    for one in known.values():
        if isinstance(one, Swarm):
            one.close()


Making = Callable[[str, str], engines.Engine | Swarm]


@pytest.fixture(params=["podman", "docker"])
def engine_name(request: pytest.FixtureRequest) -> str:
    if not shutil.which(program := {"docker": "dockerd"}.get(request.param, request.param)):
        pytest.skip(f"{program} is not installed")
    return str(request.param)


@pytest.fixture
def engine(made: Making, engine_name: str, runtime: str) -> Iterator[engines.Engine | Swarm]:
    """Podman or Docker with a default runtime; containers of the test are removed after it."""
    yield from cleared(made(engine_name, runtime))


def cleared(engine: engines.Engine | Swarm) -> Iterator[engines.Engine | Swarm]:
    yield engine
    engine.clear()


def fixture_of(name: str) -> Any:
    """A fixture as `engine`, of the engine of that name."""

    @pytest.fixture(name=name)
    def given(made: Making, runtime: str) -> Iterator[engines.Engine | Swarm]:
        yield from cleared(made(name, runtime))

    return given


podman, rootless = map(fixture_of, ("podman", "rootless"))
buildah, rootless_buildah = map(fixture_of, ("buildah", "rootless_buildah"))
docker, buildkit, remapped = map(fixture_of, ("docker", "buildkit", "remapped"))
swarm, containerd = map(fixture_of, ("swarm", "containerd"))
