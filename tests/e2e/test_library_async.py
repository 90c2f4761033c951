"""The library on asyncio: the same containers, awaited, many at a time."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import Bundle

import ocirun
from ocirun.errors import AlreadyExists, CommandNotFound, NotFound, StepFailed, WrongStatus

pytestmark = [pytest.mark.root, pytest.mark.only("ocirun")]

Work = Callable[[ocirun.AsyncRuntime], Awaitable[Any]]
Loop = Callable[[Work], Any]


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    """Runs a coroutine function with an AsyncRuntime, in an event loop of its own."""

    def run(work: Work) -> Any:
        async def main() -> Any:
            async with ocirun.AsyncRuntime(tmp_path / "state") as rt:
                result = await work(rt)
                assert await rt.list() == []
                return result

        return asyncio.run(main())

    before = len(os.listdir("/proc/self/fd"))
    yield run
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"


def executor(rt: ocirun.AsyncRuntime) -> int:
    return rt._runtime._executor.pid


STREAMS = (
    ({}, "exit 7", 7, None, None),
    ({"capture_output": True}, "echo out; echo err >&2", 0, b"out\n", b"err\n"),
    ({"capture_output": True, "text": True}, "echo out; exit 3", 3, "out\n", ""),
    (
        {"stdout": ocirun.PIPE, "stderr": ocirun.STDOUT},
        "echo out; echo err >&2",
        0,
        b"out\nerr\n",
        None,
    ),
    ({"stdout": ocirun.PIPE, "input": b"abc"}, "cat", 0, b"abc", None),
    ({"stdout": ocirun.PIPE, "input": b""}, "cat", 0, b"", None),
    ({"stdout": ocirun.PIPE, "input": "äbc", "text": True}, "cat", 0, "äbc", None),
    ({"stdout": ocirun.PIPE, "stdin": ocirun.DEVNULL}, "cat; echo end", 0, b"end\n", None),
    ({"stdout": ocirun.PIPE, "input": b"x" * 1000000}, "exit 0", 0, b"", None),
    ({"stdout": ocirun.PIPE, "input": b"x" * 1000000}, "cat", 0, b"x" * 1000000, None),
    ({"stdout": ocirun.PIPE}, "exec >&-; sleep 0.2; exit 4", 4, b"", None),
    ({"stdout": ocirun.DEVNULL, "stderr": ocirun.DEVNULL}, "echo out", 0, None, None),
    ({"timeout": 30}, "kill -KILL $$; exit 5", 5, None, None),  # init ignores its own signals
)


@pytest.mark.parametrize(("options", "script", "status", "stdout", "stderr"), STREAMS)
def test_run(
    loop: Loop, bundle: Bundle, options: dict, script: str, status: int, stdout: Any, stderr: Any
) -> None:
    folder = bundle.sh(script).write()
    done = loop(lambda rt: rt.run(folder, **options))
    assert (done.exit_status, done.stdout, done.stderr) == (status, stdout, stderr)
    assert done.id.startswith("run-")
    assert not done.oom_killed
    assert done.usage.max_rss > 0


def test_twenty_at_once(loop: Loop, bundle: Bundle) -> None:
    """They overlap, and each gets its own input, output and status."""
    folder = bundle.sh('read n; sleep 0.3; echo "$n"; exit "$n"').drop("/linux/cgroupsPath").write()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        runs = [rt.run(folder, input=f"{n}\n", text=True, stdout=ocirun.PIPE) for n in range(20)]
        every = await asyncio.gather(*runs)
        assert [done.exit_status for done in every] == list(range(20))
        assert [done.stdout for done in every] == [f"{n}\n" for n in range(20)]
        assert len({done.id for done in every}) == 20

    began = time.monotonic()
    loop(work)
    assert time.monotonic() - began < 20 * 0.3


def test_the_loop_goes_on_meanwhile(loop: Loop, bundle: Bundle) -> None:
    folder = bundle.sh("sleep 0.5").write()

    async def work(rt: ocirun.AsyncRuntime) -> int:
        run = asyncio.ensure_future(rt.run(folder))
        ticks = 0
        while not run.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert (await run).exit_status == 0
        return ticks

    assert loop(work) >= 10


def test_a_timeout_kills_and_deletes(loop: Loop, bundle: Bundle) -> None:
    folder = bundle.sh("echo first; sleep 100").write()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        with pytest.raises(ocirun.ContainerTimeout) as caught:
            await rt.run(folder, stdout=ocirun.PIPE, timeout=0.5)
        assert (caught.value.stdout, caught.value.timeout) == (b"first\n", 0.5)
        assert await rt.list() == []

    began = time.monotonic()
    loop(work)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("delay", [0, 0.001, 0.01, 0.5])
def test_a_cancelled_task_kills_and_deletes(loop: Loop, bundle: Bundle, delay: float) -> None:
    """Whether it is being made, or runs already."""
    folder = bundle.sh("echo up; sleep 100").write()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        task = asyncio.ensure_future(rt.run(folder, stdout=ocirun.PIPE))
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await rt.list() == []

    began = time.monotonic()
    loop(work)
    assert time.monotonic() - began < 10


def test_one_that_fails_ends_the_others_of_its_group(loop: Loop, bundle: Bundle) -> None:
    slow = bundle.drop("/linux/cgroupsPath").sh("sleep 100").write()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(rt.run(slow))
                group.create_task(rt.run(slow, timeout=0.5))
        assert [type(error) for error in caught.value.exceptions] == [ocirun.ContainerTimeout]
        assert await rt.list() == []

    loop(work)


def test_the_life_of_a_container(loop: Loop, bundle: Bundle) -> None:
    folder = bundle.args("/bin/sleep", "100").write()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        held = await rt.create(bundle.id, folder)
        assert (await held.state())["status"] == "created"
        with pytest.raises(AlreadyExists):
            await rt.create(bundle.id, folder)
        await held.start()
        with pytest.raises(WrongStatus):
            await held.start()
        with pytest.raises(WrongStatus):
            await held.delete()
        assert [(info.id, info.status) for info in await rt.list()] == [(bundle.id, "running")]
        with pytest.raises(ocirun.ContainerTimeout) as caught:
            await held.wait(timeout=0.05)
        assert caught.value.timeout == 0.05
        other = await rt.get(bundle.id)
        with pytest.raises(ocirun.ContainerTimeout):
            await other.wait(timeout=0.05)
        assert held.usage is None
        await held.kill("KILL")
        assert await held.wait(timeout=10) == 137
        assert await held.wait() == 137
        assert await other.wait(timeout=10) is None  # not made by this object
        assert (await held.state())["status"] == "stopped"
        assert held.usage is not None and held.usage.max_rss > 0
        await held.delete()
        with pytest.raises(NotFound):
            await held.state()

    loop(work)


def test_a_cancelled_wait_leaves_the_container_alone(loop: Loop, bundle: Bundle) -> None:
    folder = bundle.sleeper().write()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        held = await rt.create(bundle.id, folder)
        await held.start()
        task = asyncio.ensure_future(held.wait())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await held.state())["status"] == "running"
        await rt.delete(bundle.id, force=True)
        assert await held.wait(timeout=10) == 137

    loop(work)


def test_pipes_of_a_created_container(loop: Loop, bundle: Bundle) -> None:
    folder = bundle.args("/bin/cat").write()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        held = await rt.create(bundle.id, folder, stdin=ocirun.PIPE, stdout=ocirun.PIPE, text=True)
        stdin, stdout = held.container.stdin, held.container.stdout
        assert stdin and stdout
        await held.start()
        with stdin:
            stdin.write("hello\n")
        assert await held.wait(timeout=10) == 0
        with stdout:
            assert stdout.read() == "hello\n"
        await held.delete()

    loop(work)


def test_errors_carry_their_facts(loop: Loop, bundle: Bundle) -> None:
    entry = {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["size=lots"]}
    folder = str(bundle.add("/mounts", entry).write())

    async def work(rt: ocirun.AsyncRuntime) -> None:
        for attempt in (rt.run(folder, capture_output=True), rt.create(bundle.id, folder)):
            with pytest.raises(StepFailed) as caught:
                await attempt
            error = caught.value
            assert error.pointer.startswith("/mounts/")
            assert (error.syscall, error.errno, error.bundle) == ("fsconfig(size)", 22, folder)
            assert error.step == "mount tmpfs on /data (size=lots)"
            assert error.hint

    loop(work)


def test_other_failures(loop: Loop, bundle: Bundle) -> None:
    folder = bundle.sh("exit 7").write()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        with pytest.raises(ocirun.ContainerFailed) as caught:
            await rt.run(folder, id="named", check=True)
        assert (caught.value.container.id, caught.value.container.exit_status) == ("named", 7)
        with pytest.raises(ValueError, match="exclude"):
            await rt.run(folder, stdin=ocirun.PIPE, input=b"")
        with pytest.raises(NotFound):
            await (await rt.get("nobody")).state()
        bundle.args("no-such-program").write()
        with pytest.raises(CommandNotFound):
            await rt.run(folder)

    loop(work)


def test_an_executor_that_dies_during_a_run(loop: Loop, bundle: Bundle) -> None:
    """The container goes on, and is waited for; nobody knows its status."""
    folder = bundle.sh("sleep 1; echo end").write()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        asyncio.get_running_loop().call_later(0.5, os.kill, executor(rt), signal.SIGKILL)
        done = await rt.run(folder, stdout=ocirun.PIPE)
        assert (done.exit_status, done.stdout) == (-1, b"end\n")

    loop(work)


def test_a_dead_executor_is_replaced(loop: Loop, bundle: Bundle) -> None:
    folder = bundle.drop("/linux/cgroupsPath").sh("sleep 0.3; exit 3").write()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        held = await rt.create(bundle.id, folder)
        first = executor(rt)
        os.kill(first, signal.SIGKILL)
        await held.start()
        assert (await rt.run(folder)).exit_status == 3
        assert executor(rt) != first
        assert await held.wait(timeout=10) is None
        await held.delete()

    loop(work)


def test_an_orphan_can_still_be_late_and_killed(loop: Loop, bundle: Bundle) -> None:
    folder = bundle.sh("sleep 100").write()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        asyncio.get_running_loop().call_later(0.3, os.kill, executor(rt), signal.SIGKILL)
        with pytest.raises(ocirun.ContainerTimeout):
            await rt.run(folder, timeout=0.8)
        assert await rt.list() == []

    loop(work)


def test_a_container_by_its_id(loop: Loop, bundle: Bundle, tmp_path: Path) -> None:
    """Made by a Runtime without a loop, it is the same one here."""
    with ocirun.Runtime(tmp_path / "state") as plain:
        plain.create(bundle.id, bundle.sleeper().write()).start()

    async def work(rt: ocirun.AsyncRuntime) -> None:
        assert rt.root == str(tmp_path / "state")
        other = await rt.get(bundle.id)
        waiting = asyncio.ensure_future(other.wait())
        await asyncio.sleep(0.1)
        await other.kill("TERM")
        assert await waiting is None
        await other.delete()

    loop(work)


def test_two_tasks_wait_for_one_container(loop: Loop, bundle: Bundle) -> None:
    async def work(rt: ocirun.AsyncRuntime) -> None:
        made = await rt.create(bundle.id, bundle.sh("sleep 0.2; exit 4").write())
        await made.start()
        waits = [asyncio.create_task(made.wait(timeout=20)) for _ in range(3)]
        assert await asyncio.gather(*waits) == [4, 4, 4]
        await made.delete()

    loop(work)


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.003, 0.006, 0.01, 0.05])
def test_a_task_that_is_cancelled_twice(loop: Loop, bundle: Bundle, delay: float) -> None:
    async def work(rt: ocirun.AsyncRuntime) -> None:
        task = asyncio.create_task(rt.run(bundle.args("/bin/sleep", "100").write()))
        await asyncio.sleep(delay)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    loop(work)


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.003])
def test_a_create_that_is_cancelled(loop: Loop, bundle: Bundle, delay: float) -> None:
    async def work(rt: ocirun.AsyncRuntime) -> None:
        task = asyncio.create_task(rt.create(bundle.id, bundle.sleeper().write()))
        await asyncio.sleep(delay)
        if task.cancel():  # it may have been quicker
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await (await task).delete(force=True)

    loop(work)
