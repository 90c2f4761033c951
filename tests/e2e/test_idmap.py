"""Id-mapped mounts: uidMappings, gidMappings, idmap and ridmap, with and without a user namespace."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lib import mountinfo
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for

import ocirun
from ocirun.errors import StepFailed

Map = dict[str, int]
pytestmark = pytest.mark.only("ocirun", "crun")  # runc 1.1 knows nothing of them


def maps(*ranges: tuple[int, int, int]) -> list[Map]:
    """Mappings: (id in the file system, id that is seen, how many)."""
    return [{"containerID": a, "hostID": b, "size": n} for a, b, n in ranges]


def mapped(
    bundle: Bundle,
    source: Path | str,
    uids: list[Map] | None,
    gids: list[Map] | None = None,
    options: tuple[str, ...] = ("bind", "idmap"),
    destination: str = "/mnt",
) -> Bundle:
    """Adds an id-mapped mount."""
    mount: dict[str, Any] = {
        "destination": destination,
        "type": "bind",
        "source": str(source),
        "options": list(options),
    }
    if uids is not None:
        mount |= {"uidMappings": uids, "gidMappings": uids if gids is None else gids}
    return bundle.add("/mounts", mount)


@pytest.fixture
def source(bundle: Bundle) -> Path:
    """A folder with files of some owners."""
    folder = bundle.path / "source"
    (folder / "sub").mkdir(parents=True)
    for uid, gid in ((0, 0), (1, 2), (1000, 1001), (60000, 60000)):
        (folder / f"f{uid}").write_text("text\n")
        os.chown(folder / f"f{uid}", uid, gid)
    return folder


@pytest.fixture
def tree(source: Path) -> Iterator[Path]:
    """The same with a tmpfs on `sub`, in which is a file of root's."""
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "sub"], check=True)
    (source / "sub/below").touch()
    yield source
    subprocess.run(["umount", source / "sub"], check=True)


@pytest.fixture
def ramfs(bundle: Bundle) -> Iterator[Path]:
    """A file system of a kind that cannot map ids, below a folder of one that can."""
    folder = bundle.path / "ramfs"
    (folder / "sub").mkdir(parents=True)
    subprocess.run(["mount", "-t", "ramfs", "none", folder / "sub"], check=True)
    yield folder
    subprocess.run(["umount", folder / "sub"], check=True)


def owners(runtime: Runtime, bundle: Bundle, *names: str) -> list[str]:
    """What a container sees as owner and group of files in /mnt."""
    bundle.sh("cd /mnt; stat -c %u:%g " + " ".join(names))
    return runtime.run(bundle).ok().out.split()


@pytest.mark.spec(
    "/mounts/*/uidMappings",
    "/mounts/*/uidMappings/*/containerID",
    "/mounts/*/uidMappings/*/hostID",
    "/mounts/*/uidMappings/*/size",
    "/mounts/*/gidMappings",
    "/mounts/*/gidMappings/*/containerID",
    "/mounts/*/gidMappings/*/hostID",
    "/mounts/*/gidMappings/*/size",
)
@pytest.mark.parametrize(
    ("uids", "gids", "seen"),
    [
        (maps((0, 5000, 2000)), maps((0, 7000, 2000)), ["5000:7000", "5001:7002", "6000:8001"]),
        (maps((0, 0, 1), (1000, 1, 1)), maps((0, 0, 3)), ["0:0", "65534:2", "1:65534"]),
        (maps((1, 1, 1), (1000, 4, 3)), maps((1001, 9, 1)), ["65534:65534", "1:65534", "4:9"]),
    ],
)
def test_mappings_of_the_mount(
    runtime: Runtime, bundle: Bundle, source: Path, uids: list[Map], gids: list[Map],
    seen: list[str],
) -> None:  # fmt: skip
    mapped(bundle, source, uids, gids)
    assert owners(runtime, bundle, "f0", "f1", "f1000") == seen


@pytest.mark.spec("/mounts/*/uidMappings", "/mounts/*/gidMappings", "/mounts/*/options")
def test_mappings_of_the_mount_in_a_user_namespace(
    runtime: Runtime, bundle: Bundle, source: Path
) -> None:
    bundle.user_namespace(100000, 5000)
    mapped(bundle, source, maps((0, 100010, 1), (1000, 100000, 1)), maps((0, 100020, 2000)))
    assert owners(runtime, bundle, "f0", "f1", "f1000") == ["10:20", "65534:22", "0:1021"]


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_mappings_of_the_container(
    runtime: Runtime, bundle: Bundle, source: Path, option: str
) -> None:
    bundle.user_namespace(100000, 5000)
    mapped(bundle, source, None, options=("rbind", option))
    expected = ["0:0", "1000:1001", "65534:65534"]
    assert owners(runtime, bundle, "f0", "f1000", "f60000") == expected


