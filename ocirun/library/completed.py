"""What is known of a container that has ended."""

from typing import NamedTuple

from ocirun.errors import ContainerFailed
from ocirun.library.executor import End


class Usage(NamedTuple):
    """What a container has used, by wait4(2): init and what it has waited for.

    Attributes:
        user, system: seconds of processor time.
        max_rss: the largest resident memory of one process, in bytes.
    """

    user: float
    system: float
    max_rss: int


class CompletedContainer:
    """A container that has ended, as `subprocess.CompletedProcess` is for a process.

    Attributes:
        id: of the container.
        exit_status: of its command; 128 + n if signal n ended it; -1 if it is not
            known, since the executor was killed meanwhile.
        stdout, stderr: what it has written, if it was caught with PIPE; else None.
        oom_killed: the kernel killed a process of it for want of memory.
        usage: processor time and memory.
    """

    def __init__(
        self,
        id: str,
        exit_status: int,
        stdout: bytes | str | None,
        stderr: bytes | str | None,
        oom_killed: bool,
        usage: Usage,
    ) -> None:
        self.id = id
        self.exit_status = exit_status
        self.stdout = stdout
        self.stderr = stderr
        self.oom_killed = oom_killed
        self.usage = usage

    def check(self) -> None:
        """Raise ContainerFailed unless the exit status is 0."""
        if self.exit_status:
            why = " (out of memory)" if self.oom_killed else ""
            words = f"container {self.id} has ended with status {self.exit_status}{why}"
            raise ContainerFailed(words, self)

    def __repr__(self) -> str:
        shown = [f"id={self.id!r}", f"exit_status={self.exit_status}"]
        for name in ("stdout", "stderr"):
            if getattr(self, name) is not None:
                shown.append(f"{name}={getattr(self, name)!r}")
        if self.oom_killed:
            shown.append("oom_killed=True")
        return f"CompletedContainer({', '.join(shown)})"


def usage_of(end: End) -> Usage:
    """The usage that the executor has reported."""
    return Usage(end.user, end.system, end.max_rss * 1024)
