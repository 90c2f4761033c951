"""linux.intelRdt from create to delete, with a folder for resctrl (see tests/unit/test_resctrl.py)."""

import os
import posix
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocirun.errors import OcirunError
from ocirun.executor import outside, resctrl
from ocirun.plan.host import Host
from ocirun.runtime.create import Request, create
from ocirun.runtime.delete import delete
from ocirun.runtime.settings import Settings
from ocirun.runtime.update import Source, update
from ocirun.spec.default import default_spec
from ocirun.spec.fastjson import dumps

pytestmark = pytest.mark.root


class Kernel:
    """posix, with a mkdir and a rmdir that act on groups."""

    def __getattr__(self, name: str) -> Any:
        return getattr(posix, name)

    def mkdir(self, path: str, mode: int) -> None:
        posix.mkdir(path, mode)
        for name in ("tasks", "schemata"):
            Path(path, name).touch()
        Path(path, "mon_groups").mkdir()

    def rmdir(self, path: str) -> None:
        posix.stat(path)
        shutil.rmtree(path)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kernel = Kernel()
    folder = tmp_path / "resctrl"
    kernel.mkdir(str(folder), 0o755)
    monkeypatch.setattr(resctrl, "posix", kernel)
    monkeypatch.setattr(Host, "resctrl", lambda self: str(folder))
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(str(tmp_path / "state"), cgroup_manager="disabled")


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("needs busybox (Debian: busybox-static)")
    folder = tmp_path / "bundle"
    (folder / "rootfs/bin").mkdir(parents=True)
    shutil.copy(busybox, folder / "rootfs/bin/sh")
    yield folder


def write(bundle: Path, **more: Any) -> None:
    spec: dict[str, Any] = default_spec()
    spec["process"].update(terminal=False, args=["sh", "-c", ":"])
    spec["linux"].update(more)
    spec["mounts"] = [mount for mount in spec["mounts"] if mount["type"] != "cgroup"]
    (bundle / "config.json").write_text(dumps(spec))


def made(settings: Settings, bundle: Path) -> int:
    created = create(settings, Request("box", str(bundle)))
    created.folder.close()
    return created.pid


def ended(settings: Settings, pid: int) -> None:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    delete(settings, "box")


@pytest.mark.parametrize("there", [False, True])
def test_from_create_to_delete(settings: Settings, bundle: Path, root: Path, there: bool) -> None:
    """A group that was there before the container stays after it."""
    if there:
        Kernel().mkdir(str(root / "box"), 0o755)
    write(bundle, intelRdt={"schemata": ["MB:0=20"], "enableMonitoring": True})
    pid = made(settings, bundle)
    for group in (root / "box", root / "box/mon_groups/box"):
        assert (group / "tasks").read_text() == str(pid)
    assert (root / "box/schemata").read_text() == "MB:0=20\n"
    ended(settings, pid)
    assert (root / "box").exists() == there
    assert not (root / "box/mon_groups/box").exists()


def test_a_named_class_stays(settings: Settings, bundle: Path, root: Path) -> None:
    write(bundle, intelRdt={"closID": "gold", "schemata": ["MB:0=20"]})
    pid = made(settings, bundle)
    folder = settings.store.open("box")
    record = folder.read()
    folder.close()
    assert record.fields["rdt"] == [str(root), str(root / "gold")]  # whose statistics are its own
    ended(settings, pid)
    assert (root / "gold").exists()


def test_a_create_that_fails(settings: Settings, bundle: Path, root: Path) -> None:
    write(bundle, intelRdt={"enableMonitoring": True}, sysctl={"net.ipv4.nonsense": "1"})
    with pytest.raises(OcirunError, match="nonsense"):
        made(settings, bundle)
    assert not (root / "box").exists()


def test_a_parent_that_is_killed_leaves_a_record(
    settings: Settings, bundle: Path, root: Path
) -> None:
    """Before anything is made the record tells delete of it."""
    write(bundle, intelRdt={})
    child = os.fork()
    if child == 0:
        try:
            outside._STEPS["resctrl-join"] = lambda *_: os.kill(os.getpid(), 9)
            made(settings, bundle)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    assert (root / "box").exists()
    delete(settings, "box", force=True)
    assert not (root / "box").exists()


def test_update(settings: Settings, bundle: Path, root: Path) -> None:
    """A container without a group gets one, which delete removes; the next writes to it."""
    write(bundle)
    pid = made(settings, bundle)
    for mask in ("f", "3"):
        source = Source({})
        source.l3_cache = f"L3:0={mask}"
        update(settings, "box", source)
        assert (root / "box/schemata").read_text() == f"L3:0={mask}\n"
    assert (root / "box/tasks").read_text() == str(pid)
    source.l3_cache = "nonsense"
    source.options = {"/linux/intelRdt/l3CacheSchema": "--l3-cache-schema"}
    with pytest.raises(OcirunError) as caught:
        update(settings, "box", source)
    assert caught.value.pointer == "--l3-cache-schema"
    ended(settings, pid)
    assert not (root / "box").exists()
