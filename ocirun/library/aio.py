"""The library on asyncio: the same operations, awaited.

What takes system calls of a millisecond runs in threads; what waits (for the end
of a container, for its output) waits in the event loop, on descriptors, and costs
no thread however many containers there are.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ocirun.library.completed import CompletedContainer, Usage
from ocirun.library.container import Container, late
from ocirun.library.exec import Command, CompletedExec, ExecTurn, request_of
from ocirun.library.executor import RemoteProcess
from ocirun.library.runtime import Bundle, ContainerInfo, Runtime, RunTurn
from ocirun.library.streams import Conversation, Stream
from ocirun.library.turn import D, Turn
from ocirun.runtime.events import Clock, Events, check_interval
from ocirun.runtime.run import exit_status

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

T = TypeVar("T")


class AsyncContainer:
    """A Container whose methods are awaited. `container` is the one behind it."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.id = container.id

    async def start(self) -> None:
        """Execute the container's command (runtime.md, "start")."""
        await asyncio.to_thread(self.container.start)

    async def state(self) -> dict[str, Any]:
        """The state of the container (runtime.md, "Query State")."""
        return await asyncio.to_thread(self.container.state)

    async def kill(self, signal: str | int = "TERM", all: bool = False) -> None:
        """Send a signal to init, or with `all` to every process (runtime.md, "kill")."""
        await asyncio.to_thread(self.container.kill, signal, all)

    async def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the container has ended: `Container.wait`."""
        process = self.container.process
        if process is None:
            return await asyncio.to_thread(self.container.wait, timeout)
        if not await _ended(process, timeout):
            raise late(self.id, timeout)
        end = process.ended()
        return None if end is None or end.status is None else exit_status(end.status)

    @property
    def usage(self) -> Usage | None:
        """What it has used, once it has ended."""
        return self.container.usage

    async def exec(
        self,
        command: Command,
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        input: bytes | str | None = None,
        capture_output: bool = False,
        text: bool = False,
        timeout: float | None = None,
        check: bool = False,
        **options: Any,
    ) -> CompletedExec:
        """Run one more process in the container to its end: `Container.exec`.

        If the task is cancelled, the process is killed.
        """
        box = self.container
        request = request_of(self.id, command, **options)
        turn = ExecTurn(
            box._settings, box._executor, request,
            stdin, stdout, stderr, input, capture_output, text,
        )  # fmt: skip
        return await _complete(turn, timeout, check)

    async def pause(self) -> None:
        """Stop every process of the container, until `resume`."""
        await asyncio.to_thread(self.container.pause)

    async def resume(self) -> None:
        """Let a paused container go on."""
        await asyncio.to_thread(self.container.resume)

    async def checkpoint(self, image_path: str | os.PathLike[str], **options: Any) -> None:
        """Write the container's processes to files, to the end: `Container.checkpoint`."""
        await _whole(partial(self.container.checkpoint, image_path, **options))

    async def processes(self) -> list[int]:
        """The pids of the container's processes: `Container.processes`."""
        return await asyncio.to_thread(self.container.processes)

    async def update(self, resources: Mapping[str, Any]) -> None:
        """Change limits: `Container.update`."""
        await asyncio.to_thread(self.container.update, resources)

    async def add_mounts(self, mounts: Sequence[Mapping[str, Any]]) -> None:
        """Mount in the container: `Container.add_mounts`."""
        await _whole(partial(self.container.add_mounts, mounts))

    async def remove_mounts(self, destinations: Sequence[str]) -> None:
        """Unmount in the container: `Container.remove_mounts`."""
        await _whole(partial(self.container.remove_mounts, destinations))

    async def stats(self) -> dict[str, Any]:
        """What the container uses now: `Container.stats`."""
        return await asyncio.to_thread(self.container.stats)

    async def events(self, interval: float | None = None) -> AsyncIterator[dict[str, Any]]:
        """Events as they happen, until the container has ended: `Container.events`.

        Raises NotFound, WrongStatus, UsageError, when the first one is waited for.
        """
        check_interval(interval)
        source = Events(self.container._settings, self.id)
        try:
            clock = Clock(interval)
            while not source.ended:
                try:
                    async with asyncio.timeout(clock.left()):
                        await _until_readable(source.fd)
                except TimeoutError:
                    pass
                for event in source.take(0):
                    yield event
                if not source.ended and clock.is_due():
                    yield source.stats()
        finally:
            source.close()

    async def delete(self, force: bool = False) -> None:
        """Delete the container; with `force` in any state (runtime.md, "delete")."""
        await asyncio.to_thread(self.container.delete, force)


