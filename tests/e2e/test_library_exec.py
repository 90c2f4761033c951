"""The library's Container: exec, pause, resume, update, stats, events; and all of it awaited."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.leaks import children
from lib.limits import folder, limit
from lib.runtime import Runtime as Command
from lib.runtime import wait_for
from lib.terminal import ConsoleSocket

import ocirun
from ocirun.errors import (
    CommandNotFound,
    InvalidConfig,
    NotFound,
    StepFailed,
    UsageError,
    WrongStatus,
)

pytestmark = [pytest.mark.root, pytest.mark.only("ocirun")]

MB = 1 << 20


@pytest.fixture
def rt(tmp_path: Path) -> Iterator[ocirun.Runtime]:
    """A Runtime that must leave nothing behind, no descriptor and no child."""
    before = len(os.listdir("/proc/self/fd"))
    with ocirun.Runtime(tmp_path / "state") as made:
        yield made
        assert made.list() == []
        assert executors_children(made) == []
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"


def executors_children(rt: ocirun.Runtime) -> list[str]:
    """What the executor has not waited for, but for its spare."""
    pid = rt._executor.pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for one in found if Path(f"/proc/{one}/cmdline").read_bytes() == b""]


@pytest.fixture
def box(rt: ocirun.Runtime, bundle: Bundle) -> Iterator[ocirun.Container]:
    """A container that runs."""
    bundle.set("/linux/resources/pids", {"limit": 50})
    container = rt.create(bundle.id, bundle.sleeper().write())
    container.start()
    wait_for(lambda: len(container.processes()) == 2, "the shell and its child")
    yield container
    container.delete(force=True)


STREAMS = (
    ({}, "exit 7", 7, None, None),
    ({"capture_output": True}, "echo out; echo err >&2", 0, b"out\n", b"err\n"),
    ({"capture_output": True, "text": True}, "echo out; exit 3", 3, "out\n", ""),
    ({"stdout": ocirun.PIPE, "stderr": ocirun.STDOUT}, "echo a; echo b >&2", 0, b"a\nb\n", None),
    ({"stdout": ocirun.PIPE, "input": b"abc"}, "cat", 0, b"abc", None),
    ({"stdout": ocirun.PIPE, "input": "\u00e4", "text": True}, "cat", 0, "\u00e4", None),
    ({"stdout": ocirun.PIPE, "input": b"x" * 1000000}, "cat", 0, b"x" * 1000000, None),
    ({"stdout": ocirun.PIPE, "stdin": ocirun.DEVNULL}, "cat; echo end", 0, b"end\n", None),
    ({}, "kill -9 $$", 137, None, None),
)  # fmt: skip


@pytest.mark.parametrize(("options", "script", "status", "out", "err"), STREAMS)
def test_streams(
    box: ocirun.Container, options: Any, script: str, status: int, out: Any, err: Any
) -> None:
    done = box.exec(["sh", "-c", script], **options)
    assert (done.exit_status, done.stdout, done.stderr) == (status, out, err)
    assert (done.id, done.args) == (box.id, ["sh", "-c", script])


PROCESSES: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"env": {"A": "1", "B": "2"}}, "echo $A$B", "12"),
    ({"cwd": "/tmp"}, "pwd", "/tmp"),
    ({"user": 12}, "id -u; id -g", "12 0"),
    ({"user": (12, 13)}, "id -u; id -g", "12 13"),
    ({"user": 0}, "id -u", "0"),
    ({"groups": [21, 22]}, "id -G", "0 21 22"),
    ({"capabilities": ["CAP_NET_RAW"]}, "grep CapBnd /proc/self/status | cut -c8-", "0000000020002420"),
    ({"no_new_privileges": True}, "grep NoNew /proc/self/status", "NoNewPrivs: 1"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "script", "seen"), PROCESSES, ids=["-".join(row[0]) for row in PROCESSES]
)
def test_process(box: ocirun.Container, options: dict[str, Any], script: str, seen: str) -> None:
    done = box.exec(["sh", "-c", script], capture_output=True, text=True, check=True, **options)
    assert str(done.stdout).split() == seen.split()


def test_whole_process(box: ocirun.Container) -> None:
    process = {"args": ["sh", "-c", "echo $A; pwd"], "cwd": "/bin", "env": ["A=5", "PATH=/bin"]}
    done = box.exec(process, capture_output=True, text=True)
    assert (done.stdout, done.args) == ("5\n/bin\n", process["args"])
    with pytest.raises(UsageError, match="whole process"):
        box.exec(process, cwd="/")


@pytest.mark.parametrize("space", ["pid", "mnt", "uts", "ipc", "net", "cgroup"])
def test_namespaces(box: ocirun.Container, space: str) -> None:
    done = box.exec(["readlink", f"/proc/self/ns/{space}"], stdout=ocirun.PIPE, text=True)
    assert str(done.stdout).strip() == os.readlink(f"/proc/{box.pid}/ns/{space}")


def test_user_namespace(rt: ocirun.Runtime, bundle: Bundle) -> None:
    container = rt.create(bundle.id, bundle.user_namespace().sleeper().write())
    done = container.exec(["cat", "/proc/self/uid_map"], stdout=ocirun.PIPE, text=True)
    assert str(done.stdout).split() == ["0", "100000", "65536"]
    container.delete(force=True)


def test_cgroups(box: ocirun.Container) -> None:
    script = "cat /proc/1/cgroup; echo; cat /proc/self/cgroup"
    done = box.exec(["sh", "-c", script], stdout=ocirun.PIPE, text=True)
    first, second = str(done.stdout).split("\n\n")
    assert first.strip() == second.strip() != ""


def test_seccomp(rt: ocirun.Runtime, bundle: Bundle) -> None:
    """The filter is the last thing before the execve, in the executor's child too."""
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}
    bundle.set("/linux/seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    container = rt.create(bundle.id, bundle.sleeper().write())
    done = container.exec(["mkdir", "/tmp/x"], capture_output=True, text=True)
    assert done.exit_status != 0
    assert "99" in str(done.stderr) or os.strerror(99) in str(done.stderr)
    container.delete(force=True)


def test_no_descriptor_is_left(box: ocirun.Container) -> None:
    done = box.exec(["ls", "/proc/self/fd"], stdout=ocirun.PIPE, text=True)
    assert str(done.stdout).split() == ["0", "1", "2", "3"]


def test_terminal(box: ocirun.Container, folder: Path) -> None:
    with ConsoleSocket(folder / "console") as server:
        seen: list[bytes] = []
        over = threading.Event()

        def hold() -> None:
            with server.receive() as master:
                seen.append(master.read_until(b"/dev/pts/0"))
                master.write(b"\n")
                master.read_until(b"end")
                over.wait(10)  # a terminal that closes would end the shell

        holder = threading.Thread(target=hold)
        holder.start()
        script, console = ["sh", "-c", "tty; read x; echo end"], str(server.path)
        done = box.exec(script, terminal=True, console_socket=console)
        over.set()
        holder.join()
    assert done.exit_status == 0
    assert seen
    with pytest.raises(UsageError, match="nobody is there"):
        box.exec(["tty"], terminal=True)


def test_timeout(box: ocirun.Container) -> None:
    with pytest.raises(ocirun.ContainerTimeout) as caught:
        box.exec(["sh", "-c", "echo begun; exec sleep 100"], timeout=0.3, stdout=ocirun.PIPE)
    assert caught.value.stdout == b"begun\n"
    assert len(box.processes()) == 2


def test_check(box: ocirun.Container) -> None:
    with pytest.raises(ocirun.ContainerFailed, match="has ended with status 4") as caught:
        box.exec(["sh", "-c", "exit 4"], check=True)
    assert isinstance(caught.value.container, ocirun.CompletedExec)
    assert caught.value.container.exit_status == 4


ERRORS: tuple[tuple[Any, dict[str, Any], type[Exception]], ...] = (
    (["nothere"], {}, CommandNotFound),
    (["/no/such/file"], {}, CommandNotFound),
    ([], {}, UsageError),
    ("true", {}, TypeError),
    (["true"], {"cwd": "/nowhere"}, StepFailed),
    (["true"], {"cwd": "tmp"}, InvalidConfig),
    (["true"], {"user": -1}, InvalidConfig),
    (["true"], {"cgroup": "../.."}, ocirun.OcirunError),
    (["true"], {"nonsense": 5}, TypeError),
    (["true"], {"stdin": ocirun.PIPE, "input": b""}, ValueError),
)


@pytest.mark.parametrize(("command", "options", "error"), ERRORS)
def test_errors(
    box: ocirun.Container, command: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        box.exec(command, **options)
    assert len(box.processes()) == 2
    assert box.exec(["true"]).exit_status == 0


def test_wrong_status(box: ocirun.Container) -> None:
    box.pause()
    assert box.state()["status"] == "paused"
    with pytest.raises(WrongStatus, match="paused"):
        box.exec(["true"])
    with pytest.raises(WrongStatus):
        box.pause()
    box.resume()
    with pytest.raises(WrongStatus):
        box.resume()
    assert box.exec(["true"]).exit_status == 0
    box.kill("KILL")
    box.wait(10)
    for work in (lambda: box.exec(["true"]), box.pause, box.stats, lambda: box.update({})):
        with pytest.raises(WrongStatus):
            work()


def test_created(rt: ocirun.Runtime, bundle: Bundle) -> None:
    container = rt.create(bundle.id, bundle.sleeper().write())
    assert container.exec(["echo", "spam"], stdout=ocirun.PIPE).stdout == b"spam\n"
    container.delete(force=True)


def test_unknown(rt: ocirun.Runtime) -> None:
    nobody = rt.get("nobody")
    for work in (
        lambda: nobody.exec(["true"]),
        nobody.pause,
        nobody.resume,
        nobody.processes,
        nobody.stats,
        nobody.events,
        lambda: nobody.update({}),
    ):
        with pytest.raises(NotFound):
            work()


def test_somebody_elses_container(
    rt: ocirun.Runtime, runtime: Command, bundle: Bundle, tmp_path: Path
) -> None:
    runtime.root = tmp_path / "state"
    runtime.create(bundle.sleeper()).ok()
    assert rt.get(bundle.id).exec(["echo", "spam"], stdout=ocirun.PIPE).stdout == b"spam\n"
    rt.get(bundle.id).delete(force=True)


def test_many_at_once(box: ocirun.Container) -> None:
    seen: list[Any] = []

    def work(number: int) -> None:
        for _ in range(5):
            done = box.exec(["echo", str(number)], stdout=ocirun.PIPE, text=True)
            seen.append((number, done.stdout))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(n, f"{n}\n") for n in range(4) for _ in range(5)]


def test_executor_dies(rt: ocirun.Runtime, box: ocirun.Container) -> None:
    """What runs lives on, its status is not known; the next one gets a new executor."""
    killer = threading.Timer(0.3, lambda: os.kill(rt._executor.pid, signal.SIGKILL))
    killer.start()
    done = box.exec(["sh", "-c", "sleep 0.8; echo spam"], stdout=ocirun.PIPE)
    assert (done.exit_status, done.stdout) == (-1, b"spam\n")
    killer.join()
    children()  # this process has become its parent, and the pid namespace waits for that
    assert box.exec(["true"]).exit_status == 0


# Limits, statistics, events.


def test_processes(box: ocirun.Container) -> None:
    before = set(box.processes())
    assert box.pid in before
    thread = threading.Thread(target=lambda: box.exec(["sleep", "0.5"]))
    thread.start()
    new = wait_for(lambda: set(box.processes()) - before, "another process")
    assert (
        Path(f"/proc/{new.pop()}/ns/pid").readlink() == Path(f"/proc/{box.pid}/ns/pid").readlink()
    )
    thread.join()


def test_update(box: ocirun.Container) -> None:
    box.update({"pids": {"limit": 7}})
    assert limit(box.pid, "pids.max") == "7"
    assert box.stats()["pids"]["limit"] == 7
    with pytest.raises(InvalidConfig) as caught:
        box.update({"pids": {"limit": "many"}})
    assert [one.pointer for one in caught.value.findings] == ["/pids/limit"]  # type: ignore[attr-defined]
    with pytest.raises(StepFailed) as failed:
        box.update({"pids": {"limit": 9}, "cpu": {"cpus": "700"}})
    assert failed.value.pointer == "/cpu/cpus"
    assert limit(box.pid, "pids.max") == "7"


def eater(bundle: Bundle) -> Bundle:
    """A container that runs out of memory whenever /tmp/eat is there."""
    bundle.set("/linux/resources/memory", {"limit": 16 * MB, "swap": 16 * MB})
    eat = "tail -c 100000000 /dev/zero > /dev/null"
    bundle.mount("/tmp", "tmpfs", "tmpfs")
    return bundle.sh(f"while :; do [ -e /tmp/eat ] && {{ rm /tmp/eat; {eat}; }}; sleep 0.05; done")


def test_events(rt: ocirun.Runtime, bundle: Bundle) -> None:
    container = rt.create(bundle.id, eater(bundle).write())
    container.start()
    folder(container.pid, "memory")
    events = container.events()
    threading.Timer(0.2, lambda: container.exec(["touch", "/tmp/eat"])).start()
    assert next(events) == {"type": "oom", "id": bundle.id}
    container.kill("KILL")
    assert list(events) == []
    container.delete(force=True)


def test_events_with_statistics(box: ocirun.Container) -> None:
    events = box.events(0.05)
    for _ in range(2):
        event = next(events)
        assert (event["type"], event["id"], event["data"]["pids"]["current"]) == (
            "stats",
            box.id,
            2,
        )
    events.close()  # type: ignore[attr-defined]
    for interval in (0, -1, float("nan")):
        with pytest.raises(UsageError):
            box.events(interval)


# The same, awaited.

Work = Callable[["ocirun.AsyncContainer"], Awaitable[Any]]


@pytest.fixture
def loop(tmp_path: Path, bundle: Bundle) -> Iterator[Callable[[Work], Any]]:
    """Runs a coroutine function with a container that runs, in an event loop of its own."""

    def run(work: Work) -> Any:
        async def main() -> Any:
            async with ocirun.AsyncRuntime(tmp_path / "state") as rt:
                container = await rt.create(bundle.id, bundle.write())
                await container.start()
                try:
                    return await work(container)
                finally:
                    await container.delete(force=True)

        return asyncio.run(main())

    bundle.set("/linux/resources/pids", {"limit": 50})
    bundle.sleeper()
    before = len(os.listdir("/proc/self/fd"))
    yield run
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"


@pytest.mark.parametrize(("options", "script", "status", "out", "err"), STREAMS)
def test_async_streams(
    loop: Any, options: Any, script: str, status: int, out: Any, err: Any
) -> None:
    async def work(box: ocirun.AsyncContainer) -> None:
        done = await box.exec(["sh", "-c", script], **options)
        assert (done.exit_status, done.stdout, done.stderr) == (status, out, err)

    loop(work)


def test_async_many_at_once(loop: Any) -> None:
    async def work(box: ocirun.AsyncContainer) -> None:
        every = [box.exec(["echo", str(n)], stdout=ocirun.PIPE, text=True) for n in range(10)]
        done = await asyncio.gather(*every)
        assert [one.stdout for one in done] == [f"{n}\n" for n in range(10)]

    loop(work)


def test_async_errors(loop: Any) -> None:
    async def work(box: ocirun.AsyncContainer) -> None:
        for command, options, error in ERRORS:
            with pytest.raises(error):
                await box.exec(command, **options)
        with pytest.raises(ocirun.ContainerTimeout) as caught:
            await box.exec(["sh", "-c", "echo a; sleep 9"], timeout=0.3, stdout=ocirun.PIPE)
        assert caught.value.stdout == b"a\n"
        with pytest.raises(ocirun.ContainerFailed):
            await box.exec(["false"], check=True)

    loop(work)


def test_async_cancelled(loop: Any) -> None:
    """The process is killed before the cancellation goes on."""

    async def work(box: ocirun.AsyncContainer) -> None:
        while len(before := await box.processes()) < 2:  # the shell and its child
            await asyncio.sleep(0.01)
        task = asyncio.create_task(box.exec(["sleep", "100"]))
        while await box.processes() == before:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await box.processes() == before

    loop(work)


def test_async_life(loop: Any) -> None:
    async def work(box: ocirun.AsyncContainer) -> None:
        await box.pause()
        with pytest.raises(WrongStatus):
            await box.exec(["true"])
        await box.resume()
        await box.update({"pids": {"limit": 7}})
        assert (await box.stats())["pids"]["limit"] == 7

    loop(work)


def test_async_events(loop: Any, bundle: Bundle) -> None:
    eater(bundle)

    async def work(box: ocirun.AsyncContainer) -> None:
        folder((await box.state())["pid"], "memory")
        with pytest.raises(UsageError):
            await anext(box.events(0))
        seen = []
        begin = time.monotonic()
        async for event in box.events(0.1):
            seen.append(event["type"])
            if seen == ["stats"]:
                await box.exec(["touch", "/tmp/eat"])
            if seen[-1] == "oom":
                await box.kill("KILL")
            assert time.monotonic() - begin < 20
        assert seen.count("oom") == 1

    loop(work)
