"""Real engines: each test is a scenario, run with runc first and then with ocirun.

A scenario that fails with runc on this machine cannot say anything of ocirun: it is skipped, by
name and with runc's error. ENGINE_RUNTIMES names the runtimes (default: "runc ocirun"; "runc crun
ocirun" shows crun as well, whose failures are only shown). A table at the end has all results.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lib import engines
from lib.box import Box
from lib.containerd import Containerd
from lib.docker import Docker
from lib.podman import Buildah, Podman, RootlessPodman
from lib.swarm import Swarm

HERE = Path(__file__).parent
RUNTIMES = os.environ.get("ENGINE_RUNTIMES", "runc ocirun").split()
# (module, scenario) -> {runtime: "pass", "-" (did not run) or the words of the failure}
Results = dict[tuple[str, str], dict[str, str]]
RESULTS = pytest.StashKey[Results]()
ENGINES: dict[str, Callable[[Box, str, dict[str, str]], engines.Engine]] = {
    "podman": Podman,
    "rootless": RootlessPodman,
    "docker": Docker,
    "containerd": Containerd,
    "buildah": Buildah,
}
PASS, NOT_RUN = "pass", "-"
THEIRS = (AssertionError, engines.EngineDown, subprocess.TimeoutExpired)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "programs(*names): what a scenario runs")
    config.addinivalue_line(
        "markers", "not_with(*runtimes): those the engine itself refuses for it"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The scenario's own parameters outside, the runtimes inside: one after the other."""
    if "runtime" in metafunc.fixturenames:
        marks = metafunc.definition.iter_markers("not_with")
        others = {name for mark in marks for name in mark.args}
        metafunc.parametrize("runtime", [name for name in RUNTIMES if name not in others])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.root)
            for program in missing(item):
                item.add_marker(pytest.mark.skip(reason=f"{program} is not installed"))


def missing(item: pytest.Item) -> Iterator[str]:
    marked = {name for mark in item.iter_markers("programs") for name in mark.args}
    runtime = runtime_of(item)
    for program in sorted(marked | ({runtime} if runtime not in ("", "ocirun") else set())):
        if not shutil.which(program):
            yield program


def parameters(item: pytest.Item) -> dict[str, Any]:
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


def runtime_of(item: pytest.Item) -> str:
    return str(parameters(item).get("runtime", ""))


def scenario_of(item: pytest.Item) -> tuple[str, str]:
    words = parameters(item)
    words.pop("runtime", None)
    name = getattr(item, "originalname", item.name).removeprefix("test_").replace("_", " ")
    engine = words.pop("engine_name", item.path.stem.rpartition("_")[2])
    if "scenario" in words:  # of another module
        return str(engine), words["scenario"].__name__.removeprefix("test_").replace("_", " ")
    more = ", ".join(map(str, words.values()))
    return str(engine), f"{name} ({more})" if more else name


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without runc's success nothing is asked of ocirun."""
    if runtime_of(item) == "ocirun":
        found = item.config.stash.get(RESULTS, {}).get(scenario_of(item), {}).get("runc", PASS)
        if found not in (PASS, NOT_RUN):
            pytest.skip(f"fails with runc on this machine: {found}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    runtime = runtime_of(item)
    if runtime:
        results = item.config.stash.setdefault(RESULTS, {}).setdefault(scenario_of(item), {})
        if report.failed and call.excinfo:
            results[runtime] = words_of(call.excinfo.value)
            # Of the other runtimes only what they do may fail, not what the tests do.
            if runtime != "ocirun" and isinstance(call.excinfo.value, THEIRS):
                reason = f"Skipped: fails with {runtime} on this machine: {results[runtime]}"
                report.outcome = "skipped"
                report.longrepr = (str(item.path), item.location[1] or 0, reason)
        elif report.skipped:
            results[runtime] = NOT_RUN
        else:
            results.setdefault(runtime, PASS)
    return report  # type: ignore[return-value]


def words_of(error: BaseException) -> str:
    """One line of an error; of an assertion the words before pytest's explanation."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:400]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    results = terminalreporter.config.stash.get(RESULTS, {})
    if not results:
        return
    terminalreporter.section("engines")
    width = max(len(scenario) for _, scenario in results)
    terminalreporter.line(
        f"{'engine':<12}{'scenario':<{width}}  " + "".join(f"{r:<8}" for r in RUNTIMES)
    )
    for (engine, scenario), found in sorted(results.items()):
        cells = "".join(f"{short(found.get(name, NOT_RUN)):<8}" for name in RUNTIMES)
        terminalreporter.line(f"{engine:<12}{scenario:<{width}}  {cells}".rstrip())


def short(result: str) -> str:
    return result if result in (PASS, NOT_RUN) else "FAIL"


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


podman, docker, swarm = map(fixture_of, ("podman", "docker", "swarm"))
containerd, buildah, rootless = map(fixture_of, ("containerd", "buildah", "rootless"))
