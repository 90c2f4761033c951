"""What an archive may do to an image's folder: everything inside, nothing outside."""

import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from lib.archives import (
    Canary,
    directory,
    docker_save,
    entry,
    file,
    hardlink,
    listing,
    make_tar,
    oci,
    symlink,
)

from ocirun.errors import ImageError
from ocirun.image import tree
from ocirun.image.importer import ImportOptions, import_image
from ocirun.image.store import Image


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    canary = Canary(tmp_path / "canary")
    yield canary
    canary.check()


def load(tmp_path: Path, data: bytes, **options: object) -> Image:
    (tmp_path / "source.tar").write_bytes(data)
    return import_image(
        "x",
        str(tmp_path / "source.tar"),
        data_root=str(tmp_path / "data"),
        options=ImportOptions(**options),  # type: ignore[arg-type]
    )


def layers(tmp_path: Path, *tars: bytes) -> dict[str, str]:
    """Import layers as an image; the files that come out."""
    return listing(Path(load(tmp_path, docker_save(*tars)).rootfs))


def assert_nothing_left(tmp_path: Path) -> None:
    images = tmp_path / "data" / "images"
    assert not images.exists() or os.listdir(images) == []


# Entries that are refused. {canary} is the path of the canary tree.
REFUSED = {
    "dotdot": ([file("../victim", b"x")], "`..`"),
    "dotdot inside": ([file("a/../../canary/victim", b"x")], "`..`"),
    "dotdot at the end": ([directory("a/..")], "`..`"),
    "dotdot in a hard link": ([hardlink("x", "../../../canary/victim")], "`..`"),
    "root as symlink": ([symlink("./", "{canary}"), file("victim", b"x")], "root of the image"),
    "root as file": ([file(".", b"x")], "root of the image"),
    "root as hard link": ([hardlink("/", "victim")], "root of the image"),
    "hard link to nothing": ([hardlink("x", "missing")], "cannot link"),
    "hard link to the host": ([hardlink("x", "{canary}/victim")], "cannot link"),
    "hard link through a symlink": (
        [symlink("d", "{canary}"), hardlink("x", "d/victim")],
        "cannot link",
    ),
    "hard link to the root": ([hardlink("x", "/")], "root of the image"),
    "hard link to a directory": ([directory("d"), hardlink("x", "d")], "cannot link"),
    "file below a file": ([file("f"), file("f/x")], "cannot unpack"),
    "endless symlinks": ([symlink("a", "b"), symlink("b", "a"), file("a/x")], "cannot unpack"),
    "too deep": ([file("d/" * 300 + "x")], "deeper than"),
    "long name": ([file("n" * 300)], "cannot unpack"),
    "unknown type": ([entry("x", b"Q")], "type 'Q'"),
    "multi-volume": ([entry("x", b"M")], "type 'M'"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("layered", [False, True], ids=["rootfs", "layer"])
def test_refused(tmp_path: Path, canary: Canary, case: str, layered: bool) -> None:
    entries, message = REFUSED[case]
    for info, _ in entries:
        info.linkname = info.linkname.replace("{canary}", str(canary.root))
    data = make_tar(*entries)
    with pytest.raises(ImageError) as failure:
        load(tmp_path, docker_save(data) if layered else data)
    assert message in failure.value.message
    assert_nothing_left(tmp_path)


# Entries that could lead out, and what they must become instead.
CONTAINED = {
    "absolute name": ([file("/etc/passwd", b"x")], {"etc": "directory", "etc/passwd": "x"}),
    "file through an absolute symlink": (
        [symlink("d", "{canary}"), file("d/new", b"x")],
        {"{canary}/new": "x"},
    ),
    "file through a relative symlink": (
        [symlink("d", "../../../../../../../{canary}"), file("d/new", b"x")],
        {"{canary}/new": "x"},
    ),
    "file over a symlink": (
        [symlink("victim", "{canary}/victim"), file("victim", b"x")],
        {"victim": "x"},
    ),
    "directory over a symlink": (
        [symlink("d", "{canary}"), directory("d", mode=0o700), file("d/victim", b"x")],
        {"d": "directory", "d/victim": "x"},
    ),
    "symlink over a directory": (
        [directory("d"), file("d/f", b"x"), symlink("d", "{canary}")],
        {"d": "-> {canary}"},
    ),
    "hard link to a symlink": (
        [symlink("l", "{canary}/victim"), hardlink("h", "l")],
        {"l": "-> {canary}/victim", "h": "-> {canary}/victim"},
    ),
    "file over a hard link to a symlink": (
        [symlink("l", "{canary}/victim"), hardlink("h", "l"), file("h", b"x", mode=0o777)],
        {"h": "x"},
    ),
    "chain of symlinks": (
        [symlink("a", "b"), symlink("b", "/c"), symlink("c", ".."), file("a/f", b"x")],
        {"f": "x"},
    ),
    "file over a FIFO": ([entry("p", tarfile.FIFOTYPE), file("p", b"x")], {"p": "x"}),
}


@pytest.mark.parametrize("case", CONTAINED)
def test_contained(tmp_path: Path, canary: Canary, case: str) -> None:
    entries, expected = CONTAINED[case]
    for info, _ in entries:
        info.linkname = info.linkname.replace("{canary}", str(canary.root))
    root = Path(load(tmp_path, make_tar(*entries)).rootfs)
    found = listing(root)
    for name, content in expected.items():
        inside = name.replace("{canary}", str(canary.root)).lstrip("/")
        assert found[inside] == content.replace("{canary}", str(canary.root))


# Layers, lowest first, and the whole tree that they make.
WHITEOUTS = {
    "file": ([[file("a", b"1"), file("b", b"2")], [file(".wh.a")]], {"b": "2"}),
    "directory": (
        [[directory("d"), file("d/a", b"1")], [file(".wh.d")]],
        {},
    ),
    "below a directory": (
        [[file("d/a", b"1"), file("d/b", b"2")], [file("d/.wh.a")]],
        {"d": "directory", "d/b": "2"},
    ),
    "of nothing": ([[file("a", b"1")], [file(".wh.b"), file("x/y/.wh.z")]], {"a": "1"}),
    "and a new file": ([[file("a", b"1")], [file(".wh.a"), file("a", b"2")]], {"a": "2"}),
    "after the new file": ([[file("a", b"1")], [file("a", b"2"), file(".wh.a")]], {"a": "2"}),
    "after a new file below": (
        [[file("d/old", b"1")], [file("d/new", b"2"), file(".wh.d")]],
        {"d": "directory", "d/new": "2"},
    ),
    "of a symlink": (
        [[file("f", b"1"), symlink("l", "f")], [file(".wh.l")]],
        {"f": "1"},
    ),
    "through a symlink": (
        [[file("usr/lib/x", b"1"), symlink("lib", "usr/lib")], [file("lib/.wh.x")]],
        {"usr": "directory", "usr/lib": "directory", "lib": "-> usr/lib"},
    ),
    "opaque first": (
        [[file("d/a", b"1"), file("d/e/b", b"2")], [file("d/.wh..wh..opq"), file("d/c", b"3")]],
        {"d": "directory", "d/c": "3"},
    ),
    "opaque last": (
        [[file("d/a", b"1"), file("d/e/b", b"2")], [file("d/c", b"3"), file("d/.wh..wh..opq")]],
        {"d": "directory", "d/c": "3"},
    ),
    "opaque keeps new files below": (
        [[file("d/e/a", b"1")], [file("d/e/b", b"2"), file("d/.wh..wh..opq")]],
        {"d": "directory", "d/e": "directory", "d/e/b": "2"},
    ),
    "opaque root": ([[file("a", b"1")], [file(".wh..wh..opq"), file("b", b"2")]], {"b": "2"}),
    "opaque of nothing": ([[file("a", b"1")], [file("d/.wh..wh..opq")]], {"a": "1"}),
    "aufs bookkeeping": (
        [[file("a", b"1")], [file(".wh..wh.aufs"), directory(".wh..wh.plnk")]],
        {"a": "1"},
    ),
    "merged directory": (
        [[directory("d"), file("d/a", b"1")], [directory("d"), file("d/b", b"2")]],
        {"d": "directory", "d/a": "1", "d/b": "2"},
    ),
    "file replaces directory": ([[file("d/a", b"1")], [file("d", b"2")]], {"d": "2"}),
    "directory replaces file": (
        [[file("d", b"1")], [directory("d"), file("d/a", b"2")]],
        {"d": "directory", "d/a": "2"},
    ),
    "written through a symlink of a lower layer": (
        [[directory("usr/lib"), symlink("lib", "usr/lib")], [file("lib/x", b"1")]],
        {"usr": "directory", "usr/lib": "directory", "usr/lib/x": "1", "lib": "-> usr/lib"},
    ),
    "twice in one layer": ([[file("a", b"1"), file("a", b"2")]], {"a": "2"}),
    "hard link to a lower layer": (
        [[file("a", b"1")], [hardlink("b", "a")]],
        {"a": "1", "b": "1"},
    ),
    "hard link to itself": ([[file("a", b"1"), hardlink("a", "./a")]], {"a": "1"}),
    "three layers": (
        [[file("a", b"1")], [file(".wh.a")], [file("a", b"3")]],
        {"a": "3"},
    ),
    "the parent's own link is replaced": (
        [
            [directory("x"), symlink("x/l", ".")],
            [file("x/l/first", b"1"), directory("x/l/l"), file("x/l/second", b"2")],
        ],
        {
            "x": "directory",
            "x/first": "1",
            "x/l": "directory",
            "x/l/second": "2",
        },
    ),
}


@pytest.mark.parametrize("case", WHITEOUTS)
def test_layers(tmp_path: Path, case: str) -> None:
    tars, expected = WHITEOUTS[case]
    assert layers(tmp_path, *(make_tar(*entries) for entries in tars)) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".wh.", "whiteout of no name"),
        (".wh..", "whiteout of no name"),
        (".wh...", "whiteout of no name"),
        ("d/.wh...", "whiteout of no name"),
        (".wh.d/x", "below a whiteout"),
    ],
)
def test_bad_whiteouts(tmp_path: Path, canary: Canary, name: str, message: str) -> None:
    lower = make_tar(file("d/a", b"1"))
    with pytest.raises(ImageError, match=message):
        layers(tmp_path, lower, make_tar(file(name)))
    assert_nothing_left(tmp_path)


