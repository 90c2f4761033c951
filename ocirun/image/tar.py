"""A streaming reader of tar archives from strangers.

Reads ustar, pax, GNU and v7 headers, and sparse files of GNU tar (old format,
pax 0.1 and 1.0). Every header is bounded before it is read, nothing is kept of
entries that went by, a damaged or cut-off archive is an error and never a
silent end, and names stay bytes: these are the reasons why `tarfile` of the
standard library is not used. Formats: POSIX.1-2017 pax, "ustar Interchange
Format"; the GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".

Nothing here touches the file system: `extract` decides what an entry may do.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ocirun.errors import ImageError
from ocirun.image.streams import CHUNK, Stream, read_exactly

BLOCK = 512
# Largest extended header (pax records, GNU long names): names are at most PATH_MAX,
# xattrs at most 64 KiB each (xattr(7)).
MAX_EXTENSION = 1 << 20
# Segments of one sparse file.
MAX_SEGMENTS = 1 << 16
# (uid_t)-1 means "leave it" to chown(2): no file can belong to it.
MAX_ID = 2**32 - 2

_KINDS = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"S": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "char",
    b"4": "block",
    b"5": "directory",
    b"6": "fifo",
}
_TIME = re.compile(rb"(-?)(\d{1,18})(?:\.(\d*))?")


@dataclass(slots=True)
class Entry:
    """One file of an archive or a tree.

    Attributes:
        name: as the archive has it; nothing is checked.
        kind: file, hardlink, symlink, char, block, directory or fifo.
        size: length of the content in bytes, holes included; 0 unless a file.
        mode: permission bits with setuid, setgid and sticky.
        mtime: modification time in nanoseconds since the epoch.
        link: target of a symlink or hard link.
        device: (major, minor) of a device node.
        xattrs: name -> value.
        segments: (offset, length) of the data of a sparse file; None: no holes.
    """

    name: bytes
    kind: str
    size: int = 0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    segments: tuple[tuple[int, int], ...] | None = None


class TarReader:
    """Iterates over the entries of a tar stream; `data` reads the content of the latest one.

    Args:
        stream: uncompressed bytes. If it has `skip` (see `streams.Slice`), contents
            that nobody reads are skipped instead of read.
        need_end: an archive without the closing block of zeros is truncated. False
            when a digest proves that it is whole.

    Raises (while iterating and reading):
        ImageError: truncated, damaged, or a kind of entry that is not supported.
    """

    def __init__(self, stream: Stream, *, need_end: bool = True) -> None:
        self._stream = stream
        self._skip = getattr(stream, "skip", None)
        self._need_end = need_end
        self._left = 0  # bytes of content not yet read, padding excluded
        self._padding = 0
        self._segments: tuple[tuple[int, int], ...] = ()
        self._name = b""
        self.offset = 0  # position in the stream: after a header, that of the content

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def data(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset in the file, bytes) of the latest entry's content."""
        for start, length in self._segments:
            done = 0
            while done < length:
                part = self._read(min(CHUNK, length - done))
                self._left -= len(part)
                yield start + done, part
                done += len(part)

    def _next(self) -> Entry | None:
        extension = _Extension()
        while True:
            self._finish_content()
            header = read_exactly(self._stream, BLOCK)
            self.offset += len(header)
            if header.count(0) == BLOCK:
                return None
            if len(header) < BLOCK:
                if not header and not self._need_end and not extension.used:
                    return None
                raise self._truncated()
            kind = self._check(header)
            size = self._number(header[124:136], "size")
            if size < 0:
                raise self._damaged("a negative size")
            if kind in (b"x", b"X", b"L", b"K"):
                extension.add(kind, self._extension_header(size))
                continue
            self._set_content(size)
            # g: defaults for all that follow; archivers put a comment there. V: a label.
            if kind in (b"g", b"V"):
                continue
            return self._entry(header, kind, extension)

    def _entry(self, header: bytes, kind: bytes, extension: "_Extension") -> Entry:
        pax = extension.pax
        name = pax.get(b"path") or extension.name or _full_name(header)
        name = pax.get(b"GNU.sparse.name") or name
        self._name = name
        if kind not in _KINDS:
            raise ImageError(
                f"{_show(name)}: tar entries of type {kind.decode('latin-1')!r} are not supported"
            )
        entry = Entry(
            name,
            _KINDS[kind],
            mode=self._number(header[100:108], "mode") & 0o7777,
            uid=self._identity(pax.get(b"uid"), header[108:116], "uid"),
            gid=self._identity(pax.get(b"gid"), header[116:124], "gid"),
            mtime=self._number(header[136:148], "mtime") * 10**9,
            link=pax.get(b"linkpath") or extension.link or _text(header[157:257]),
            xattrs=extension.xattrs(),
        )
        if kind == b"\0" and name.endswith(b"/"):
            entry.kind = "directory"  # v7 had no type for it
        if b"mtime" in pax:
            entry.mtime = _nanoseconds(pax[b"mtime"])
        if entry.kind in ("char", "block"):
            major, minor = header[329:337], header[337:345]
            entry.device = (self._number(major, "major"), self._number(minor, "minor"))
            # Widths of the kernel's dev_t, as user space sees it: makedev(3).
            if not (0 <= entry.device[0] < 2**12 and 0 <= entry.device[1] < 2**20):
                raise self._damaged("a device number that is out of range")
        if b"\0" in entry.name or b"\0" in entry.link:
            raise self._damaged("a NUL byte in a name")
        if entry.kind != "file":
            # A size without content: old archivers leave one on links and directories.
            self._set_content(0)
            return entry
        if b"size" in pax:
            self._set_content(self._decimal(pax[b"size"], "size"))
        entry.size = self._left
        if kind == b"S" or any(key.startswith(b"GNU.sparse.") for key in pax):
            self._sparse(entry, header, kind, pax)
        self._segments = entry.segments or ((0, entry.size),)
        return entry

    # --- content ----------------------------------------------------------------

    def _set_content(self, size: int) -> None:
        self._left = size
        self._padding = -size % BLOCK
        self._segments = ()

    def _finish_content(self) -> None:
        """Pass over whatever of the latest content was not read."""
        left, padding = self._left, self._padding
        self._left = self._padding = 0
        if not self._pass(left):
            raise self._truncated()
        # umoci leaves out the last padding along with the closing zeros.
        if not self._pass(padding) and self._need_end:
            raise self._truncated()

    def _pass(self, size: int) -> bool:
        """Move forward; False if the stream ends before that."""
        if self._skip is not None:
            self.offset += size
            return bool(self._skip(size))
        while size > 0 and (data := self._stream.read(min(CHUNK, size))):
            self.offset += len(data)
            size -= len(data)
        return size == 0

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if not data:
            raise self._truncated()
        self.offset += len(data)
        return data

    def _extension_header(self, size: int) -> bytes:
        if size > MAX_EXTENSION:
            raise self._damaged(f"an extended header of {size} bytes")
        data = read_exactly(self._stream, size)
        self.offset += len(data)
        if len(data) < size:
            raise self._truncated()
        self._set_content(0)
        self._padding = -size % BLOCK
        return data

    # --- sparse files -----------------------------------------------------------

    def _sparse(self, entry: Entry, header: bytes, kind: bytes, pax: dict[bytes, bytes]) -> None:
        """Set `size` and `segments` of a sparse file; leave the stream at its data."""
        if kind == b"S":
            entry.size = self._number(header[483:495], "real size")
            segments = self._old_map(header)
        elif pax.get(b"GNU.sparse.major") == b"1":
            entry.size = self._decimal(pax.get(b"GNU.sparse.realsize", b""), "real size")
            segments = self._map_in_content()
        elif b"GNU.sparse.map" in pax:
            entry.size = self._decimal(pax.get(b"GNU.sparse.size", b""), "real size")
            segments = self._pairs(pax[b"GNU.sparse.map"].split(b","))
        else:
            raise self._damaged("a sparse file of a format that is not supported")
        position = 0
        for offset, length in segments:
            if offset < position or length < 0:
                raise self._damaged("a map of holes that overlaps")
            position = offset + length
        if position > entry.size or sum(length for _, length in segments) != self._left:
            raise self._damaged("a map of holes that does not fit its size")
        entry.segments = tuple(segments)

    def _old_map(self, header: bytes) -> list[tuple[int, int]]:
        """The map of a GNU header of type S: four pairs, and blocks of 21 pairs if that says so."""
        fields = [header[386 + 12 * n : 398 + 12 * n] for n in range(8)]
        more = header[482]
        while more:
            block = read_exactly(self._stream, BLOCK)
            self.offset += len(block)
            if len(block) < BLOCK:
                raise self._truncated()
            fields += [block[12 * n : 12 + 12 * n] for n in range(42)]
            more = block[504]
            if len(fields) > 2 * MAX_SEGMENTS:
                raise self._damaged("a map of holes that is too long")
        numbers = [self._number(part, "map") for part in fields if part[0]]
        if len(numbers) % 2:
            raise self._damaged("a map of holes with half a pair")
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def _map_in_content(self) -> list[tuple[int, int]]:
        """The map of pax format 1.0: decimal lines before the data, padded to a block."""
        lines: list[bytes] = []
        rest = b""
        wanted = 1
        while len(lines) < wanted:
            block = read_exactly(self._stream, min(BLOCK, self._left))
            self.offset += len(block)
            self._left -= len(block)
            if len(block) < BLOCK:
                raise self._truncated()
            *whole, rest = (rest + block).split(b"\n")
            lines += whole
            if lines and wanted == 1:
                wanted = 1 + 2 * self._decimal(lines[0], "map")
                if wanted > 2 * MAX_SEGMENTS:
                    raise self._damaged("a map of holes that is too long")
            if len(rest) > BLOCK:
                raise self._damaged("a map of holes that is no list of numbers")
        return self._pairs(lines[1:wanted])

    def _pairs(self, texts: list[bytes]) -> list[tuple[int, int]]:
        numbers = [self._decimal(text, "map") for text in texts]
        if len(numbers) % 2 or len(numbers) > 2 * MAX_SEGMENTS:
            raise self._damaged("a map of holes with half a pair")
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    # --- fields -----------------------------------------------------------------

    def _check(self, header: bytes) -> bytes:
        """Compare the checksum; return the type."""
        try:
            promised = self._number(header[148:156], "checksum")
        except ImageError:
            promised = -1
        rest = header[:148] + b" " * 8 + header[156:]
        signed = sum(rest) - 256 * sum(byte > 127 for byte in rest)
        if promised not in (sum(rest), signed):
            if self.offset == BLOCK:
                raise ImageError("this is not a tar archive")
            raise self._damaged("a header with a wrong checksum")
        return header[156:157]

    def _number(self, text: bytes, what: str) -> int:
        """A numeric field: octal digits, or base 256 when its first byte is 0x80 or 0xff (GNU)."""
        if text[0] in (0x80, 0xFF):
            return int.from_bytes(text[1:], "big", signed=text[0] == 0xFF)
        digits = text.split(b"\0", 1)[0].strip(b" ")
        if digits.strip(b"01234567"):
            raise self._damaged(f"a {what} that is no number")
        return int(digits or b"0", 8)

    def _decimal(self, text: bytes, what: str) -> int:
        """A decimal number below 2^63."""
        if not text or len(text) > 19 or text.strip(b"0123456789") or int(text) >= 2**63:
            raise self._damaged(f"a {what} that is no number")
        return int(text)

    def _identity(self, pax: bytes | None, text: bytes, what: str) -> int:
        value = self._number(text, what) if pax is None else self._decimal(pax, what)
        if not 0 <= value <= MAX_ID:
            raise self._damaged(f"the {what} {value}, which no file can have")
        return value

    def _damaged(self, what: str) -> ImageError:
        after = f" (at or after {_show(self._name)})" if self._name else ""
        return ImageError(f"the tar archive holds {what}{after}")

    def _truncated(self) -> ImageError:
        if self.offset == 0:
            return ImageError("the archive is empty")
        after = f" after {_show(self._name)}" if self._name else ""
        return ImageError(
            f"the tar archive ends too early{after}",
            hint="it is truncated; fetch it again",
        )


