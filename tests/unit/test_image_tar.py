"""The tar reader: what tarfile and GNU tar write is read alike; damage is always an error."""

import io
import os
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lib.archives import directory, entry, file, hardlink, make_tar, symlink

from ocirun.errors import ImageError
from ocirun.image.streams import Slice
from ocirun.image.tar import MAX_EXTENSION, Entry, TarReader


def read(data: bytes, **options: bool) -> list[tuple[Entry, bytes]]:
    reader = TarReader(io.BytesIO(data), **options)
    result = []
    for item in reader:
        content = bytearray(item.size)
        for offset, part in reader.data():
            content[offset : offset + len(part)] = part
        result.append((item, bytes(content)))
    return result


FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.just("/"), min_size=1, max_size=300
).filter(lambda name: name.strip("/"))
ENTRIES = st.builds(
    lambda name, mode, uid, gid, mtime, data: file(
        name.rstrip("/"), data, mode=mode, uid=uid, gid=gid, mtime=mtime
    ),
    NAMES,
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**40),
    st.binary(max_size=1500),
)


@given(st.lists(ENTRIES, max_size=5), st.sampled_from(FORMATS[1:]))
@settings(max_examples=150, deadline=None)
def test_agrees_with_tarfile(entries: list[tuple[tarfile.TarInfo, bytes]], format: int) -> None:
    data = make_tar(*entries, format=format)
    ours = read(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        theirs = tar.getmembers()
        assert len(ours) == len(theirs)
        for (item, content), member in zip(ours, theirs, strict=True):
            assert item.name == member.name.encode("utf-8", "surrogateescape")
            assert (item.mode, item.uid, item.gid) == (member.mode, member.uid, member.gid)
            assert item.mtime == int(member.mtime) * 10**9
            extracted = tar.extractfile(member)
            assert extracted is not None
            assert content == extracted.read()


@pytest.mark.parametrize("format", FORMATS)
def test_kinds(format: int) -> None:
    data = make_tar(
        file("f", b"data", mode=0o4755, uid=7, gid=8),
        directory("d"),
        symlink("s", "target"),
        hardlink("h", "f"),
        entry("c", tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("b", tarfile.BLKTYPE, devmajor=259, devminor=65537),
        entry("p", tarfile.FIFOTYPE),
        format=format,
    )
    found = [(e.name, e.kind, e.link, e.device, e.size) for e, _ in read(data)]
    assert found == [
        (b"f", "file", b"", (0, 0), 4),
        (b"d/", "directory", b"", (0, 0), 0),
        (b"s", "symlink", b"target", (0, 0), 0),
        (b"h", "hardlink", b"f", (0, 0), 0),
        (b"c", "char", b"", (1, 3), 0),
        (b"b", "block", b"", (259, 65537), 0),
        (b"p", "fifo", b"", (0, 0), 0),
    ]


@pytest.mark.parametrize("format", FORMATS[1:])
def test_long_names(format: int) -> None:
    name, target = "n/" * 200 + "end", "t/" * 300 + "end"
    ((item, _),) = read(make_tar(symlink(name, target), format=format))
    assert (item.name, item.link) == (name.encode(), target.encode())


def test_ustar_prefix() -> None:
    name = "p" * 90 + "/" + "n" * 90
    ((item, _),) = read(make_tar(file(name), format=tarfile.USTAR_FORMAT))
    assert item.name == name.encode()


def test_pax_details() -> None:
    info, data = file("x", b"abc", mtime=1.5)
    info.pax_headers = {
        "SCHILY.xattr.user.a": "b=c\nd",
        "SCHILY.xattr.security.capability": b"\x01\xff\x00\n".decode("utf-8", "surrogateescape"),
        "comment": "ignored",
    }
    ((item, content),) = read(make_tar((info, data)))
    assert item.mtime == 1_500_000_000
    assert item.xattrs == {b"user.a": b"b=c\nd", b"security.capability": b"\x01\xff\x00\n"}
    assert content == b"abc"


def test_pax_negative_time() -> None:
    ((item, _),) = read(make_tar(file("x", mtime=-1.25)))
    assert item.mtime == -1_250_000_000


def test_global_headers_change_nothing() -> None:
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "evil"}
    ) as tar:
        tar.addfile(file("good")[0])
    assert [item.name for item, _ in read(buffer.getvalue())] == [b"good"]