def test_whiteout_through_a_symlink_to_the_host(tmp_path: Path, canary: Canary) -> None:
    lower = make_tar(file("f", b"1"), symlink("d", str(canary.root)))
    assert layers(tmp_path, lower, make_tar(file("d/.wh.victim"), file("d/.wh..wh..opq"))) == {
        "f": "1",
        "d": f"-> {canary.root}",
    }


def test_whiteout_names_are_plain_in_a_root_file_system(tmp_path: Path) -> None:
    image = load(tmp_path, make_tar(file("a", b"1"), file(".wh.a", b"2")))
    assert listing(Path(image.rootfs)) == {"a": "1", ".wh.a": "2"}


def test_directory_metadata_of_the_last_layer_wins(tmp_path: Path) -> None:
    image = load(
        tmp_path,
        docker_save(
            make_tar(directory("d", mode=0o700), file("d/a")),
            make_tar(directory("d", mode=0o751, mtime=1_500_000_000), file("d/b")),
        ),
    )
    status = os.stat(image.rootfs + "/d")
    assert stat.S_IMODE(status.st_mode) == 0o751
    assert status.st_mtime == 1_500_000_000


def test_root_metadata(tmp_path: Path) -> None:
    image = load(tmp_path, make_tar(directory("./", mode=0o711, mtime=1_400_000_000), file("a")))
    status = os.stat(image.rootfs)
    assert stat.S_IMODE(status.st_mode) == 0o711
    assert status.st_mtime == 1_400_000_000


