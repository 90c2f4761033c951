"""The store: names, atomic appearance, locks, removal, leftovers of crashes."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lib.archives import Canary, file, make_tar

from ocirun.errors import ImageError
from ocirun.image.importer import ImportOptions, import_image
from ocirun.image.store import MARKER, Store, check_name, default_data_root


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "data"))


@pytest.fixture
def tar(tmp_path: Path) -> str:
    path = tmp_path / "rootfs.tar"
    path.write_bytes(make_tar(file("bin/sh", b"#!"), file("etc/x", b"1")))
    return str(path)


def load(store: Store, name: str, source: str, force: bool = False) -> None:
    import_image(name, source, data_root=str(store.root), options=ImportOptions(force=force))


@pytest.mark.parametrize(
    "name", ["a", "busybox", "busybox:1.36", "docker.io/library/busybox:1.36", "A-b_c.d", "x" * 128]
)
def test_names(store: Store, tar: str, name: str) -> None:
    load(store, name, tar)
    assert [image.name for image in store.list_images()] == [name]
    image = store.find_image(name)
    assert Path(image.rootfs, "bin/sh").read_text() == "#!"
    assert ":" not in image.rootfs
    assert Path(image.rootfs).parent.parent == store.images
    store.remove_image(name)
    assert os.listdir(store.images) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/x",
        "x/",
        "x//y",
        "x/../y",
        "a:",
        ":a",
        "a b",
        "a\nb",
        "a\x00",
        "-a",
        "é",
        "a%2fb",
        "x" * 129,
        "a/.b",
        "host",
    ],
)
def test_bad_names(store: Store, tar: str, name: str) -> None:
    with pytest.raises(ImageError):
        check_name(name)
    with pytest.raises(ImageError):
        load(store, name, tar)
    with pytest.raises(ImageError):
        store.remove_image(name)
    assert not store.root.exists()


def test_host_is_always_there(store: Store) -> None:
    assert store.find_image("host").rootfs == "/"
    assert store.list_images() == []


def test_missing(store: Store) -> None:
    with pytest.raises(ImageError, match="no image 'x'") as failure:
        store.find_image("x")
    assert "image list" in failure.value.hint
    with pytest.raises(ImageError, match="no image 'x'"):
        store.remove_image("x")


def test_name_taken(store: Store, tar: str, tmp_path: Path) -> None:
    load(store, "x", tar)
    other = tmp_path / "other.tar"
    other.write_bytes(make_tar(file("new")))
    with pytest.raises(ImageError, match="'x' already") as failure:
        load(store, "x", str(other))
    assert "--force" in failure.value.hint
    load(store, "x", str(other), force=True)
    assert os.listdir(store.find_image("x").rootfs) == ["new"]
    assert os.listdir(store.images) == ["x"]


def test_failed_replacement_keeps_the_old_image(store: Store, tar: str, tmp_path: Path) -> None:
    load(store, "x", tar)
    (tmp_path / "bad.tar").write_bytes(Path(tar).read_bytes()[:700])
    with pytest.raises(ImageError):
        load(store, "x", str(tmp_path / "bad.tar"), force=True)
    assert sorted(os.listdir(store.find_image("x").rootfs)) == ["bin", "etc"]
    assert os.listdir(store.images) == ["x"]


def test_folders_are_private(store: Store, tar: str) -> None:
    old = os.umask(0)
    try:
        load(store, "x", tar)
    finally:
        os.umask(old)
    assert store.images.stat().st_mode & 0o777 == 0o700
    assert store.containers.stat().st_mode & 0o777 == 0o700


def test_one_damaged_image_hides_no_other(store: Store, tar: str) -> None:
    for name in ("a", "b", "c", "d", "e"):
        load(store, name, tar)
    (store.images / "b" / "image.json").write_text("{")
    (store.images / "c" / "image.json").unlink()
    (store.images / "d" / "image.json").write_text('{"size": "x"}')
    (store.images / "stray").write_text("not a folder")
    images = {image.name: image for image in store.list_images()}
    assert sorted(images) == ["a", "b", "c", "d", "e"]
    assert [name for name, image in sorted(images.items()) if image.problem] == ["b", "c", "d"]
    with pytest.raises(ImageError, match="'b' is damaged") as failure:
        store.find_image("b")
    assert "--force" in failure.value.hint
    load(store, "b", tar, force=True)
    assert not store.find_image("b").problem
    store.remove_image("c")
    store.remove_image("d")
    assert [image.name for image in store.list_images()] == ["a", "b", "e"]


def test_facts_survive_the_disk(store: Store, tar: str) -> None:
    written = import_image("x", tar, data_root=str(store.root))
    assert store.find_image("x") == written
    assert json.loads(json.dumps(written.facts())) == written.facts()


def use(store: Store, container: str, image: str) -> Path:
    folder = store.containers / container
    folder.mkdir(parents=True)
    (folder / MARKER).write_text(json.dumps({"image": image}))
    return folder


def test_an_image_in_use_stays(store: Store, tar: str) -> None:
    load(store, "x", tar)
    folder = use(store, "c1", "x")
    use(store, "c2", "y")
    with pytest.raises(ImageError, match="cannot remove image 'x': in use by c1") as failure:
        store.remove_image("x")
    assert "ocirun delete c1" in failure.value.hint
    with pytest.raises(ImageError, match="cannot replace image 'x': in use by c1"):
        load(store, "x", tar, force=True)
    assert os.listdir(store.images) == ["x"]
    (folder / MARKER).unlink()
    store.remove_image("x")


def test_remove_does_not_follow(store: Store, tmp_path: Path) -> None:
    canary = Canary(tmp_path / "canary")
    source = tmp_path / "link.tar"
    source.write_bytes(make_tar(file("f")))
    load(store, "x", str(source))
    Path(store.find_image("x").rootfs, "l").symlink_to(canary.root)
    store.remove_image("x")
    canary.check()


# --- concurrency and crashes ------------------------------------------------------


SCRIPT = """
import sys
from ocirun.errors import ImageError
from ocirun.image.importer import import_image
sys.stdin.readline()
try:
    import_image(sys.argv[1], sys.argv[2], data_root=sys.argv[3])
    print("won")
