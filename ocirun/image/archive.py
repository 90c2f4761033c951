"""OCI image layouts and `docker save` archives: from their files to layers and a config.

Layout: image-spec, image-layout.md; manifest.md; image-index.md. The format of
`docker save` is described in moby's image specification v1.2, "Combined Image JSON
+ Filesystem Changeset Format". Here is decided which image of an archive is meant
and what its layers must hash to; `extract` unpacks them.
"""

import json
import os
import platform
import re
from dataclasses import dataclass
from typing import Any, Protocol

from ocirun.errors import ImageError
from ocirun.image import tree
from ocirun.image.config import (
    MAX_JSON,
    ImageConfig,
    mapping,
    mappings,
    parse_config,
    parse_json,
    text,
    texts,
)
from ocirun.image.streams import Checked, Slice, Stream, parse_digest, read_exactly
from ocirun.image.tar import TarReader

MAX_LAYERS = 4096
# Indexes inside indexes.
MAX_NESTING = 8
# Files of an image archive; one with more is taken for a root file system.
_MAX_MEMBERS = 100_000

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_REF = "org.opencontainers.image.ref.name"
# Names that engines use for machines, by the kernel's name (Go's GOARCH).
_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i686": "386",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "loongarch64": "loong64",
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: where it is, and what must be true of it.

    Attributes:
        name: file in the archive.
        digest: of the file as it lies there; "" if the archive does not say.
        size: of that file, in bytes; -1 if the archive does not say.
        diff_id: digest of the uncompressed tar.
    """

    name: str
    digest: str
    size: int
    diff_id: str


@dataclass(frozen=True, slots=True)
class Found:
    """The image that was chosen from an archive."""

    kind: str
    digest: str
    config: ImageConfig
    layers: tuple[Layer, ...]


class Files(Protocol):
    """The files of an archive, whether in a directory or in a tar."""

    def open(self, name: str) -> tuple[Stream, int]:
        """Return the content and the size of a file.

        Raises:
            ImageError: there is none.
        """
        ...

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        ...


class DirectoryFiles:
    """Files below an open directory. `close` closes what `open` has opened."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: list[int] = []

    def open(self, name: str) -> tuple[Stream, int]:
        """See `Files`."""
        try:
            fd = tree.open_file(self._root, os.fsencode(name))
        except OSError as error:
            raise _missing(name, error.errno or 0) from None
        self._open.append(fd)
        size = os.fstat(fd).st_size
        return Slice(fd, 0, size), size

    def has(self, name: str) -> bool:
        """See `Files`."""
        try:
            os.close(tree.open_file(self._root, os.fsencode(name)))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close every file that was opened."""
        while self._open:
            os.close(self._open.pop())


class TarFiles:
    """Files of a plain tar that lies in a regular file, found by reading its headers once."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._members: dict[bytes, tuple[int, int]] = {}
        self._links: dict[bytes, bytes] = {}
        size = os.fstat(fd).st_size
        reader = TarReader(Slice(fd, 0, size), need_end=False)
        for entry in reader:
            name = os.path.normpath(entry.name).lstrip(b"/")
            if entry.kind == "file" and entry.segments is None:
                self._members[name] = (reader.offset, entry.size)
            elif entry.kind in ("symlink", "hardlink"):
                # Old `docker save` links layers that are alike.
                base = os.path.dirname(name) if entry.kind == "symlink" else b""
                target = os.path.normpath(os.path.join(base, entry.link))
                self._links[name] = target
            if len(self._members) + len(self._links) > _MAX_MEMBERS:
                self._members.clear()
                return

    def _find(self, name: str) -> tuple[int, int] | None:
        key = os.path.normpath(os.fsencode(name))
        for _ in range(tree.MAX_LINKS):
            if key in self._members:
                return self._members[key]
            if key not in self._links:
                return None
            key = self._links[key]
        return None

    def open(self, name: str) -> tuple[Stream, int]:
        """See `Files`."""
        found = self._find(name)
        if found is None:
            raise _missing(name, 0)
        return Slice(self._fd, *found), found[1]

    def has(self, name: str) -> bool:
        """See `Files`."""
        return self._find(name) is not None


