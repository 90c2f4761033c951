"""The library's checkpoint and restore: a container goes on, and is held as one that was made."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.checkpoint import COUNT, SECONDS, grows, numbers
from lib.runtime import wait_for
from lib.terminal import ConsoleSocket

import ocirun
from ocirun.errors import AlreadyExists, CriuFailed, NotFound, Unsupported, UsageError, WrongStatus

pytestmark = [pytest.mark.root, pytest.mark.only("ocirun")]
criu = pytest.mark.lab("criu")

NULL = {"stdin": ocirun.DEVNULL, "stdout": ocirun.DEVNULL, "stderr": ocirun.DEVNULL}
GREETER = "trap 'echo bye; exit 7' TERM; n=0; while read x; do n=$((n+1)); echo $n $x; done"


@pytest.fixture
def rt(tmp_path: Path) -> Iterator[ocirun.Runtime]:
    """A Runtime that must leave nothing behind."""
    before = len(os.listdir("/proc/self/fd"))
    with ocirun.Runtime(tmp_path / "state") as made:
        yield made
        assert made.list() == []
        wait_for(lambda: children(made) == [], "the executor's children")
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"


def children(rt: ocirun.Runtime) -> list[int]:
    """The executor's children; on v2 it has no spare."""
    pid = rt._executor.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def counter(bundle: Bundle) -> Path:
    """Makes the container count; the folder of its bundle."""
    bundle.set("/root/readonly", False).sh(f"({COUNT}) >/counted")
    return bundle.write()


def started(rt: ocirun.Runtime, bundle: Bundle, **streams: Any) -> ocirun.Container:
    box = rt.create(bundle.id, bundle.write(), **{**NULL, **streams})
    box.start()
    return box


@criu
def test_streams_and_exit_status(rt: ocirun.Runtime, bundle: Bundle, folder: Path) -> None:
    pipes = {**NULL, "stdin": ocirun.PIPE, "stdout": ocirun.PIPE, "text": True}
    box = started(rt, bundle.sh(GREETER), **pipes)
    assert box.stdin and box.stdout
    box.stdin.write("a\n")
    box.stdin.flush()
    assert box.stdout.readline() == "1 a\n"
    box.checkpoint(folder / "images")
    assert box.wait(timeout=SECONDS) == 128 + signal.SIGKILL
    with pytest.raises(NotFound):
        box.state()
    for file in (box.stdin, box.stdout):
        file.close()

    again = rt.restore("again", bundle.path, folder / "images", **pipes)
    assert again.stdin and again.stdout
    assert again.state()["status"] == "running"
    with pytest.raises(ocirun.ContainerTimeout):
        again.wait(timeout=0.05)
    again.stdin.write("b\n")
    again.stdin.flush()
    assert again.stdout.readline() == "2 b\n"
    assert again.exec(["echo", "hi"], stdout=ocirun.PIPE).stdout == b"hi\n"
    again.kill("TERM")
    with suppress(BrokenPipeError):  # it may be gone by now
        again.stdin.write("c\n")  # or else it looks for signals between two commands
        again.stdin.close()
    assert "bye" in again.stdout.read()
    again.stdout.close()
    assert again.wait(timeout=SECONDS) == 7
    assert again.usage is not None
    again.delete()


@criu
def test_it_is_the_executors_child(rt: ocirun.Runtime, bundle: Bundle, folder: Path) -> None:
    """So the caller's own children are nobody's business."""
    folder = folder / "images"
    started(rt, bundle.sleeper()).checkpoint(folder)
    own = subprocess.Popen(["sleep", "1000"])
    box = rt.restore(bundle.id, bundle.path, folder, **NULL)
    assert children(rt) == [box.pid]
    assert {rt._executor.pid, own.pid} >= set(map(int, my_children()))
    own.kill()
    assert own.wait() == -signal.SIGKILL
    rt.delete(bundle.id, force=True)
    assert box.wait(timeout=SECONDS) == 128 + signal.SIGKILL