except ImageError as error:
    print(error.message)
"""


def test_concurrent_imports_of_one_name(store: Store, tar: str) -> None:
    command = [sys.executable, "-c", SCRIPT, "x", tar, str(store.root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen(command, **pipes) for _ in range(6)]  # type: ignore[call-overload]
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    outcomes = sorted(racer.communicate()[0].strip() for racer in racers)
    assert outcomes == ["there is an image 'x' already"] * 5 + ["won"]
    assert os.listdir(store.images) == ["x"]
    assert sorted(os.listdir(store.find_image("x").rootfs)) == ["bin", "etc"]


def test_an_image_appears_only_under_the_lock(store: Store, tar: str) -> None:
    store.prepare()
    command = [sys.executable, "-c", SCRIPT, "x", tar, str(store.root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        with store.lock():
            process.stdin.write("\n")
            process.stdin.flush()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            assert store.list_images() == []
        assert process.communicate()[0].strip() == "won"
    assert [image.name for image in store.list_images()] == ["x"]


def test_leftovers_of_a_crash_go_at_the_next_import(store: Store, tar: str) -> None:
    store.prepare()
    for parent in (store.images, store.containers):
        for name in (".import-dead", ".remove-dead"):
            (parent / name / "deep").mkdir(parents=True)
    busy = store.images / ".import-busy"
    busy.mkdir()
    fd = os.open(busy, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        load(store, "x", tar)
        assert sorted(os.listdir(store.images)) == [".import-busy", "x"]
        assert os.listdir(store.containers) == []
    finally:
        os.close(fd)
    store.remove_image("x")
    assert os.listdir(store.images) == []


def test_a_killed_import_leaves_nothing_that_counts(store: Store, tmp_path: Path) -> None:
    """SIGKILL in the middle: no image, and the next import clears the rest."""
    os.mkfifo(tmp_path / "fifo")
    command = [sys.executable, "-c", SCRIPT, "x", str(tmp_path / "fifo"), str(store.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        process.stdin.write(b"\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        with (tmp_path / "fifo").open("wb", buffering=0) as writer:
            writer.write(make_tar(file("a", b"x" * 5000))[:2048])
            while not (store.images.exists() and os.listdir(store.images)):
                pass
            process.kill()
            process.wait()
    assert store.list_images() == []
    assert len(os.listdir(store.images)) == 1
    (tmp_path / "good.tar").write_bytes(make_tar(file("a")))
    load(store, "y", str(tmp_path / "good.tar"))
    assert os.listdir(store.images) == ["y"]


def test_an_import_that_is_interrupted_leaves_nothing(store: Store, tar: str) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_image("x", tar, data_root=str(store.root), progress=interrupt)
    assert os.listdir(store.images) == []


def test_progress_counts_up_to_the_total(store: Store, tar: str) -> None:
    seen: list[tuple[str, int, int]] = []
    import_image("x", tar, data_root=str(store.root), progress=lambda *facts: seen.append(facts))
    size = os.path.getsize(tar)
    assert seen[-1] == ("unpacking", size, size)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


# --- the data root ----------------------------------------------------------------


def test_default_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCIRUN_DATA_ROOT", "/somewhere")
    assert default_data_root() == "/somewhere"
    monkeypatch.delenv("OCIRUN_DATA_ROOT")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_root() == "/var/lib/ocirun"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/u/data")
    assert default_data_root() == "/home/u/data/ocirun"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/u")
    assert default_data_root() == "/home/u/.local/share/ocirun"


def test_data_root_that_cannot_be_made(tar: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match="cannot make the data root") as failure:
        load(Store(str(tmp_path / "file" / "data")), "x", tar)
    assert failure.value.errno
