"""Boots each lab once for all tests of it, and tells at the end of the run what it ran."""

from collections.abc import Callable

import pytest

from .boot import Lab, Missing
from .selection import Inner, run, summary

SUMMARIES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SUMMARIES] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash[SUMMARIES]:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def in_lab(pytestconfig: pytest.Config) -> Callable[..., dict[str, Inner]]:
    """Runs tests in a lab; what became of them, by file."""

    def boot(lab: Lab, tests: tuple[str, ...], timeout: float) -> dict[str, Inner]:
        try:
            result, inners = run(lab, tests, timeout)
        except Missing as missing:
            pytest.skip(str(missing))
        pytestconfig.stash[SUMMARIES] += summary(lab, inners)
        if result.status not in (0, 1):  # 1: tests failed; each is told by its file
            pytest.fail(result.output, pytrace=False)
        return inners

    return boot
