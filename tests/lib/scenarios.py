"""Which scenario a test of an engine is, how it ended with each runtime, and the table of all.

The results go with pytest's reports, so the table is the same when several processes
(pytest-xdist) share the scenarios.
"""

import textwrap
from typing import Any

import pytest

PASS, FAIL, SKIP = "pass", "FAIL", "skip"
Result = tuple[str, str]  # one of these, and why


def parameters(item: pytest.Item) -> dict[str, Any]:
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


def runtime_of(item: pytest.Item) -> str:
    """The runtime that a scenario runs with; "" if it is none."""
    return str(parameters(item).get("runtime", ""))


def scenario_of(item: pytest.Item) -> tuple[str, str]:
    """The engine and the name of a scenario."""
    given = parameters(item)
    name = getattr(item, "originalname", item.name)
    engine = str(given.pop("engine_name", item.path.stem.removeprefix("test_")))
    if "scenario" in given:  # of another module
        return words(engine), words(given["scenario"].__name__)
    more = f"-{item.callspec.id}-" if hasattr(item, "callspec") else ""
    for each in (runtime_of(item), engine):
        more = more.replace(f"-{each}-", "-", 1)
    more = more.strip("-")
    return words(engine), words(name) + (f" ({more})" if more else "")


def words(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


class Table:
    """The results of a run, by scenario and runtime."""

    def __init__(self, runtimes: list[str]) -> None:
        self.runtimes = runtimes
        self.found: dict[tuple[str, str], dict[str, Result]] = {}

    def result(self, scenario: tuple[str, str], runtime: str) -> Result:
        return self.found.get(scenario, {}).get(runtime, (SKIP, "not run"))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == "scenario":
                engine, scenario, runtime, outcome, why = value
                found = self.found.setdefault((engine, scenario), {})
                if found.get(runtime, (PASS, ""))[0] == PASS:  # else an earlier phase failed
                    found[runtime] = (outcome, why)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.found:
            return
        terminalreporter.section("engines")
        width = max(len(scenario) for _, scenario in self.found) + 2
        head = "".join(f"{name:<8}" for name in self.runtimes)
        last = ""
        for (engine, scenario), found in sorted(self.found.items()):
            if engine != last:
                terminalreporter.line(f"{engine:<{width + 2}}{head}".rstrip(), bold=True)
                last = engine
            results = {name: found.get(name, (SKIP, "not run")) for name in self.runtimes}
            cells = "".join(f"{results[name][0]:<8}" for name in self.runtimes)
            colour = {"red": results.get("ocirun", (PASS, ""))[0] == FAIL}
            terminalreporter.line(f"  {scenario:<{width}}{cells}".rstrip(), **colour)
            self.tell_why(terminalreporter, results)
        counts = (f"{name}: {self.counted(name)}" for name in self.runtimes)
        terminalreporter.line("; ".join(counts))

    def tell_why(
        self, terminalreporter: pytest.TerminalReporter, results: dict[str, Result]
    ) -> None:
        """Why a scenario did not pass, once if it is the same for several runtimes."""
        told: set[str] = set()
        for name, (_, why) in results.items():
            if why and not any(other in why for other in told):
                told.add(why)
                text = f"{name}: {why}"
                screen = max(terminalreporter._screen_width - 1, 40)
                for line in textwrap.wrap(
                    text, screen, initial_indent=" " * 6, subsequent_indent=" " * 8
                ):
                    terminalreporter.line(line)

    def counted(self, runtime: str) -> str:
        """How many scenarios ended how."""
        outcomes = [found[runtime][0] for found in self.found.values() if runtime in found]
        counts = ((outcomes.count(outcome), outcome) for outcome in (PASS, FAIL, SKIP))
        return ", ".join(f"{count} {outcome}" for count, outcome in counts)