@pytest.mark.only("ocirun")  # crun 1.8 wants its mappings in linux
def test_mappings_of_a_joined_user_namespace(
    runtime: Runtime, bundle: Bundle, source: Path
) -> None:
    holder = subprocess.Popen(["unshare", "--user", "cat"], stdin=subprocess.PIPE)
    own, place = os.readlink("/proc/self/ns/user"), f"/proc/{holder.pid}/ns/user"
    try:
        wait_for(lambda: os.readlink(place) != own, "the user namespace")
        for kind in ("uid", "gid"):
            Path(f"/proc/{holder.pid}/{kind}_map").write_text("0 100000 5000")
        mapped(bundle.namespace("user", place), source, None)
        assert owners(runtime, bundle, "f0", "f1000") == ["0:0", "1000:1001"]
    finally:
        holder.communicate(timeout=20)


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize(
    ("options", "below"),
    [(("rbind", "idmap"), "0:0"), (("rbind", "ridmap"), "7:7"), (("rbind",), "0:0")],
)
def test_ridmap_maps_what_is_mounted_below(
    runtime: Runtime, bundle: Bundle, tree: Path, options: tuple[str, ...], below: str
) -> None:
    mapped(bundle, tree, maps((0, 7, 1)), options=options)
    assert owners(runtime, bundle, "f0", "sub/below") == ["7:7", below]


