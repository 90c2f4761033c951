"""kill: a signal for the container's processes (runtime.md, "kill")."""

import _signal
import posix
import select

from ocirun.errors import UsageError, WrongStatus
from ocirun.runtime.settings import Settings, is_frozen
from ocirun.state.process import start_time
from ocirun.state.store import Record

ESRCH = 3


def parse_signal(text: "str | int") -> int:
    """A signal's number from its number, its name with or without SIG, or RTMIN+n.

    Raises UsageError.
    """
    word = str(text).strip().upper()
    number = -1
    if word.isascii() and word.isdigit():
        number = int(word)
    else:
        name = word if word.startswith("SIG") else "SIG" + word
        base, plus, offset = name.partition("+")
        found = getattr(_signal, base, None)
        if isinstance(found, int) and not base.startswith("SIG_"):
            number = int(found)
            if plus:
                number = number + int(offset) if offset.isdigit() else -1
    if not 0 <= number < _signal.NSIG:
        raise UsageError(
            f"unknown signal {text!r}", hint="give a number, or a name such as TERM or SIGKILL"
        )
    return number


def kill(settings: Settings, container_id: str, signal: "str | int", all_: bool = False) -> None:
    """Send a signal to init, or with `all_` to every process of the container.

    Raises NotFound, WrongStatus ("container not running"), UsageError.
    """
    number = parse_signal(signal)
    folder = settings.store.open(container_id)
    try:
        record = folder.read()
    finally:
        folder.close()
    whole = all_ or (number == _signal.SIGKILL and not record.fields["ownPids"])
    if whole and record.cgroups:
        from ocirun.cgroups import signal as to_all

        try:
            if to_all(record.cgroups, number) or all_:
                return
        except OSError as error:
            raise _refused(record, number, error) from None
    send(record, number)
    if number == _signal.SIGKILL and is_frozen(record.cgroups):
        _thaw(record)


def send(record: Record, number: int) -> None:
    """Send a signal to init, and to nobody who has its pid by accident. Raises WrongStatus."""
    stopped = WrongStatus(f"container not running: {record.id}", bundle=record.bundle)
    if not record.is_alive():
        raise stopped
    try:
        pidfd = posix.pidfd_open(record.pid)
    except OSError:
        raise stopped from None
    try:
        if start_time(record.pid) != record.start_time:
            raise stopped
        _signal.pidfd_send_signal(pidfd, number)
    except OSError as error:
        if error.errno == ESRCH:
            raise stopped from None
        raise _refused(record, number, error) from None
    finally:
        posix.close(pidfd)


def _refused(record: Record, number: int, error: OSError) -> WrongStatus:
    return WrongStatus(
        f"cannot send signal {number} to container {record.id}",
        syscall="kill",
        errno=error.errno or 0,
        bundle=record.bundle,
    )


def end(record: Record, seconds: float = 10.0, whole: bool = False) -> bool:
    """Kill init and, in a shared pid namespace, the rest too; wait for the end of init.

    With `whole` everything in the cgroups is killed in any case: init's pid may be unknown.

    Returns False if it is still there after `seconds`.
    """
    if record.is_alive():
        try:
            pidfd = posix.pidfd_open(record.pid)
        except OSError:
            pidfd = -1
        if pidfd >= 0:
            try:
                if start_time(record.pid) == record.start_time:
                    _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
                    _thaw(record)
                    poll = select.poll()
                    poll.register(pidfd, select.POLLIN)
                    if not poll.poll(seconds * 1000):
                        return False
            except OSError as error:
                if error.errno != ESRCH:
                    raise _refused(record, _signal.SIGKILL, error) from None
            finally:
                posix.close(pidfd)
    if record.cgroups and (whole or not record.fields["ownPids"]):
        from ocirun.cgroups import kill as kill_cgroups

        kill_cgroups(record.cgroups)
    return True


def _thaw(record: Record) -> None:
    """A frozen process does not die (cgroup v1, freezer)."""
    if record.cgroups:
        from ocirun.cgroups import thaw

        thaw(record.cgroups)
