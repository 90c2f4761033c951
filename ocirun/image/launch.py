"""Running an image in one go: folder, bundle, create and start, and the end of all three."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from ocirun.errors import NotFound
from ocirun.image.bundle import launch_folder
from ocirun.image.options import LaunchOptions

if TYPE_CHECKING:
    from ocirun.api import Runtime


def launch(
    runtime: "Runtime", options: LaunchOptions, *, data_root: str = "", detach: bool = False
) -> int:
    """Run an image; return the exit status of its process (0 when detached).

    Nothing is left behind when it ends or fails, unless `options.keep` keeps the files.
    Detached, the container and its folder stay until it is deleted.

    Raises:
        AlreadyExists: a container of that id exists, or files kept from one.
        UsageError, ImageError: an option or the image is wrong.
        OcirunError: as `Runtime.run`.
    """

    def exists(container_id: str) -> bool:
        try:
            runtime.get(container_id).state()
        except NotFound:
            return False
        return True

    # A terminal is read from: it makes no sense without its input.
    quiet = not (options.interactive or options.terminal)
    with (
        launch_folder(
            options, data_root, runtime_root=runtime.root, exists=exists, detach=detach
        ) as bundle,
        _empty_stdin() if quiet else nullcontext(),
    ):
        return runtime.run(options.id, bundle, detach=detach)


@contextmanager
def _empty_stdin() -> Iterator[None]:
    """Let descriptor 0 be /dev/null for a while."""
    try:
        saved = os.dup(0)
    except OSError:
        saved = -1  # it is closed
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.dup2(null, 0)
        yield
    finally:
        if null != 0:
            os.close(null)
        if saved >= 0:
            os.dup2(saved, 0)
            os.close(saved)
        else:
            os.close(0)