def test_modes_times_and_links_are_kept_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        image = load(
            tmp_path,
            make_tar(
                file("f", b"x", mode=0o664, mtime=1_234_567_890.25),
                hardlink("g", "f"),
                symlink("l", "nowhere", mtime=1_111_111_111),
                file("made/parent", b""),
            ),
        )
    finally:
        os.umask(old)
    root = Path(image.rootfs)
    assert stat.S_IMODE(root.joinpath("f").stat().st_mode) == 0o664
    assert root.joinpath("f").stat().st_mtime_ns == 1_234_567_890_250_000_000
    assert root.joinpath("g").stat().st_ino == root.joinpath("f").stat().st_ino
    assert root.joinpath("l").lstat().st_mtime == 1_111_111_111
    assert stat.S_IMODE(root.joinpath("made").stat().st_mode) == 0o755
    assert stat.S_IMODE(root.stat().st_mode) == 0o755


def test_absurd_times_do_not_matter(tmp_path: Path) -> None:
    image = load(tmp_path, make_tar(file("f", mtime=2**80), file("g", mtime=-(2**40))))
    assert listing(Path(image.rootfs)) == {"f": "", "g": ""}


def test_size_limit(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="more than 1000 bytes"):
        load(tmp_path, make_tar(file("f", b"x" * 600), file("g", b"x" * 600)), max_bytes=1000)
    assert_nothing_left(tmp_path)


