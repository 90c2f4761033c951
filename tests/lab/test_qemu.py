"""The suite's tests of cgroups on a pure v2 hierarchy with all controllers, under systemd, in qemu."""

from collections.abc import Callable

import pytest

from .qemu import Qemu
from .selection import QEMU, Inner, check, files

SECONDS = 780
pytestmark = pytest.mark.timeout(SECONDS + 300)  # building the image comes first


@pytest.fixture(scope="module")
def inners(in_lab: Callable[..., dict[str, Inner]]) -> dict[str, Inner]:
    return in_lab(Qemu(), QEMU, SECONDS)


@pytest.mark.parametrize("file", files(QEMU))
def test_inner(inners: dict[str, Inner], file: str) -> None:
    check(inners, file)