def _missing(name: str, errno: int) -> ImageError:
    return ImageError(
        f"the archive has no file {name[:300]!r}",
        errno=errno,
        path=name[:300],
        hint="it is incomplete; save or fetch it again",
    )


def machine() -> str:
    """This machine's architecture, as image manifests name it."""
    kernel = platform.machine()
    return _MACHINES.get(kernel, kernel)


def find_image(files: Files, *, reference: str = "", wanted: str = "") -> Found | None:
    """Choose the image in an archive; None when it is no image archive.

    Args:
        reference: tag or name, for archives that hold several images.
        wanted: platform as OS/ARCHITECTURE; "" for this machine.

    Raises:
        ImageError: damaged, ambiguous, or not for that platform.
    """
    if files.has("oci-layout") and files.has("index.json"):
        return _Layout(files, wanted or f"linux/{machine()}").choose(reference)
    if files.has("manifest.json"):
        return _docker(files, reference, wanted or f"linux/{machine()}")
    return None


def _read(files: Files, name: str, digest: str = "", size: int = -1) -> bytes:
    stream, length = files.open(name)
    if length > MAX_JSON:
        raise ImageError(f"{name[:300]} is larger than {MAX_JSON} bytes")
    if not digest:
        return read_exactly(stream, length)
    checked = Checked(stream, digest, size=size, what="blob")
    data = read_exactly(checked, length)
    checked.verify()
    return data


