"""The steps of rare properties that the parent performs, between the clone and GO.

Loaded only for a plan that has one of them (`Plan.parent`). Each function takes the pid of init
and the arguments of its step. It returns None, or a function that undoes it and one that lets
go of what that would take (or None: there is nothing to let go of). What a crash leaves is found
by the record, never by what is here.
"""

import posix

from ocirun.errors import InvalidConfig, OcirunError
from ocirun.executor import netdevices, resctrl
from ocirun.executor.failures import step_failed
from ocirun.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Undo = tuple[Callable[[], None], Callable[[], None] | None]


def perform(steps: "list[Step]", pid: int, undo: "list[Undo]") -> None:
    """Perform the steps. What undoes each is appended to `undo`, for whoever fails later.

    Raises OcirunError.
    """
    for step in steps:
        try:
            back = _STEPS[step.op](pid, *step.args)
        except OcirunError as error:
            error.pointer = step.pointer
            raise
        except OSError as error:
            log = getattr(error, "words", "")
            call = getattr(error, "call", "") or f"open({error.filename})"
            raise step_failed(step, error.errno or 0, call, log) from None
        if back is not None:
            undo.append(back)


def let_go(undo: "list[Undo]") -> None:
    """From here on some of what was done is the container's alone: keep what needs nothing held."""
    for _, close in undo:
        if close is not None:
            close()
    undo[:] = [entry for entry in undo if entry[1] is None]


def own_namespace(pid: int, kind: str, file: str, what: str, path: str) -> None:
    """See that init is not in the runtime's own namespace, which it may have joined by path.

    Raises InvalidConfig.
    """
    ours = posix.stat(f"/proc/thread-self/ns/{file}")
    try:
        theirs = posix.stat(f"/proc/{pid}/ns/{file}")
    except PermissionError:  # without CAP_SYS_PTRACE
        theirs = posix.stat(path)
    if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
        raise InvalidConfig(
            f"{what} would be the host's: the container joins the runtime's own {kind} namespace",
            hint=f"the path of the {kind} namespace in linux.namespaces must be another's",
        )


_STEPS: "dict[str, Callable[..., Undo | None]]" = {
    "own-namespace": own_namespace,
    **netdevices.STEPS,
    **resctrl.STEPS,
}
