"""run: create, start, wait for the end, delete. In one process, without a detour."""

import _signal
import posix

from ocirun.linux.process import PR_SET_CHILD_SUBREAPER, prctl
from ocirun.runtime.create import Created, Request, create
from ocirun.runtime.delete import clear
from ocirun.runtime.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirun.runtime.notify import Relay

# What a foreground run does not pass on: the signals that a process gets for its own
# faults, those that concern the runtime itself, what cannot be caught, and libc's own.
_KEPT = frozenset(
    (
        _signal.SIGILL, _signal.SIGTRAP, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGSEGV,
        _signal.SIGSYS, _signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGCHLD, _signal.SIGTTIN,
        _signal.SIGTTOU, _signal.SIGKILL, _signal.SIGSTOP, 32, 33,
    )
)  # fmt: skip


def run(
    settings: Settings,
    request: Request,
    *,
    detach: bool = False,
    keep: bool = False,
    subreaper: bool = False,
) -> int:
    """Run a container.

    Args:
        detach: return when it runs, and leave it there.
        keep: do not delete it at its end.
        subreaper: adopt what the container leaves behind in a shared pid namespace.

    Returns:
        The exit status of its process, 128 + n if signal n ended it; 0 with `detach`.

    Raises:
        OcirunError: if it could not be run; nothing of it is left then.
    """
    request.wait = False
    if subreaper and not detach:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    request.foreground = not detach and not request.console_socket
    signals = Forwarder()
    if not detach:
        signals.install()
    try:
        born = create(settings, request)
        signals.forward_to(born.pid)
        try:
            poststart(settings, born)
            if detach:
                if born.relay is not None:
                    born.relay.wait(born.pid)
                return 0
            status = attend(born.pid, born.console, born.relay)
            signals.pid = 0  # it may be another's from now on
            if not keep:
                clear_away(settings, born)
            return status
        finally:
            born.folder.close()
            if born.relay is not None:
                born.relay.close()
    finally:
        signals.restore()


class Forwarder:
    """Passes the signals of this process on to init.

    Installed before there is an init, so that no signal of a quick caller is lost:
    what comes too early is kept until then.

    Attributes:
        is_held: tells if the process cannot be had for now, in a paused container. A signal is
            for this one then: what it has made ends by itself as soon as it goes on.
    """

    def __init__(self) -> None:
        self.is_held: Callable[[], bool] | None = None
        self.pid = 0
        self.early: list[int] = []
        self.before: list[tuple[int, Any]] = []

    def install(self) -> None:
        """Take the signals over; not possible outside the main thread, where they do not arrive."""
        try:
            for number in range(1, _signal.NSIG):
                if number not in _KEPT:
                    self.before.append((number, _signal.signal(number, self.handle)))
        except ValueError:
            pass

    def handle(self, number: int, frame: object) -> None:
        """Pass a signal on."""
        if not self.pid:
            if self.is_held is not None and self.is_held():
                _signal.signal(number, _signal.SIG_DFL)
                posix.kill(posix.getpid(), number)
            self.early.append(number)
            return
        try:
            posix.kill(self.pid, number)
        except OSError:  # it has ended, and waitpid will say so
            pass

    def forward_to(self, pid: int) -> None:
        """Init is there: deliver what has come so far, and what comes from now on."""
        self.pid = pid
        for number in self.early:
            self.handle(number, None)

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self.before:
            _signal.signal(number, _signal.SIG_DFL if handler is None else handler)


def attend(pid: int, console: int, relay: "Relay | None" = None) -> int:
    """Stay with a process until its end, and serve its terminal if it has one (>= 0).

    `relay` passes on meanwhile what it says to NOTIFY_SOCKET.
    """
    if console >= 0:
        from ocirun.executor.console import serve

        return exit_status(serve(console, pid, relay))
    if relay is not None:
        relay.attend(pid)
    return exit_status(posix.waitpid(pid, 0)[1])


def exit_status(status: int) -> int:
    """The exit status that a shell would show for a wait status."""
    if posix.WIFSIGNALED(status):
        return 128 + posix.WTERMSIG(status)
    return posix.WEXITSTATUS(status)


def clear_away(settings: Settings, born: Created) -> None:
    """Delete a container whose init has ended; nothing to do if somebody has done it already."""
    folder, fields = born.folder, born.fields
    folder.lock()
    if not folder.exists():  # deleted by somebody else meanwhile
        return
    if fields["cgroups"] and not fields["ownPids"]:
        from ocirun.cgroups import kill

        kill(fields["cgroups"])
    clear(settings, folder, fields["cgroups"], fields)


def poststart(settings: Settings, born: Created) -> None:
    """Run the poststart hooks, if there are any; one that fails ends and deletes the container."""
    if not born.fields["hooks"].get("poststart"):
        return
    from ocirun.runtime.start import poststart as run_hooks
    from ocirun.state.store import Record

    try:
        run_hooks(Record(born.fields))
    except BaseException:
        born.process.end()
        clear_away(settings, born)
        raise
