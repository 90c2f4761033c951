"""What a process that makes many containers need not find out again: specs, facts, plans.

A spec is kept by the bytes of its config.json, a plan by the spec and the options besides,
so that a changed file is a new entry. Facts about the machine are kept until its mount table
changes. A plan is the same for every id but for the id itself: it is compiled once for a
made-up id of the same length, which is then replaced in the plan's bytes.
"""

import posix
import select
import threading

from ocirun.plan.step import Plan
from ocirun.plan.wire import decode, encode
from ocirun.spec.fastjson import loads
from ocirun.spec.load import CONFIG, accept, read_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirun.plan.host import Host

_ENTRIES = 64
_SHORTEST = 8  # a shorter id could be in the plan by accident


class Cache:
    """Specs, host facts and plans. Safe with threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._specs: dict[bytes, dict[str, Any]] = {}
        self._plans: dict[tuple[object, ...], bytes] = {}
        self._host: Host | None = None
        self._mounts: select.poll | None = None
        self._table = -1
        self._owner = 0

    def close(self) -> None:
        """Forget everything, and let go of the mount table."""
        with self._lock:
            self._forget_table()
            self._specs.clear()
            self._plans.clear()

    def _forget_table(self) -> None:
        if self._table >= 0:
            posix.close(self._table)
        self._table, self._mounts, self._host = -1, None, None

    def load(self, bundle: str, config: str = "") -> "tuple[bytes, dict[str, Any]]":
        """The bytes of a bundle's config.json, and the spec: `spec.load.load_config`.

        The spec is shared: nobody may change it.
        """
        data = read_config(bundle, config)
        spec = self._specs.get(data)
        if spec is None:
            spec = accept(loads(data, config or f"{bundle}/{CONFIG}"), data, bundle, config)
            _keep(self._specs, data, spec)
        return data, spec

    def host(self, read: "Callable[[], Host]") -> "Host":
        """Facts about the machine, read by `read` if mounts have changed since the last time."""
        with self._lock:
            if self._owner != posix.getpid():
                # After a fork: the parent shares the open file, and would take its events.
                self._forget_table()
            if self._mounts is None:
                self._owner = posix.getpid()
                self._table = posix.open("/proc/self/mountinfo", posix.O_RDONLY | posix.O_CLOEXEC)
                self._mounts = select.poll()
                # Readable with POLLPRI when the mount table has changed (proc(5), mounts).
                self._mounts.register(self._table, select.POLLPRI)
            if self._mounts.poll(0) or self._host is None:
                self._host = read()
            return self._host

    def plan(
        self, key: tuple[object, ...], container_id: str, make: "Callable[[str], Plan]"
    ) -> tuple[Plan, bytes | None]:
        """The plan for an id, and its bytes; made by `make` if there is none for the key.

        The key holds all that the plan depends on but the id; the Host too, so that no
        plan is found that was compiled with other facts.
        """
        size = len(container_id)
        if size < _SHORTEST:
            return make(container_id), None
        key = (*key, size)
        kept = self._plans.get(key)
        if kept is None:
            stand_in = _stand_in(size)
            try:
                kept = stand_in + encode(make(stand_in.decode()))
            except ValueError:
                return make(container_id), None
            _keep(self._plans, key, kept)
        data = kept[size:].replace(kept[:size], container_id.encode())
        return decode(data), data


def _stand_in(size: int) -> bytes:
    """An id that nothing else in a plan contains."""
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return bytes(letters[byte % len(letters)] for byte in posix.urandom(size))


def _keep(where: "dict[Any, Any]", key: object, value: object) -> None:
    while len(where) >= _ENTRIES:
        try:
            where.pop(next(iter(where)), None)
        except (StopIteration, RuntimeError):  # another thread was faster
            break
    where[key] = value
