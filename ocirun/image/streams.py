"""Byte streams: digests, limits, decompression, slices of files.

A stream here is any object with `read(n) -> bytes`, empty at the end. Nothing
here knows what the bytes mean.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
import subprocess
import threading
import zlib
from collections.abc import Callable
from typing import IO, Protocol, cast

from ocirun.errors import ImageError

CHUNK = 1 << 20
# Memory that an xz stream may ask for; `xz -9` asks for 65 MiB.
XZ_MEMORY = 256 << 20
# Digests that an OCI image may use: image-spec, descriptor.md, "Registered algorithms".
ALGORITHMS = {"sha256": 64, "sha512": 128}

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
# Formats that are known and not read, so that the message can name them.
_UNREAD = ((b"\x5d\x00\x00", "lzma"), (b"\x04\x22\x4d\x18", "lz4"), (b"PK\x03\x04", "zip"))


class Stream(Protocol):
    """Anything that bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; empty at the end."""
        ...


def read_exactly(stream: Stream, size: int) -> bytes:
    """Read `size` bytes, or fewer only at the end of the stream. `size` must be bounded."""
    parts = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def drain(stream: Stream) -> None:
    """Read to the end, so that digests and checksums of the stream are complete."""
    while stream.read(CHUNK):
        pass


class Slice:
    """`size` bytes of a file from `offset`. Several slices of one file may be read in turn."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._position = offset
        self._end = offset + size

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; empty at the end of the slice or of the file."""
        data = os.pread(self._fd, min(size, self._end - self._position), self._position)
        self._position += len(data)
        return data

    def skip(self, size: int) -> bool:
        """Move forward without reading. False: the slice or the file ends before that."""
        left = self._end - self._position
        self._position += min(size, left)
        return size <= left


class Counted:
    """Passes bytes on; tells a callback how many went by, and stops at a limit."""

    def __init__(
        self,
        stream: Stream,
        *,
        limit: int = 0,
        message: str = "",
        passed: Callable[[int], None] | None = None,
    ) -> None:
        self._stream = stream
        self._limit = limit
        self._message = message
        self._passed = passed
        self.total = 0

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes.

        Raises:
            ImageError: the limit (0: none) is passed.
        """
        data = self._stream.read(size)
        self.total += len(data)
        if self._limit and self.total > self._limit:
            raise ImageError(self._message, hint="raise the limit with --max-size")
        if self._passed is not None:
            self._passed(len(data))
        return data


class Digesting:
    """Passes bytes on and hashes them."""

    def __init__(self, stream: Stream, algorithm: str) -> None:
        self._stream = stream
        self._hash = hashlib.new(algorithm)
        self.total = 0

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        data = self._stream.read(size)
        self.total += len(data)
        self._hash.update(data)
        return data

    def finish(self) -> str:
        """Read to the end; return the digest of everything, ALGORITHM:HEX."""
        drain(self)
        return f"{self._hash.name}:{self._hash.hexdigest()}"


