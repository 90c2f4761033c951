"""The library's Container: add_mounts, remove_mounts; and both awaited."""

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lib import mountinfo
from lib.bundle import Bundle

import ocirun
from ocirun.errors import InvalidConfig, NotFound, StepFailed, Unsupported, WrongStatus

pytestmark = [pytest.mark.root, pytest.mark.only("ocirun")]

TMPFS = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}


@pytest.fixture
def rt(tmp_path: Path) -> Iterator[ocirun.Runtime]:
    """A Runtime that must leave no descriptor behind."""
    before = len(os.listdir("/proc/self/fd"))
    with ocirun.Runtime(tmp_path / "state") as made:
        yield made
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"


@pytest.fixture
def box(rt: ocirun.Runtime, bundle: Bundle) -> Iterator[ocirun.Container]:
    container = rt.create(bundle.id, bundle.sleeper().write())
    container.start()
    yield container
    container.delete(force=True)


def points(container: ocirun.Container) -> list[str]:
    text = Path(f"/proc/{container.pid}/mountinfo").read_text()
    return [mount.point for mount in mountinfo.parse(text)]


def test_add_and_remove(box: ocirun.Container, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    before = points(box)
    bind = {"destination": "/mnt/a", "source": str(tmp_path), "options": ["rbind", "ro"]}
    box.add_mounts([TMPFS, bind])
    done = box.exec(["cat", "/mnt/a/file"], capture_output=True, text=True)
    assert done.stdout == "of the host\n"
    box.remove_mounts(["/mnt", "/mnt/a"])
    assert points(box) == before


def test_user_namespace_and_id_mapped(rt: ocirun.Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "source").mkdir()
    container = rt.create(bundle.id, bundle.user_namespace().sleeper().write())
    container.start()
    source = str(folder / "source")
    container.add_mounts([{"destination": "/mnt", "source": source, "options": ["bind", "idmap"]}])
    done = container.exec(["stat", "-c", "%u", "/mnt"], capture_output=True, text=True)
    assert done.stdout == "0\n"
    container.remove_mounts(["/mnt"])
    assert "/mnt" not in points(container)
    container.delete(force=True)


def test_errors(box: ocirun.Container) -> None:
    before = points(box)
    with pytest.raises(InvalidConfig) as invalid:
        box.add_mounts([TMPFS, {"destination": 5}])
    assert next(one.pointer for one in invalid.value.findings) == "/1/destination"  # type: ignore[attr-defined]
    with pytest.raises(StepFailed) as failed:
        box.add_mounts([TMPFS, {**TMPFS, "source": "/no/such", "options": ["bind"]}])
    assert (failed.value.pointer, failed.value.document) == ("/1", "mounts")
    with pytest.raises(Unsupported) as refused:
        box.remove_mounts(["/proc"])
    assert refused.value.pointer == "/0/destination"
    with pytest.raises(StepFailed, match="cannot unmount /opt"):
        box.remove_mounts(["/opt"])
    with pytest.raises(TypeError):
        box.remove_mounts("/mnt")
    assert points(box) == before


def test_wrong_status(rt: ocirun.Runtime, box: ocirun.Container) -> None:
    with pytest.raises(NotFound):
        rt.get("nobody").add_mounts([TMPFS])
    box.pause()
    box.add_mounts([TMPFS])
    box.resume()
    box.kill("KILL")
    box.wait(10)
    for work in (lambda: box.add_mounts([TMPFS]), lambda: box.remove_mounts(["/mnt"])):
        with pytest.raises(WrongStatus, match="not running"):
            work()


def test_from_several_threads(box: ocirun.Container) -> None:
    before = points(box)

    def work(number: int) -> None:
        for _ in range(4):
            box.add_mounts([{**TMPFS, "destination": f"/mnt/{number}"}])
            box.remove_mounts([f"/mnt/{number}"])

    box.add_mounts([TMPFS])
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    box.remove_mounts(["/mnt"])
    assert points(box) == before


def test_awaited(bundle: Bundle, tmp_path: Path) -> None:
    async def work() -> None:
        async with ocirun.AsyncRuntime(tmp_path / "state") as runtime:
            held = await runtime.create(bundle.id, bundle.sleeper().write())
            await held.start()
            await held.add_mounts([TMPFS])
            assert "/mnt" in points(held.container)
            task = asyncio.create_task(held.remove_mounts(["/mnt"]))
            await asyncio.sleep(0)
            task.cancel()  # it is done all the same, and only then cancelled
            with pytest.raises(asyncio.CancelledError):
                await task
            assert "/mnt" not in points(held.container)
            await held.delete(force=True)

    asyncio.run(work())