def my_children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@criu
def test_left_running_before_and_since(rt: ocirun.Runtime, bundle: Bundle, folder: Path) -> None:
    """pre_dump, parent_path, leave_running, work_path; and a pid file."""
    folder = folder / "images"
    counter(bundle)
    box = started(rt, bundle)
    grows(bundle.rootfs / "counted")
    box.checkpoint(folder / "before", pre_dump=True)
    assert not (folder / "before/core-1.img").exists()
    box.checkpoint(folder / "one", parent_path="../before", leave_running=True)
    assert os.readlink(folder / "one/parent") == "../before"
    assert box.state()["status"] == "running"
    box.checkpoint(folder / "two", work_path=folder / "work")
    assert (folder / "work/dump.log").exists()
    assert not (folder / "two/dump.log").exists()
    last = numbers(bundle.rootfs / "counted")[-1]
    pid_file = folder / "pid"
    again = rt.restore(bundle.id, bundle.path, folder / "two", pid_file=str(pid_file), **NULL)
    assert int(pid_file.read_text()) == again.pid
    assert grows(bundle.rootfs / "counted") > last
    again.delete(force=True)


@criu
def test_a_spec_and_a_terminal(rt: ocirun.Runtime, bundle: Bundle, folder: Path) -> None:
    bundle.sh(GREETER).set("/process/terminal", True).set("/root/path", str(bundle.rootfs))
    spec = ocirun.Spec.from_dict(bundle.config)
    with ConsoleSocket(folder / "first") as socket:
        box = rt.create(bundle.id, spec, console_socket=str(socket.path))
        box.start()
        with socket.receive() as terminal:
            terminal.write(b"a\n")
            terminal.read_until(b"1 a")
            box.checkpoint(folder / "images")
    with pytest.raises(UsageError, match="nobody is there to hold the terminal"):
        rt.restore(bundle.id, spec, folder / "images")
    with ConsoleSocket(folder / "second") as socket:
        box = rt.restore(bundle.id, spec, folder / "images", console_socket=str(socket.path))
        with socket.receive() as terminal:
            terminal.write(b"b\n")
            terminal.read_until(b"2 b")
    box.delete(force=True)


@criu
def test_what_fails(rt: ocirun.Runtime, bundle: Bundle, folder: Path) -> None:
    """Nothing of the container is left, and its executor makes the next one."""
    box = started(rt, bundle.sleeper())
    box.checkpoint(folder / "images", leave_running=True)
    with pytest.raises(AlreadyExists):
        rt.restore(bundle.id, bundle.path, folder / "images")
    with pytest.raises(UsageError, match="page-server"):
        box.checkpoint(folder / "images", page_server="here")
    with pytest.raises(TypeError, match="shell_jobs"):
        box.checkpoint(folder / "images", shell_jobs=True)
    box.delete(force=True)
    with pytest.raises(UsageError, match="cannot use the folder"):
        rt.restore(bundle.id, bundle.path, folder / "missing")
    (folder / "images/core-1.img").rename(folder / "core")
    with pytest.raises(CriuFailed) as caught:
        rt.restore(bundle.id, bundle.path, folder / "images")
    assert caught.value.path == str(folder / "images/restore.log")
    assert any("core-1.img" in line for line in caught.value.lines)
    assert rt.list() == []
    (folder / "core").rename(folder / "images/core-1.img")
    bundle.set("/hooks/createRuntime", [{"path": "/bin/false"}]).write()
    with pytest.raises(ocirun.OcirunError, match="createRuntime"):
        rt.restore(bundle.id, bundle.path, folder / "images")
    assert rt.list() == []
    bundle.drop("/hooks").write()
    rt.restore(bundle.id, bundle.path, folder / "images").delete(force=True)


