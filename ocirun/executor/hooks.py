"""Executing hooks: the state on standard input, a timeout, and what they said last.

Loaded only for containers that have hooks; before the clone, since init runs
some of them itself.
"""

import posix
import select
import time

from ocirun.plan.step import Hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SIGKILL = 9
TIMED_OUT = 0x10000  # beyond every wait status
LAST_WORDS = 1024  # bytes of a hook's output that are kept: what a message FAILED has room for
NOT_EXECUTED = 0x20000  # plus errno
_LONGEST = 2**31 - 1  # milliseconds that poll(2) can wait, 24 days
_NO_SIGNALS: "Sequence[int]" = (13, 25)  # SIGPIPE, SIGXFSZ: ignored by Python


def run_hooks(hooks: list[Hook], state: int) -> tuple[int, int, bytes] | None:
    """Execute hooks one after the other until one fails (config.md, "POSIX-platform Hooks").

    Args:
        hooks: what to execute.
        state: descriptor of a file with the container's state.

    Returns:
        None, or of the one that failed: its position in the list, its wait status
        (or TIMED_OUT, or NOT_EXECUTED + errno), and the last that it said.
    """
    for index, hook in enumerate(hooks):
        status, words = _run(hook, state)
        if status:
            return index, status, words
    return None


def _run(hook: Hook, state: int) -> tuple[int, bytes]:
    posix.lseek(state, 0, 0)
    said = posix.memfd_create("hook", posix.MFD_CLOEXEC)
    try:
        try:
            # The copy of a descriptor onto itself would leave close-on-exec set,
            # so none of them may be 0, 1 or 2: the commands see to that at their start.
            pid = posix.posix_spawn(
                hook.path,
                hook.args,
                hook.env,
                file_actions=[
                    (posix.POSIX_SPAWN_DUP2, state, 0),
                    (posix.POSIX_SPAWN_DUP2, said, 1),
                    (posix.POSIX_SPAWN_DUP2, said, 2),
                ],
                setsigdef=_NO_SIGNALS,
            )
        except OSError as error:
            return NOT_EXECUTED + (error.errno or 0), b""
        status = _wait(pid, hook.timeout)
        return status, _last_words(said) if status else b""
    finally:
        posix.close(said)


def _wait(pid: int, timeout: int) -> int:
    if timeout > 0:
        pidfd = posix.pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        end = time.monotonic_ns() + timeout * 10**9
        ready: list[tuple[int, int]] = []
        while not ready and (left := end - time.monotonic_ns()) > 0:
            ready = poll.poll(min(left // 10**6 + 1, _LONGEST))
        posix.close(pidfd)
        if not ready:
            posix.kill(pid, SIGKILL)
            posix.waitpid(pid, 0)
            return TIMED_OUT
    return posix.waitpid(pid, 0)[1]


def _last_words(said: int) -> bytes:
    size = posix.fstat(said).st_size
    return posix.pread(said, LAST_WORDS, max(0, size - LAST_WORDS)).strip()


def describe_status(status: int) -> str:
    """A hook's end in words."""
    if status >= NOT_EXECUTED:
        words = posix.strerror(status - NOT_EXECUTED)
        return f"could not be executed: {words[:1].lower()}{words[1:]}"
    if status >= TIMED_OUT:
        return "ran out of time"
    if posix.WIFSIGNALED(status):
        return f"was killed by signal {posix.WTERMSIG(status)}"
    return f"exited with status {posix.WEXITSTATUS(status)}"
