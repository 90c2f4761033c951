"""What all tests share: helpers importable as `lib`, the markers `root` and `lab`."""

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lib import labs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if reason := labs.missing(item):
            item.add_marker(pytest.mark.skip(reason=reason))
        if os.geteuid() != 0 and item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    labs.forbid_skip(item, report)
    return report