class _Layout:
    """An OCI image layout."""

    def __init__(self, files: Files, wanted: str) -> None:
        self._files = files
        self._wanted = wanted

    def choose(self, reference: str) -> Found:
        layout = parse_json(_read(self._files, "oci-layout"), "oci-layout")
        version = text(layout, "imageLayoutVersion", "oci-layout")
        if not version.startswith("1."):
            raise ImageError(f"image layout version {version[:80]!r} is not supported")
        index = parse_json(_read(self._files, "index.json"), "index.json")
        entries = mappings(index, "manifests", "index.json")
        if not entries:
            raise ImageError("the image layout holds no image")
        tags = [text(mapping(e, "annotations", "index.json"), _REF, "index.json") for e in entries]
        if reference:
            entries = [e for e, tag in zip(entries, tags, strict=True) if tag == reference]
            if not entries:
                raise _no_reference(reference, tags)
        elif len({tag for tag in tags if tag}) > 1:
            raise _ambiguous(tags)
        return self._manifest(self._descend(entries, 0))

    def _descend(self, entries: list[dict[str, Any]], depth: int) -> dict[str, Any]:
        """Choose a descriptor of a manifest for the wanted platform, through nested indexes."""
        if depth > MAX_NESTING:
            raise ImageError(f"image indexes are nested deeper than {MAX_NESTING}")
        offered = [_platform(entry) for entry in entries]
        for exact in (True, False):
            for entry, offer in zip(entries, offered, strict=True):
                if offer != self._wanted and (exact or offer):
                    continue
                if text(entry, "mediaType", "descriptor") not in _INDEXES:
                    return entry
                nested = mappings(self._blob(entry), "manifests", "image index")
                return self._descend(nested, depth + 1)
        raise _no_platform(self._wanted, offered)

    def _blob(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        digest, size = _descriptor(descriptor)
        return parse_json(_read(self._files, _blob_name(digest), digest, size), f"blob {digest}")

    def _manifest(self, descriptor: dict[str, Any]) -> Found:
        digest, _ = _descriptor(descriptor)
        manifest = self._blob(descriptor)
        if not mapping(manifest, "config", "manifest"):
            raise ImageError(
                f"blob {digest} is no image manifest",
                hint="manifests of schema version 1 are not supported",
            )
        document = self._blob(mapping(manifest, "config", "manifest"))
        config = parse_config(document)
        _check_platform(config, self._wanted)
        diff_ids = _diff_ids(document)
        layers = mappings(manifest, "layers", "manifest")
        if len(layers) != len(diff_ids):
            raise ImageError(
                f"the manifest has {len(layers)} layers, but the config {len(diff_ids)} diff_ids",
                hint="it is an artifact, not an image of a file system" if not diff_ids else "",
            )
        for layer in layers:
            if "encrypted" in text(layer, "mediaType", "layer"):
                raise ImageError("the image's layers are encrypted, which is not supported")
        described = [_descriptor(layer) for layer in layers]
        return Found(
            "oci",
            digest,
            config,
            tuple(
                Layer(_blob_name(layer_digest), layer_digest, size, diff_id)
                for (layer_digest, size), diff_id in zip(described, diff_ids, strict=True)
            ),
        )


def _docker(files: Files, reference: str, wanted: str) -> Found | None:
    """A `docker save` archive; None if its manifest.json is something else."""
    try:
        images = json.loads(_read(files, "manifest.json"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(images, list) or not images:
        return None
    if not all(isinstance(image, dict) and "Config" in image for image in images):
        return None
    tags = [texts(image, "RepoTags", "manifest.json") for image in images]
    if reference:
        images = [image for image, names in zip(images, tags, strict=True) if reference in names]
    if len(images) != 1:
        names = [name for names in tags for name in names]
        raise _no_reference(reference, names) if reference else _ambiguous(names)
    name = text(images[0], "Config", "manifest.json")
    # The config's file bears its own digest as name, HEX.json or blobs/sha256/HEX.
    match = re.fullmatch(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?", name)
    if match is None:
        raise ImageError(f"manifest.json: {name[:300]!r} is no name of an image config")
    digest = "sha256:" + match[1]
    document = parse_json(_read(files, name, digest), "image config")
    config = parse_config(document)
    _check_platform(config, wanted)
    layers = texts(images[0], "Layers", "manifest.json")
    diff_ids = _diff_ids(document)
    if len(layers) != len(diff_ids):
        raise ImageError(
            f"manifest.json has {len(layers)} layers, but the config {len(diff_ids)} diff_ids"
        )
    return Found(
        "docker",
        digest,
        config,
        tuple(Layer(n, "", -1, diff) for n, diff in zip(layers, diff_ids, strict=True)),
    )


def _descriptor(value: dict[str, Any]) -> tuple[str, int]:
    """Digest and size of a content descriptor (image-spec, descriptor.md)."""
    digest = text(value, "digest", "descriptor")
    parse_digest(digest, "descriptor")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise ImageError(f"descriptor {digest}: size is not a number of bytes")
    return digest, size


def _blob_name(digest: str) -> str:
    return "blobs/" + "/".join(parse_digest(digest, "descriptor"))


def _diff_ids(document: dict[str, Any]) -> tuple[str, ...]:
    diff_ids = texts(mapping(document, "rootfs", "image config"), "diff_ids", "image config")
    if len(diff_ids) > MAX_LAYERS:
        raise ImageError(f"the image has more than {MAX_LAYERS} layers")
    for diff_id in diff_ids:
        parse_digest(diff_id, "diff_ids")
    return diff_ids


def _platform(entry: dict[str, Any]) -> str:
    """OS/ARCHITECTURE of a descriptor; "" if it does not say."""
    value = mapping(entry, "platform", "descriptor")
    if not value:
        return ""
    return f"{text(value, 'os', 'platform')}/{text(value, 'architecture', 'platform')}"


def _check_platform(config: ImageConfig, wanted: str) -> None:
    if config.architecture and f"linux/{config.architecture}" != wanted:
        raise _no_platform(wanted, [f"linux/{config.architecture}"])


def _no_platform(wanted: str, offered: list[str]) -> ImageError:
    names = ", ".join(sorted({name[:80] for name in offered[:50] if name}))
    return ImageError(
        f"the archive has no image for {wanted}, only for {names or 'unknown platforms'}",
        hint="choose another with --platform OS/ARCHITECTURE",
    )


def _no_reference(reference: str, names: "list[str] | tuple[str, ...]") -> ImageError:
    return ImageError(f"the archive has no image {reference!r}; it has {_listed(names)}")


def _ambiguous(names: "list[str] | tuple[str, ...]") -> ImageError:
    return ImageError(
        f"the archive holds several images: {_listed(names)}",
        hint="choose one with --reference",
    )


def _listed(names: "list[str] | tuple[str, ...]") -> str:
    return ", ".join(name[:120] for name in names[:20] if name) or "images without a name"