def test_size_and_files_are_counted(tmp_path: Path) -> None:
    image = load(
        tmp_path,
        docker_save(
            make_tar(file("a", b"12345"), hardlink("b", "a")),
            make_tar(file(".wh.b"), directory("d"), file("d/c", b"123")),
        ),
    )
    assert (image.size, image.files) == (8, 3)


def test_oci_layer_error_names_the_digest(tmp_path: Path) -> None:
    layout = oci(make_tar(file("a", b"1")))
    name = next(n for n, data in layout.files.items() if b"ustar" in data)
    layout.files[name] = layout.files[name][:700]
    with pytest.raises(ImageError, match=r"has 700 bytes, but the manifest says"):
        import_image("x", layout.write(tmp_path / "o"), data_root=str(tmp_path / "data"))
    assert_nothing_left(tmp_path)


# --- remove_tree ------------------------------------------------------------------


def remove(path: Path) -> None:
    root = tree.open_root(str(path.parent))
    try:
        tree.remove_tree(root, os.fsencode(path.name))
    finally:
        os.close(root)


def test_remove_tree_does_not_follow(tmp_path: Path, canary: Canary) -> None:
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    (doomed / "l").symlink_to(canary.root)
    (doomed / "d").mkdir()
    (doomed / "d" / "l").symlink_to(canary.root)
    os.mkfifo(doomed / "d" / "p")
    remove(doomed)
    assert not doomed.exists()
    (tmp_path / "link").symlink_to(canary.root)
    remove(tmp_path / "link")
    assert not os.path.lexists(tmp_path / "link")
    remove(tmp_path / "absent")


def test_remove_tree_deeper_than_the_stack_and_the_descriptors(tmp_path: Path) -> None:
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    (doomed / ".lifted-1").mkdir()  # the name that is used on the way
    (doomed / ".lifted-1" / "f").touch()
    fd = tree.open_root(str(doomed))
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove(doomed)
    assert not doomed.exists()


# --- resolution -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", b""),
        (b"/", b""),
        (b"..", b""),
        (b"../../a", b"a"),
        (b"a/./b//c/", b"a/b/c"),
        (b"a/b/../b", b"a/b"),
        (b"absolute/b", b"a/b"),
        (b"up/a", b"a"),
        (b"a/relative", b"a/b"),
        (b"chain", b"a/b"),
    ],
)
def test_resolve_directory(tmp_path: Path, path: bytes, expected: bytes) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "absolute").symlink_to("/a")
    (tmp_path / "up").symlink_to("../../..")
    (tmp_path / "a" / "relative").symlink_to("b")
    (tmp_path / "chain").symlink_to("absolute/relative")
    root = tree.open_root(str(tmp_path))
    try:
        with tree.resolve_directory(root, path) as place:
            assert place.path == expected
            assert os.path.samestat(os.fstat(place.fd), os.stat(tmp_path / os.fsdecode(expected)))
    finally:
        os.close(root)


@pytest.mark.parametrize("kind", ["fifo", "directory", "missing", "link to fifo", "loop"])
def test_open_file_opens_regular_files_only(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link to fifo").symlink_to("/fifo")
    (tmp_path / "loop").symlink_to("loop")
    root = tree.open_root(str(tmp_path))
    try:
        with pytest.raises(OSError) as failure:
            tree.open_file(root, os.fsencode(kind))
    finally:
        os.close(root)
    assert failure.value.errno in (errno.EINVAL, errno.ENOENT, errno.ELOOP)