class Checked(Digesting):
    """Passes bytes on, and compares their digest with the one that was promised."""

    def __init__(self, stream: Stream, digest: str, *, size: int = -1, what: str) -> None:
        super().__init__(stream, parse_digest(digest, what)[0])
        self._digest = digest
        self._size = size
        self._what = what

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes.

        Raises:
            ImageError: there are more than promised.
        """
        data = super().read(size)
        if 0 <= self._size < self.total:
            raise ImageError(f"{self._what} {self._digest} is larger than {self._size} bytes")
        return data

    def verify(self) -> None:
        """Read to the end and compare digest and size.

        Raises:
            ImageError: they differ.
        """
        actual = self.finish()
        if 0 <= self._size != self.total:
            raise ImageError(
                f"{self._what} {self._digest} has {self.total} bytes, "
                f"but the manifest says {self._size}",
                hint="the archive is truncated or damaged; fetch it again",
            )
        if actual != self._digest:
            raise ImageError(
                f"the content of {self._what} {self._digest} has another digest: {actual}",
                hint="the archive is damaged or has been tampered with; fetch it again",
            )


def parse_digest(digest: str, what: str) -> tuple[str, str]:
    """Split `ALGORITHM:HEX`; only sha256 and sha512 in lower-case hexadecimal pass.

    Raises:
        ImageError: any other text. So the two parts are safe as file names.
    """
    algorithm, _, value = digest.partition(":")
    length = ALGORITHMS.get(algorithm)
    if length is None:
        raise ImageError(
            f"{what}: digest {digest[:80]!r} has an unknown algorithm",
            hint="known are sha256 and sha512",
        )
    if len(value) != length or value.strip("0123456789abcdef"):
        raise ImageError(f"{what}: {digest[:160]!r} is not a digest")
    return algorithm, value


def compression(head: bytes) -> str:
    """Name the compression by the first bytes (6 suffice): gzip, bzip2, xz, zstd, or "" for none.

    Raises:
        ImageError: a format that is recognised and not read (lzma, lz4, zip).
    """
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    for magic, name in _UNREAD:
        if head.startswith(magic):
            raise ImageError(
                f"{name} compression is not supported", hint="recompress with gzip, xz or zstd"
            )
    return ""


class Decompressed:
    """A stream, decompressed if its first bytes say so. A context manager.

    Raises (from the constructor and from `read`):
        ImageError: truncated or damaged data, or a format that cannot be read here.
    """

    def __init__(self, stream: Stream) -> None:
        head = read_exactly(stream, 6)
        self.format = compression(head)
        source = _Prefixed(head, stream)
        self._inner: Stream
        match self.format:
            case "gzip":
                self._inner = gzip.GzipFile(fileobj=cast(IO[bytes], source), mode="rb")
            case "bzip2":
                self._inner = bz2.BZ2File(cast(IO[bytes], source), mode="rb")
            case "xz":
                self._inner = _Xz(source)
            case "zstd":
                self._inner = _Zstd(source)
            case _:
                self._inner = source

    def read(self, size: int, /) -> bytes:
        """Return up to `size` decompressed bytes."""
        try:
            return self._inner.read(size)
        except EOFError:
            raise ImageError(
                f"the {self.format} data ends too early",
                hint="the archive is truncated; fetch it again",
            ) from None
        except (zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError) as error:
            raise ImageError(f"the {self.format} data is damaged: {error}") from None
        except OSError as error:
            # bz2 reports bad data as an OSError without a number.
            if error.errno:
                raise
            raise ImageError(f"the {self.format} data is damaged: {error}") from None

    def __enter__(self) -> "Decompressed":
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._inner, _Zstd):
            self._inner.close()


class _Prefixed:
    """A stream with bytes put back in front of it."""

    def __init__(self, head: bytes, stream: Stream) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            size = CHUNK if size < 0 else size
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


class _Xz:
    """xz with a bound on memory, which `lzma.LZMAFile` does not offer."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._decoder: lzma.LZMADecompressor | None = None
        self._pending = b""

    def read(self, size: int, /) -> bytes:
        while True:
            if self._decoder is None or self._decoder.eof:
                rest = self._decoder.unused_data if self._decoder else self._pending
                # Between streams, and at the end, xz allows zero bytes as padding.
                rest = rest.lstrip(b"\0")
                while not rest:
                    more = self._stream.read(CHUNK)
                    if not more:
                        return b""
                    rest = more.lstrip(b"\0")
                self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
                self._pending = rest
            fresh = b""
            if self._decoder.needs_input:
                fresh = self._pending or self._stream.read(CHUNK)
                self._pending = b""
                if not fresh:
                    raise EOFError
            if data := self._decoder.decompress(fresh, size):
                return data


class _Zstd:
    """zstd by way of the `zstd` program: Python has no module for it before 3.14."""

    def __init__(self, stream: Stream) -> None:
        program = shutil.which("zstd")
        if program is None:
            raise ImageError(
                "the archive is compressed with zstd, and there is no `zstd` program",
                hint="install zstd (Debian: apt-get install zstd), or recompress with gzip",
            )
        self._process = subprocess.Popen(
            [program, "-d", "-c", "-q"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._failure: BaseException | None = None
        self._feeder = threading.Thread(target=self._feed, args=(stream,), daemon=True)
        self._feeder.start()

    def _feed(self, stream: Stream) -> None:
        sink: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        try:
            with sink:
                while data := stream.read(CHUNK):
                    sink.write(data)
        except BrokenPipeError:
            pass  # zstd has ended: its exit status tells why
        except BaseException as error:  # handed over to the reader
            self._failure = error

    def read(self, size: int, /) -> bytes:
        source: IO[bytes] = self._process.stdout  # type: ignore[assignment]
        data = source.read(size)
        if not data:
            self._feeder.join()
            if self._failure is not None:
                raise self._failure
            if self._process.wait() != 0:
                raise ValueError("zstd refuses it")
        return data

    def close(self) -> None:
        """End the program, whatever state it is in."""
        self._process.kill()
        self._process.wait()
        self._feeder.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