def test_v7_directories() -> None:
    data = bytearray(make_tar(entry("d/", b"\0"), format=tarfile.USTAR_FORMAT))
    ((item, _),) = read(bytes(data))
    assert item.kind == "directory"


def test_size_on_a_link_is_no_content() -> None:
    data = make_tar(hardlink("h", "f"), file("f", b"x"))
    broken = header_with(data, 124, b"00000001000\0")
    assert [item.name for item, _ in read(broken)] == [b"h", b"f"]


def header_with(data: bytes, offset: int, value: bytes, at: int = 0) -> bytes:
    """Replace bytes of the header at `at`, and make its checksum right."""
    header = bytearray(data[at : at + 512])
    header[offset : offset + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + 512 :]


# --- sparse -----------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
@pytest.mark.parametrize("format", ["gnu", "posix 1.0", "posix 0.1"])
@pytest.mark.parametrize("segments", [1, 3, 40])
def test_sparse_files_of_gnu_tar(tmp_path: Path, format: str, segments: int) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as sparse:
        for number in range(segments):
            sparse.seek((2 * number + 1) * 65536)
            sparse.write(b"%d" % number * 700)
        sparse.truncate((2 * segments + 3) * 65536)
    name, _, version = format.partition(" ")
    options = [f"--format={name}"] + ([f"--sparse-version={version}"] if version else [])
    tar = ["tar", "-C", tmp_path, "-S", *options, "-cf", "-", "sparse"]
    data = subprocess.run(tar, capture_output=True, check=True).stdout
    assert len(data) < path.stat().st_size
    data = data[: -len(data) % 512 or None]
    ((item, content),) = read(data)
    assert item.name == b"sparse"
    assert item.segments is not None
    assert content == path.read_bytes()


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ("0,600", "does not fit"),
        ("0,500,400,12", "overlaps"),
        ("600,512", "does not fit"),
        ("0", "half a pair"),
        ("0,x", "no number"),
        ("0,-1", "no number"),
    ],
)
def test_sparse_maps_that_lie(segments: str, message: str) -> None:
    info, data = file("x", b"d" * 512)
    info.pax_headers = {"GNU.sparse.map": segments, "GNU.sparse.size": "1000"}
    with pytest.raises(ImageError, match=message):
        read(make_tar((info, data)))


# --- damage -----------------------------------------------------------------------


def sample(format: int = tarfile.PAX_FORMAT) -> bytes:
    entries = [file("n" * 150, b"x" * 700), symlink("s", "t" * 150), directory("d"), file("e")]
    return make_tar(*entries, format=format)


@pytest.mark.parametrize("format", FORMATS[1:])
@pytest.mark.parametrize("skipping", [False, True], ids=["read", "skip"])
def test_cut_off_anywhere_is_an_error(tmp_path: Path, format: int, skipping: bool) -> None:
    data = sample(format)
    whole = len(data.rstrip(b"\0")) + 1024  # at least one block of zeros after the last header
    end = data.index(b"e\0" * 1 + b"\0" * 98) + 512
    assert whole > end
    with (tmp_path / "f").open("w+b") as out:
        out.write(data)
        out.flush()
        for size in [*range(0, end, 61), end - 1, end, end + 1, end + 511]:
            stream = Slice(out.fileno(), 0, size) if skipping else io.BytesIO(data[:size])
            with pytest.raises(ImageError, match=r"ends too early|empty"):
                list(TarReader(stream))
        list(TarReader(Slice(out.fileno(), 0, end + 512)))


def test_missing_end_is_fine_when_a_digest_proves_the_rest() -> None:
    data = make_tar(file("a", b"x"))[:1024]
    assert [item.name for item, _ in read(data, need_end=False)] == [b"a"]
    assert read(b"", need_end=False) == []
    assert [item.name for item, _ in read(data[:-511], need_end=False)] == [b"a"]
    with pytest.raises(ImageError, match="ends too early"):
        read(data[:-512], need_end=False)


@given(st.integers(0, 511), st.integers(1, 255))
@settings(max_examples=200, deadline=None)
def test_any_wrong_byte_of_a_header_is_noticed(position: int, change: int) -> None:
    data = bytearray(make_tar(file("a", b"x"), format=tarfile.USTAR_FORMAT))
    data[position] ^= change
    try:
        read(bytes(data))
    except ImageError:
        return
    # Only the checksum's own padding says nothing.
    assert 148 <= position < 156


@given(st.binary(max_size=3000))
@settings(max_examples=200, deadline=None)
def test_noise_holds_no_entries(data: bytes) -> None:
    try:
        assert read(data) == []  # of zeros alone
    except ImageError:
        pass