class _Extension:
    """What pax and GNU headers say about the entry that follows them."""

    def __init__(self) -> None:
        self.pax: dict[bytes, bytes] = {}
        self.name = b""
        self.link = b""
        self.used = False

    def add(self, kind: bytes, data: bytes) -> None:
        """Take in one extended header."""
        self.used = True
        if kind == b"L":
            self.name = data.rstrip(b"\0")
        elif kind == b"K":
            self.link = data.rstrip(b"\0")
        else:
            self.pax.update(_records(data))

    def xattrs(self) -> dict[bytes, bytes]:
        """Extended attributes, as star, GNU tar and Docker write them."""
        prefix = b"SCHILY.xattr."
        return {
            key[len(prefix) :]: value for key, value in self.pax.items() if key.startswith(prefix)
        }


def _records(data: bytes) -> dict[bytes, bytes]:
    """Parse pax records: `LENGTH KEY=VALUE\\n`, LENGTH counting the whole record."""
    records = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 12)
        digits = data[position:space]
        if space < 0 or not digits or digits.strip(b"0123456789"):
            raise ImageError("the tar archive holds a pax record without a length")
        end = position + int(digits)
        equals = data.find(b"=", space, end)
        if equals < 0 or end > len(data) or data[end - 1] != 0x0A:
            raise ImageError("the tar archive holds a pax record that is cut off")
        records[data[space + 1 : equals]] = data[equals + 1 : end - 1]
        position = end
    return records


def _full_name(header: bytes) -> bytes:
    name = _text(header[:100])
    prefix = _text(header[345:500])
    # GNU headers ("ustar  ") use the place of the prefix for other things.
    if prefix and header[257:263] == b"ustar\0":
        return prefix + b"/" + name
    return name


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _nanoseconds(text: bytes) -> int:
    """A pax time: decimal seconds with a fraction. What is no time is the epoch."""
    match = _TIME.fullmatch(text)
    if match is None:
        return 0
    sign, seconds, fraction = match.groups()
    value = int(seconds) * 10**9 + int((fraction or b"")[:9].ljust(9, b"0"))
    return -value if sign else value


def _show(name: bytes) -> str:
    return repr(name[:200].decode("utf-8", "backslashreplace"))
