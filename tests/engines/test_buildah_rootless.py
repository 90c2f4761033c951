"""Buildah of an ordinary user, with a range of ids."""

from collections.abc import Callable

import pytest
import test_buildah as buildah
from lib.podman import Buildah

pytestmark = pytest.mark.programs("buildah", "newuidmap")

SCENARIOS = (
    buildah.test_run,
    buildah.test_run_keeps_its_changes,
    buildah.test_no_program,
    buildah.test_input,
    buildah.test_terminal,
    buildah.test_user_and_environment,
    buildah.test_capabilities,
    buildah.test_bud,
    buildah.test_bud_that_fails,
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_as(rootless_buildah: Buildah, scenario: Callable[[Buildah], None]) -> None:
    scenario(rootless_buildah)