class AsyncRuntime:
    """A Runtime whose methods are awaited. It takes the same arguments.

    Example:
        async with ocirun.AsyncRuntime() as rt:
            done = await rt.run("bundles/hello", capture_output=True)
    """

    def __init__(
        self,
        root: "str | os.PathLike[str]" = "",
        *,
        systemd_cgroup: bool = False,
        cgroup_manager: str = "cgroupfs",
        debug: "Callable[[str], None] | None" = None,
    ) -> None:
        self._runtime = Runtime(
            root, systemd_cgroup=systemd_cgroup, cgroup_manager=cgroup_manager, debug=debug
        )

    async def __aenter__(self) -> "Self":
        await asyncio.to_thread(self._runtime.__enter__)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        await asyncio.to_thread(self._runtime.close)

    @property
    def root(self) -> str:
        """The directory that holds the containers' state."""
        return self._runtime.root

    async def create(self, id: str, bundle: Bundle, **options: Any) -> AsyncContainer:
        """Create a container that waits for `start`: `Runtime.create`.

        If the task is cancelled, the container is deleted again.
        """
        make = partial(self._runtime.create, id, bundle, **options)
        return AsyncContainer(await _whole(make, partial(Container.delete, force=True)))

    async def restore(
        self, id: str, bundle: Bundle, image_path: str | os.PathLike[str], **options: Any
    ) -> AsyncContainer:
        """Make a container again from what a checkpoint has written: `Runtime.restore`.

        If the task is cancelled, the container is deleted again.
        """
        make = partial(self._runtime.restore, id, bundle, image_path, **options)
        return AsyncContainer(await _whole(make, partial(Container.delete, force=True)))

    async def run(
        self,
        bundle: Bundle,
        *,
        id: str | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        input: bytes | str | None = None,
        capture_output: bool = False,
        text: bool = False,
        timeout: float | None = None,
        check: bool = False,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
    ) -> CompletedContainer:
        """Run a container to its end and delete it: `Runtime.run`.

        If the task is cancelled, the container is killed and deleted.
        """
        turn = RunTurn(
            self._runtime, bundle, id, stdin, stdout, stderr, input, capture_output, text
        )
        turn.request.no_pivot = no_pivot
        turn.request.no_new_keyring = no_new_keyring
        return await _complete(turn, timeout, check)

    async def get(self, id: str) -> AsyncContainer:
        """A container by its id: `Runtime.get`."""
        return AsyncContainer(self._runtime.get(id))

    async def list(self) -> list[ContainerInfo]:
        """All containers, sorted by id: `Runtime.list`."""
        return await asyncio.to_thread(self._runtime.list)

    async def delete(self, id: str, *, force: bool = False) -> None:
        """Delete a container: `Runtime.delete`."""
        await asyncio.to_thread(self._runtime.delete, id, force=force)


async def _ended(process: RemoteProcess, timeout: float | None) -> bool:
    """Wait in the loop until a process has ended; False if `timeout` seconds were not enough."""
    try:
        async with asyncio.timeout(timeout):
            while process.ended() is None:
                await _until_readable(process.awaited())
    except TimeoutError:
        return False
    return True


async def _until_readable(fd: int) -> None:
    """Wait in the loop, which knows one waiter a descriptor: so each has its own."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    own = os.dup(fd)
    loop.add_reader(own, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(own)
        os.close(own)


async def _whole(work: "Callable[[], T]", undo: "Callable[[T], object] | None" = None) -> "T":
    """Do something in a thread, to its end: a cancellation, or several, comes through later.

    `undo` takes back what was done for a task that has been cancelled meanwhile.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if undo is not None and task.exception() is None:
        await _whole(partial(undo, task.result()))
    task.exception()  # seen: nobody else will ask for it
    raise cancelled


async def _complete(turn: Turn[D], timeout: float | None, check: bool) -> D:
    """`Turn.complete` in the loop. If the task is cancelled, what runs is ended."""
    try:
        await _whole(turn.begin)
        if not await _hold(turn.talk, timeout):
            await _whole(turn.abort)
            raise turn.timed_out(timeout)
        done = await _whole(turn.finish)
    finally:
        await _whole(turn.close)
    if check:
        done.check()
    return done


async def _hold(talk: Conversation, timeout: float | None) -> bool:
    """`Conversation.hold` in the loop."""
    loop = asyncio.get_running_loop()
    readers = talk.readers()
    writer = talk.writer()

    def read(fd: int, number: int) -> None:
        talk.read(number)
        if fd not in talk.readers():
            loop.remove_reader(fd)

    def write() -> None:
        talk.write()
        if talk.writer() < 0:
            loop.remove_writer(writer)

    for fd, number in readers.items():
        loop.add_reader(fd, read, fd, number)
    if writer >= 0:
        loop.add_writer(writer, write)
    try:
        return await _ended(talk.process, timeout)
    finally:
        for fd in talk.readers():
            loop.remove_reader(fd)
        if talk.writer() >= 0:
            loop.remove_writer(writer)