def test_writes_are_mapped_back(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    bundle.user_namespace(100000, 5000)
    mapped(bundle, source, maps((2000, 100000, 100)))
    os.chown(source, 2000, 2000)  # the kernel lets nobody write where the owner has no id
    source.chmod(0o777)
    bundle.set("/process/user", {"uid": 3, "gid": 4})
    runtime.run(bundle.sh("id -u > /mnt/id")).ok()
    assert (source / "id").read_text() == "3\n"
    assert ((source / "id").stat().st_uid, (source / "id").stat().st_gid) == (2003, 2004)


def test_flags_go_with_it(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    options = ("rbind", "ridmap", "ro", "rnosuid", "rprivate")
    text = runtime.probe(mapped(bundle, tree, maps((0, 7, 1)), options=options))["mountinfo"]
    assert {"ro", "nosuid", "idmapped"} <= mountinfo.find(text, "/mnt").flags
    assert {"rw", "nosuid", "idmapped"} <= mountinfo.find(text, "/mnt/sub").flags


def test_file(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    bundle.user_namespace()
    (bundle.rootfs / "opt/file").touch()
    mapped(bundle, source / "f0", None, destination="/opt/file")
    assert owners(runtime, bundle, "/opt/file") == ["0:0"]


def test_many_in_one_container(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    """Equal and different maps, and mounts in between that have none."""
    bundle.mount("/mnt", "tmpfs", "tmpfs")
    for number in range(160):
        mapped(bundle, source, maps((0, number // 2 + 1, 1)), destination=f"/mnt/{number}")
        bundle.mount("/opt", "tmpfs", "tmpfs")
    bundle.sh("stat -c %u /mnt/*/f0 | sort -n | uniq -c")
    seen = runtime.run(bundle).ok().out.split()
    assert [int(word) for word in seen[1::2]] == list(range(1, 81))
    assert set(seen[0::2]) == {"2"}


@pytest.mark.parametrize("options", [("rbind",), ("rbind", "idmap"), ("rbind", "ridmap")])
def test_source_that_the_namespaces_root_cannot_reach(
    runtime: Runtime, bundle: Bundle, source: Path, options: tuple[str, ...]
) -> None:
    """Volumes of engines lie below folders of mode 0700, root's own."""
    source.chmod(0o700)
    (source / "sub/volume").mkdir(mode=0o755)
    (source / "sub/volume/file").touch()
    mapped(bundle.user_namespace(), source / "sub/volume", None, options=options)
    seen = "0:0" if "idmap" in options[-1] else "65534:65534"
    assert owners(runtime, bundle, "file") == [seen]


# What cannot be done


def test_lone_folder_with_a_mount_below_in_a_user_namespace(
    runtime: Runtime, bundle: Bundle, tree: Path
) -> None:
    """It would show what the mount of the host covers (mount_namespaces(7))."""
    mapped(bundle.user_namespace(), tree, None)
    runtime.run(bundle).failed("invalid argument", "rbind")


@pytest.mark.only("ocirun")
def test_file_system_that_cannot_map(runtime: Runtime, bundle: Bundle, ramfs: Path) -> None:
    mapped(bundle, ramfs / "sub", maps((0, 7, 1)))
    failure = runtime.run(bundle).failed("(ramfs)", "mount_setattr(MOUNT_ATTR_IDMAP)")
    assert "cannot map the ids" in failure.err


@pytest.mark.only("ocirun")
def test_file_system_below_that_cannot_map(runtime: Runtime, bundle: Bundle, ramfs: Path) -> None:
    mapped(bundle, ramfs, maps((0, 7, 1)), options=("rbind", "ridmap"))
    runtime.run(bundle).failed("ramfs)", "AT_RECURSIVE")


@pytest.mark.only("ocirun")
def test_mount_that_is_mapped_already(
    runtime: Runtime, bundle: Bundle, make_bundle: Any, source: Path
) -> None:
    """A source inside another container's id-mapped mount."""
    runtime.create(mapped(bundle.sleeper(), source, maps((0, 7, 1)))).ok()
    pid = runtime.state(bundle.id)["pid"]
    other = mapped(make_bundle("true"), f"/proc/{pid}/root/mnt", maps((0, 8, 1)))
    runtime.run(other).failed("operation not permitted|invalid argument")


@pytest.mark.parametrize(
    ("uids", "gids", "words"),
    [
        (maps((0, 0, 10), (5, 20, 10)), None, "invalid|overlap"),
        (maps((0, 5000, 10)), [], "gidmappings"),
        (maps((0, 0, 0)), None, "size|invalid"),
        (maps((0, 4294967290, 100)), None, "range|invalid|4294967295"),
        (maps(*((n, n, 1) for n in range(341))), None, "too many|invalid"),
        (maps(*((n, n, 1) for n in range(100000))), None, "too many|invalid"),
    ],
    ids=["overlap", "one-kind", "empty-range", "range", "341", "100000"],
)
def test_bad_mappings(
    runtime: Runtime, bundle: Bundle, source: Path, uids: list[Map], gids: Any, words: str
) -> None:
    runtime.run(mapped(bundle, source, uids, gids)).failed(words)


def test_as_many_mappings_as_the_kernel_takes(
    runtime: Runtime, bundle: Bundle, source: Path
) -> None:
    mapped(bundle, source, maps(*((n, n + 5, 1) for n in range(0, 680, 2))))
    assert owners(runtime, bundle, "f0") == ["5:5"]


@pytest.mark.only("ocirun")
def test_no_mappings_at_all(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    runtime.run(mapped(bundle, source, None)).failed("without mappings", "user namespace")


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("with_maps", [False, True])
def test_only_bind_mounts(runtime: Runtime, bundle: Bundle, with_maps: bool) -> None:
    mount: dict[str, Any] = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}
    if with_maps:
        mount |= {"uidMappings": maps((0, 7, 1)), "gidMappings": maps((0, 7, 1))}
    else:
        mount |= {"options": ["idmap"]}
        bundle.user_namespace()
    runtime.run(bundle.add("/mounts", mount)).failed("bind mount")


# The library


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("space", ["user namespace", "none"])
def test_library(bundle: Bundle, source: Path, tmp_path: Path, space: str) -> None:
    """A kept plan, threads, the spare init; the caller's SIGCHLD and descriptors are its own."""
    if space == "none":
        mapped(bundle, source, maps((0, 5, 10)))
    else:
        mapped(bundle.user_namespace(), source, None)
    folder = bundle.drop("/linux/cgroupsPath").sh("stat -c %u /mnt/f1").write()
    expected = b"6\n" if space == "none" else b"1\n"
    heard: list[int] = []
    seen: list[object] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: heard.append(number))
    files = len(os.listdir("/proc/self/fd"))
    try:
        with ocirun.Runtime(tmp_path / "state") as rt:

            def work() -> None:
                for _ in range(4):
                    seen.append(rt.run(folder, stdout=ocirun.PIPE, check=True).stdout)

            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            bundle.set("/mounts/7/source", "/nonexistent").write()
            with pytest.raises(StepFailed, match="cannot bind /nonexistent"):
                rt.run(folder)
            assert heard == []  # the end of the executor itself is told later
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert seen == [expected] * 12
    assert len(os.listdir("/proc/self/fd")) == files


@pytest.mark.only("ocirun")
def test_library_says_what_cannot_be_mapped(bundle: Bundle, ramfs: Path, tmp_path: Path) -> None:
    files = len(os.listdir("/proc/self/fd"))
    mapped(bundle, ramfs / "sub", maps((0, 7, 1)))
    with ocirun.Runtime(tmp_path / "state") as rt:
        with pytest.raises(StepFailed) as caught:
            rt.run(bundle.write())
        assert "ramfs" in caught.value.hint
        assert caught.value.pointer == "/mounts/7"
    assert len(os.listdir("/proc/self/fd")) == files
