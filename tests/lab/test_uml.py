"""The suite's tests of cgroups on a pure v2 hierarchy, in user-mode Linux."""

from collections.abc import Callable

import pytest

from .selection import UML, Inner, check, files
from .uml import Uml

SECONDS = 300
pytestmark = pytest.mark.timeout(SECONDS + 60)


@pytest.fixture(scope="module")
def inners(in_lab: Callable[..., dict[str, Inner]]) -> dict[str, Inner]:
    return in_lab(Uml(), UML, SECONDS)


@pytest.mark.parametrize("file", files(UML))
def test_inner(inners: dict[str, Inner], file: str) -> None:
    check(inners, file)