@criu
def test_a_stream_that_could_not_be_opened_again(
    rt: ocirun.Runtime, bundle: Bundle, folder: Path
) -> None:
    """It is said while the container still runs."""
    with TemporaryFile() as file:
        box = started(rt, bundle.sleeper(), stderr=file)
        with pytest.raises(Unsupported, match=r"stderr of the container .* O_NOFOLLOW"):
            box.checkpoint(folder / "images")
        assert box.state()["status"] == "running"
        box.delete(force=True)


@criu
def test_the_executor_dies(rt: ocirun.Runtime, bundle: Bundle, folder: Path) -> None:
    """The restored container lives on; its exit status is lost."""
    started(rt, bundle.sleeper()).checkpoint(folder / "images")
    box = rt.restore(bundle.id, bundle.path, folder / "images")
    os.kill(rt._executor.pid, signal.SIGKILL)
    assert box.state()["status"] == "running"
    box.kill("TERM")
    assert box.wait(timeout=SECONDS) is None
    box.delete()
    rt.run(bundle.sh("exit 3").write())


@criu
def test_two_at_once(rt: ocirun.Runtime, bundle: Bundle, make_bundle: Any, folder: Path) -> None:
    both = [bundle, make_bundle()]
    boxes = [started(rt, each.sleeper()) for each in both]
    with ThreadPoolExecutor(2) as pool:
        places = [folder / each.id for each in both]
        list(pool.map(lambda box, place: box.checkpoint(place), boxes, places))
        made = list(
            pool.map(lambda each, place: rt.restore(each.id, each.path, place), both, places)
        )
    assert sorted(children(rt)) == sorted(box.pid for box in made)
    for box in made:
        box.kill("TERM")
        assert box.wait(timeout=SECONDS) == 0
        box.delete()


@criu
def test_asyncio(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    async def main() -> None:
        async with ocirun.AsyncRuntime(tmp_path / "state") as rt:
            box = await rt.create(bundle.id, bundle.sleeper().write(), **NULL)
            await box.start()
            await box.checkpoint(folder / "images")
            assert await box.wait(timeout=SECONDS) == 128 + signal.SIGKILL
            task = asyncio.create_task(rt.restore(bundle.id, bundle.path, folder / "images"))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await rt.list() == []
            box = await rt.restore(bundle.id, bundle.path, folder / "images", **NULL)
            await box.kill("TERM")
            assert await box.wait(timeout=SECONDS) == 0
            await box.delete()

    asyncio.run(main())


# What follows needs no CRIU.


def test_no_criu(
    rt: ocirun.Runtime, bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = started(rt, bundle.sleeper())
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("ocirun.criu.service.FURTHER", ())
    with pytest.raises(Unsupported, match="no criu in"):
        box.checkpoint(folder / "images")
    box.delete(force=True)


def test_criu_that_dies(
    rt: ocirun.Runtime, bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found in the $PATH of now; the container runs on, and nobody waits for a dead one."""
    stub = folder / "bin/criu"
    stub.parent.mkdir()
    log = folder / "images/dump.log"
    stub.write_text(f"#!/bin/sh\necho '(00.1) Error (criu/x.c:1): the reason' >{log}\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    box = started(rt, bundle.sleeper())
    with pytest.raises(CriuFailed, match="the reason"):
        box.checkpoint(folder / "images")
    assert box.state()["status"] == "running"
    box.delete(force=True)
    with pytest.raises(ocirun.OcirunError):
        rt.restore(bundle.id, bundle.path, folder / "images")
    assert rt.list() == []


def test_wrong_status(rt: ocirun.Runtime, bundle: Bundle, folder: Path) -> None:
    box = rt.create(bundle.id, bundle.sleeper().write())
    with pytest.raises(WrongStatus, match="created"):
        box.checkpoint(folder / "images")
    box.delete(force=True)
    with pytest.raises(NotFound):
        box.checkpoint(folder / "images")