@given(
    st.lists(st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=12)), max_size=6),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_mutants_never_do_anything_but_fail(
    changes: list[tuple[int, bytes]], fix_checksum: bool
) -> None:
    data = sample(tarfile.GNU_FORMAT)
    for position, value in changes:
        offset = position % (len(data) - 16)
        data = data[:offset] + value + data[offset + len(value) :]
        if fix_checksum:
            data = header_with(data, 0, b"", at=offset // 512 * 512)
    try:
        reader = TarReader(io.BytesIO(data))
        for item in reader:
            assert item.size >= 0
            for _ in zip(reader.data(), range(10), strict=False):
                pass
    except ImageError:
        pass


BAD_HEADERS = {
    "a size that is no number": (124, b"9999999999\0", "size that is no number"),
    "a negative size": (124, b"\xff" * 12, "negative size"),
    "a uid beyond 32 bits": (108, struct.pack(">Q", 2**32 | 1 << 63), "uid 4294967296"),
    "the uid -1": (108, struct.pack(">Q", 2**32 - 1 | 1 << 63), "uid 4294967295"),
    "a negative gid": (116, b"\xff" * 8, "gid -1"),
    "a gid that is no number": (116, b"abc", "gid that is no number"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_bad_headers(case: str) -> None:
    offset, value, message = BAD_HEADERS[case]
    data = header_with(make_tar(file("a"), format=tarfile.USTAR_FORMAT), offset, value)
    with pytest.raises(ImageError, match=message):
        read(data)


def test_device_out_of_range() -> None:
    data = make_tar(entry("c", tarfile.CHRTYPE, devmajor=4096), format=tarfile.USTAR_FORMAT)
    with pytest.raises(ImageError, match="device number"):
        read(data)


def raw(kind: bytes, size: int, content: bytes = b"") -> bytes:
    """A header with that type and size, and whatever content follows."""
    plain = make_tar(file("x"), format=tarfile.USTAR_FORMAT)[:512]
    data = header_with(header_with(plain, 156, kind), 124, b"%011o\0" % size)
    return data + content + b"\0" * (-len(content) % 512)


@pytest.mark.parametrize("kind", [b"x", b"L", b"K"])
def test_extended_headers_are_bounded(kind: bytes) -> None:
    with pytest.raises(ImageError, match="extended header of"):
        read(raw(kind, MAX_EXTENSION + 1) + b"\0" * 1024)


PAX = {
    "no length": (b"path=x\n", "without a length"),
    "negative length": (b"-7 path=x\n", "without a length"),
    "length 0": (b"0 a=b\n", "cut off"),
    "too long": (b"99 path=x\n", "cut off"),
    "endless digits": (b"1" * 40 + b" a=b\n", "without a length"),
    "no equals sign": (b"9 pathx\n\n", "cut off"),
    "no newline": (b"9 path=xy", "cut off"),
    "NUL in the name": (b"12 path=a\0b\n", "NUL byte"),
    "NUL in the link": (b"16 linkpath=a\0b\n", "NUL byte"),
    "size that is no number": (b"11 size=1e\n", "size that is no number"),
    "size beyond 2^63": (b"28 size=9223372036854775808\n", "size that is no number"),
    "uid beyond 32 bits": (b"18 uid=4294967295\n", "which no file can have"),
}


@pytest.mark.parametrize("case", PAX)
def test_bad_pax_records(case: str) -> None:
    records, message = PAX[case]
    data = raw(b"x", len(records), records) + make_tar(file("x"))
    with pytest.raises(ImageError, match=message):
        read(data)


def test_nul_in_a_gnu_name() -> None:
    data = raw(b"L", 4, b"a\0b\0") + make_tar(file("x"))
    with pytest.raises(ImageError, match="NUL byte"):
        read(data)


def test_gigantic_file_is_cut_off_not_read() -> None:
    info, _ = file("x", b"d" * 512)
    info.pax_headers = {"size": str(2**62)}
    data = make_tar((info, b"d" * 512))
    reader = TarReader(io.BytesIO(data))
    with pytest.raises(ImageError, match="ends too early"):
        for item in reader:
            assert item.size == 2**62


def test_not_a_tar() -> None:
    with pytest.raises(ImageError, match="not a tar archive"):
        read(os.urandom(100).hex().encode() * 10)
    with pytest.raises(ImageError, match="empty"):
        read(b"")
