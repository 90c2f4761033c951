"""`kill --regex` and `delete --regex`: one command for all containers whose id matches. Cold."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ocirun.cli import log, render
from ocirun.errors import NotFound, OcirunError, UsageError

if TYPE_CHECKING:
    from ocirun.api import Runtime


def each(runtime: "Runtime", pattern: str, do: Callable[[str], None]) -> int:
    """Do something to every container in whose id the pattern is found, as crun does it.

    One that fails is reported, and the others go on.

    Returns the exit status: 0, or 1 if one has failed. Raises UsageError for what is no pattern.
    """
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"{pattern!r} is no regular expression: {error}",
            hint="the syntax is that of Python; '.' matches every id",
        ) from None
    status = 0
    for info in runtime.list():
        if not wanted.search(info.id):
            continue
        try:
            do(info.id)
        except NotFound:  # it has gone meanwhile
            pass
        except OcirunError as error:
            log.error(render.one_line(error), render.shown(error))
            status = 1
    return status
