"""events: what a container uses, when it runs out of memory, and its end.

An event has runc's form: {"type": "stats" or "oom", "id": ..., "data": statistics}. The
waiting is the caller's, in a thread or in a loop: `Events.fd` is readable when there is
something to take. Sources: epoll(7); the kernel's admin-guide/cgroup-v1/memory.rst,
"OOM Control", and cgroup-v2.rst, "memory.events".
"""

import posix
import select
import time

from ocirun.cgroups.stats import read_stats
from ocirun.errors import UsageError, WrongStatus
from ocirun.runtime.settings import Settings, status_of
from ocirun.state.store import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "ns": 1e-9}


def stats(settings: Settings, container_id: str) -> "dict[str, Any]":
    """What a container uses now, in runc's form. Raises NotFound, WrongStatus ("not running")."""
    return _statistics(_living(settings, container_id))


def _living(settings: Settings, container_id: str) -> Record:
    folder = settings.store.open(container_id)
    try:
        record = folder.read()
        status = status_of(folder, record)
    finally:
        folder.close()
    if status in ("stopped", "creating"):
        raise WrongStatus(
            f"container {record.id} is not running: it is {status}", bundle=record.bundle
        )
    return record


def _statistics(record: Record) -> "dict[str, Any]":
    found = read_stats(record.cgroups)
    if record.fields.get("rdt"):
        from ocirun.runtime.rdtstats import read_resctrl

        found["intel_rdt"] = read_resctrl(*record.fields["rdt"])
    return found


class Events:
    """The events of a container, from now on until it has ended.

    Attributes:
        fd: readable when `take` has something to do.
        ended: the container has ended, or is about to.

    Raises NotFound, WrongStatus.
    """

    def __init__(self, settings: Settings, container_id: str) -> None:
        self._opened: list[int] = []
        self._poll = select.epoll(select.EPOLL_CLOEXEC)
        self.fd = self._poll.fileno()
        self._record = record = _living(settings, container_id)
        self.ended = False
        self._memory = -1  # memory.events, or the counter of v1
        self._kills = 0
        try:
            try:
                self._end = self._open(posix.pidfd_open(record.pid))
            except ProcessLookupError:
                self.ended = True
                return
            self._poll.register(self._end, select.EPOLLIN)
            if not record.is_alive():  # the pid is another's by now
                self.ended = True
            self._watch_memory()
        except BaseException:
            self.close()
            raise

    def _open(self, fd: int) -> int:
        self._opened.append(fd)
        return fd

    def _watch_memory(self) -> None:
        """Without a memory controller nobody tells."""
        paths = self._record.cgroups
        try:
            if "memory" in paths:
                control = f"{paths['memory']}/memory.oom_control"
                watched = self._open(posix.open(control, posix.O_RDONLY | posix.O_CLOEXEC))
                counter = self._open(posix.eventfd(0, posix.EFD_CLOEXEC | posix.EFD_NONBLOCK))
                registry = f"{paths['memory']}/cgroup.event_control"
                fd = posix.open(registry, posix.O_WRONLY | posix.O_CLOEXEC)
                try:
                    posix.write(fd, b"%d %d" % (counter, watched))
                finally:
                    posix.close(fd)
                self._memory = counter
                self._poll.register(counter, select.EPOLLIN)
            elif "" in paths:
                events = f"{paths['']}/memory.events"
                self._memory = self._open(posix.open(events, posix.O_RDONLY | posix.O_CLOEXEC))
                self._kills = self._count_kills()
                self._poll.register(self._memory, select.EPOLLPRI)
        except FileNotFoundError:
            self._memory = -1

    def take(self, timeout: float) -> "list[dict[str, Any]]":
        """What has happened; waits for it for at most `timeout` seconds."""
        happened: list[dict[str, Any]] = []
        if self.ended:
            return happened
        ready = [fd for fd, _ in self._poll.poll(timeout)]
        # The last process may have been killed for want of memory.
        if ready and self._memory >= 0 and self._was_out_of_memory():
            happened.append({"type": "oom", "id": self._record.id})
        self.ended = self._end in ready
        return happened

    def _was_out_of_memory(self) -> bool:
        if "memory" in self._record.cgroups:
            try:
                posix.eventfd_read(self._memory)
            except BlockingIOError:
                return False
            # The kernel tells the end of a cgroup in the same way.
            return _exists(self._record.cgroups["memory"])
        before, self._kills = self._kills, self._count_kills()
        return self._kills > before

    def _count_kills(self) -> int:
        try:
            lines = posix.pread(self._memory, 4096, 0).splitlines()
        except OSError:  # ENODEV: the cgroup has been removed
            return self._kills
        return sum(int(line[9:]) for line in lines if line.startswith(b"oom_kill "))

    def stats(self) -> "dict[str, Any]":
        """An event with what the container uses now."""
        return {"type": "stats", "id": self._record.id, "data": _statistics(self._record)}

    def close(self) -> None:
        """Let go of all descriptors."""
        self._poll.close()
        while self._opened:
            posix.close(self._opened.pop())

    def __del__(self) -> None:
        self.close()


class Clock:
    """When the next statistics are due: every `interval` seconds, never if that is None."""

    def __init__(self, interval: float | None) -> None:
        self._interval = interval
        self._next = time.monotonic() + (interval or 0.0)

    def left(self) -> float | None:
        """Seconds until they are; None for never."""
        return None if self._interval is None else max(0.0, self._next - time.monotonic())

    def is_due(self) -> bool:
        """Whether they are; the time of the next ones is set then."""
        if self._interval is None or time.monotonic() < self._next:
            return False
        self._next = max(self._next + self._interval, time.monotonic())
        return True


def events(
    settings: Settings, container_id: str, interval: float | None = None
) -> "Iterator[dict[str, Any]]":
    """The events of a container as they happen, until it has ended.

    Args:
        interval: seconds between statistics; None for none.

    Raises NotFound, WrongStatus, UsageError, at once.
    """
    check_interval(interval)
    return _events(Events(settings, container_id), interval)


def _events(source: Events, interval: float | None) -> "Iterator[dict[str, Any]]":
    try:
        clock = Clock(interval)
        while not source.ended:
            left = clock.left()
            yield from source.take(-1 if left is None else left)
            if not source.ended and clock.is_due():
                yield source.stats()
    finally:
        source.close()


def check_interval(interval: float | None) -> None:
    """Raise UsageError unless it is None or above 0."""
    if interval is not None and not 0 < interval < 1e8:
        raise UsageError(f"duration interval must be greater than 0, not {interval}")


def parse_duration(text: str) -> float:
    """Seconds of a duration as Go writes it: 500ms, 5s, 1m30s, 1.5h. Raises UsageError."""
    total, number, unit = 0.0, "", ""
    for one in text + "\0":
        if unit and (one.isdigit() or one in ".\0"):
            if unit not in _UNITS or not _is_number(number):
                break
            total += float(number) * _UNITS[unit]
            number = unit = ""
            if one == "\0":
                return total
        if one.isdigit() or one == ".":
            number += one
        else:
            unit += one
    raise UsageError(
        f"invalid duration {text!r}", hint="give a number and a unit: 500ms, 5s, 1m30s"
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.count(".") <= 1 and text.strip(".") != ""


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True
