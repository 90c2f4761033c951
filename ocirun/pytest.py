"""A pytest plugin: containers in tests, and a check that tests leave nothing behind.

    def test_limit(container):
        spec = ocirun.Spec.default(["cat", "/etc/hostname"], rootfs="/images/busybox")
        done = container(spec, timeout=10)
        assert done.stdout == "box\\n"

pytest finds it by its entry point where ocirun is installed; elsewhere it is
`-p ocirun.pytest`. Belongs here: fixtures, the option, reports. What they do is in
`ocirun.library.watch`. Nothing but pytest imports this module.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ocirun.library.watch import Containers, Watch, WatchedRuntime


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("ocirun").addoption(
        "--ocirun-root",
        metavar="DIR",
        help="directory for the state of the tests' containers (default: a temporary one)",
    )


@pytest.fixture(scope="session")
def ocirun_runtime(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WatchedRuntime]:
    """A Runtime with a root of its own, for all tests; skips them when the user is not root.

    Containers that a test creates with it, and does not delete, are leaks.
    """
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    from ocirun.library.watch import Watch, WatchedRuntime

    root = request.config.getoption("--ocirun-root") or tmp_path_factory.mktemp("ocirun")
    with WatchedRuntime(root) as runtime:
        watch = Watch(runtime)
        yield runtime
        _check(watch, "fixtures have left behind")


@pytest.fixture(autouse=True)
def _ocirun_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail tests that use `ocirun_runtime` and leave something behind."""
    if "ocirun_runtime" not in request.fixturenames:
        yield
        return
    from ocirun.library.watch import Watch

    watch = Watch(request.getfixturevalue("ocirun_runtime"))
    yield
    _check(watch, "the test has left behind")


def _check(watch: Watch, words: str) -> None:
    left = watch.leaks()
    remains = watch.sweep() if left else []
    watch.close()
    if left:
        lines = [line + (" (still there)" if line in remains else "") for line in left]
        pytest.fail(f"{words}:\n  " + "\n  ".join(lines), pytrace=False)


@pytest.fixture
def container(ocirun_runtime: WatchedRuntime, _ocirun_leaks: None) -> Iterator[Containers]:
    """Runs a container: `done = container(spec_or_bundle, timeout=10)`, as `Runtime.run`.

    Output is caught as text. `container.create(spec_or_bundle)` makes one that waits for
    its `start()`, and is deleted at the end of the test.
    """
    from ocirun.library.watch import Containers

    containers = Containers(ocirun_runtime)
    yield containers
    containers.close()
