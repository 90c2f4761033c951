"""Importing an image: from a directory, a tar, a `docker save` archive or an OCI layout.

Here the source is opened, recognised and turned into layers for `extract`; the
image appears in the store only when every digest has proved right.
"""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ocirun.errors import ImageError
from ocirun.image import tree
from ocirun.image.archive import DirectoryFiles, Files, Found, Layer, TarFiles, find_image
from ocirun.image.config import ImageConfig
from ocirun.image.extract import Budget, Extractor
from ocirun.image.scan import scan
from ocirun.image.store import Image, Store, name_taken
from ocirun.image.streams import (
    CHUNK,
    Checked,
    Counted,
    Decompressed,
    Digesting,
    Slice,
    compression,
)
from ocirun.image.tar import TarReader

# Bytes that an image may hold, and its layers' tars too: 64 GiB.
MAX_BYTES = 64 << 30
# Inodes that an image may use.
MAX_FILES = 2_000_000


# Called as an import goes on: what is being done, bytes done, bytes in all (0: unknown).
Progress = Callable[[str, int, int], None]


def _silent(what: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What an import may do, and which image of an archive is meant.

    Attributes:
        force: replace an image of that name.
        reference: tag or name, for archives that hold several images.
        platform: OS/ARCHITECTURE; "" for this machine.
        max_bytes: what the image may hold.
    """

    force: bool = False
    reference: str = ""
    platform: str = ""
    max_bytes: int = MAX_BYTES


def import_image(
    name: str,
    source: str,
    *,
    data_root: str = "",
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> Image:
    """Import an image; it appears under its name when it is whole, or not at all.

    Args:
        source: path of a root file system (directory or tar), a `docker save` archive or
            an OCI image layout (directory or tar); `-` reads a tar from stdin. A tar may be
            compressed with gzip, bzip2, xz or zstd.

    Raises:
        ImageError: see docs/images.md for the list.
    """
    options = options or ImportOptions()
    store = Store(data_root)
    if store.has_image(name) and not options.force:
        raise name_taken(name)
    with ExitStack() as stack:
        source_fd = _open_source(source)
        stack.callback(os.close, source_fd)
        staged = stack.enter_context(store.staging(store.images))
        try:
            image = _Import(name, store, staged, options, progress or _silent).run(source_fd, stack)
        except ImageError as error:
            error.path = error.path or source
            raise
        except OSError as error:
            raise tree.image_error(
                error, f"cannot import {source}", error.filename or source
            ) from None
        return store.publish(staged, image, force=options.force)


def _open_source(source: str) -> int:
    try:
        if source == "-":
            return os.dup(0)
        # A FIFO is welcome (`ocirun image import x <(docker export y)`), so no O_NONBLOCK.
        return os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError(f"cannot open {source}", errno=error.errno or 0, path=source) from None


class _Import:
    """One import in progress."""

    def __init__(
        self, name: str, store: Store, staged: Path, options: ImportOptions, progress: Progress
    ) -> None:
        self._name = name
        self._store = store
        self._staged = staged
        self._options = options
        self._progress = progress
        self._budget = Budget(options.max_bytes, MAX_FILES)

    def run(self, source: int, stack: ExitStack) -> Image:
        """Unpack the source into the staging folder."""
        (self._staged / "rootfs").mkdir(mode=0o755)
        os.chmod(self._staged / "rootfs", 0o755)  # whatever the umask
        root = tree.open_root(str(self._staged / "rootfs"))
        stack.callback(os.close, root)
        kind = os.fstat(source).st_mode
        if stat.S_ISDIR(kind):
            directory = DirectoryFiles(source)
            stack.callback(directory.close)
            found = self._find(directory)
            if found is not None:
                return self._layers(root, directory, found)
            return self._directory(root, source)
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
            raise ImageError("the source is neither a file nor a directory")
        fd = self._plain_tar(source, stack)
        archive = TarFiles(fd)
        found = self._find(archive)
        if found is not None:
            return self._layers(root, archive, found)
        return self._rootfs_tar(root, fd)

    def _find(self, files: Files) -> Found | None:
        return find_image(files, reference=self._options.reference, wanted=self._options.platform)

    def _plain_tar(self, source: int, stack: ExitStack) -> int:
        """A descriptor of an uncompressed tar that can be read at any offset.

        What is compressed or comes from a pipe goes into a nameless file of the staging
        folder first: the manifest of `docker save` comes last, after the layers it names.
        """
        status = os.fstat(source)
        regular = stat.S_ISREG(status.st_mode)
        if regular and not compression(os.pread(source, 6, 0)):
            return source
        total = status.st_size if regular else 0
        file = stack.enter_context(tempfile.TemporaryFile(dir=self._staged))  # noqa: SIM115
        raw = os.fdopen(os.dup(source), "rb", buffering=0)
        stack.callback(raw.close)
        stream = stack.enter_context(
            Decompressed(Counted(raw, passed=self._reporter("reading", total)))
        )
        bounded = Counted(stream, limit=self._options.max_bytes, message=self._too_large())
        while data := bounded.read(CHUNK):
            file.write(data)
        file.flush()
        return file.fileno()

    # --- kinds of sources -------------------------------------------------------

    def _directory(self, root: int, source: int) -> Image:
        names = set(os.listdir(source))
        if not names:
            raise ImageError("the directory is empty", hint="expected a root file system")
        if {"config.json", "rootfs"} <= names:
            raise ImageError(
                "this is a bundle, not a root file system", hint="import its rootfs directory"
            )
        data_root = os.stat(self._store.root)
        report = self._reporter("copying", 0)
        with Extractor(root, self._budget, layered=False) as extractor:
            for entry, data in scan(source, exclude=(data_root.st_dev, data_root.st_ino)):
                extractor.add(entry, data)
                report(entry.size)
        return self._image(root, "directory", "", ImageConfig(), ())

    def _rootfs_tar(self, root: int, fd: int) -> Image:
        size = os.fstat(fd).st_size
        stream = Digesting(
            Counted(Slice(fd, 0, size), passed=self._reporter("unpacking", size)), "sha256"
        )
        with Extractor(root, self._budget, layered=False) as extractor:
            reader = TarReader(stream)
            for entry in reader:
                extractor.add(entry, reader.data())
        if not self._budget.entries:
            raise ImageError("the archive is empty")
        digest = stream.finish()
        return self._image(root, "tar", digest, ImageConfig(), (digest,))

    def _layers(self, root: int, files: Files, found: Found) -> Image:
        opened = [(layer, *files.open(layer.name)) for layer in found.layers]
        total = sum(size for _, _, size in opened)
        report = self._reporter("unpacking", total)
        for layer, stream, _ in opened:
            self._unpack(root, layer, Counted(stream, passed=report))
        diff_ids = tuple(layer.diff_id for layer in found.layers)
        return self._image(root, found.kind, found.digest, found.config, diff_ids)

    def _unpack(self, root: int, layer: Layer, raw: Counted) -> None:
        """Apply one layer, and prove it: digest and size as stored, digest of the plain tar."""
        packed = Checked(raw, layer.digest, size=layer.size, what="layer") if layer.digest else raw
        with Decompressed(packed) as plain:
            tar = Checked(
                Counted(plain, limit=self._options.max_bytes, message=self._too_large()),
                layer.diff_id,
                what="uncompressed layer",
            )
            try:
                with Extractor(root, self._budget, layered=True) as extractor:
                    reader = TarReader(tar, need_end=False)
                    for entry in reader:
                        extractor.add(entry, reader.data())
                tar.verify()
            except ImageError as error:
                # Damage is better told by the digest, if there is one. Errors of the
                # kernel (a full disk) speak for themselves.
                if isinstance(packed, Checked) and not error.errno:
                    packed.verify()
                raise error
        if isinstance(packed, Checked):
            packed.verify()

    # --- small things -----------------------------------------------------------

    def _image(
        self, root: int, source: str, digest: str, config: ImageConfig, layers: tuple[str, ...]
    ) -> Image:
        size, files = tree.measure(root)
        return Image(
            self._name,
            "",
            source=source,
            digest=digest,
            imported=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            size=size,
            files=files,
            layers=layers,
            config=config,
        )

    def _too_large(self) -> str:
        return f"the image is larger than {self._options.max_bytes} bytes"

    def _reporter(self, what: str, total: int) -> Callable[[int], None]:
        done = 0

        def passed(size: int) -> None:
            nonlocal done
            done += size
            self._progress(what, done, total)

        return passed
