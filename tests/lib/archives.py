"""Image archives made by hand: tars, OCI layouts, `docker save`; and a canary beside them.

Nothing of ocirun is used here, so that a test compares two independent ways.
"""

import hashlib
import io
import json
import os
import platform
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def file(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A regular file for `make_tar`; fields are attributes of TarInfo."""
    return entry(name, tarfile.REGTYPE, data, **fields)


def directory(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A directory."""
    return entry(name, tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def symlink(name: str, target: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A symbolic link."""
    return entry(name, tarfile.SYMTYPE, linkname=target, **fields)


def hardlink(name: str, target: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A hard link."""
    return entry(name, tarfile.LNKTYPE, linkname=target, **fields)


def entry(
    name: str, kind: bytes, data: bytes = b"", **fields: Any
) -> tuple[tarfile.TarInfo, bytes]:
    """Any kind of entry."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    info.mtime = 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def make_tar(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these entries, in this order, with whatever names they have."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    """Digest as image manifests write it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


_MACHINE = platform.machine()
# This machine, as image manifests name it.
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(_MACHINE, _MACHINE)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass
class Layout:
    """An OCI image layout in memory. Change anything before `write` or `tar`."""

    files: dict[str, bytes] = field(
        default_factory=lambda: {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    )
    manifests: list[dict[str, Any]] = field(default_factory=list)

    def blob(self, data: bytes, media_type: str = LAYER, **extra: Any) -> dict[str, Any]:
        """Add a blob; returns its descriptor."""
        digest = sha256(data)
        self.files["blobs/" + digest.replace(":", "/")] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data), **extra}

    def image(
        self,
        *tars: bytes,
        config: dict[str, Any] | None = None,
        architecture: str = ARCHITECTURE,
        pack: Callable[[bytes], bytes] = bytes,
        **extra: Any,
    ) -> dict[str, Any]:
        """Add the blobs of an image, layers packed; returns the descriptor of its manifest."""
        document = {
            "os": "linux",
            "architecture": architecture,
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [sha256(tar) for tar in tars]},
        }
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(json.dumps(document).encode()),
            "layers": [self.blob(pack(tar)) for tar in tars],
        }
        return self.blob(json.dumps(manifest).encode(), MANIFEST, **extra)

    def index(self, *descriptors: dict[str, Any], **extra: Any) -> dict[str, Any]:
        """Add the blob of a nested index; returns its descriptor."""
        return self.blob(json.dumps({"manifests": descriptors}).encode(), INDEX, **extra)

    def _all(self) -> dict[str, bytes]:
        index = json.dumps({"schemaVersion": 2, "manifests": self.manifests}).encode()
        return {"index.json": index, **self.files}

    def write(self, folder: Path) -> str:
        """Write it as a directory."""
        for name, data in self._all().items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return str(folder)

    def tar(self) -> bytes:
        """The same as a tar."""
        return make_tar(*(file(name, data) for name, data in self._all().items()))


def oci(*tars: bytes, **options: Any) -> Layout:
    """A layout with one image of these layers."""
    layout = Layout()
    layout.manifests.append(layout.image(*tars, **options))
    return layout


def docker_save(*tars: bytes, config: dict[str, Any] | None = None, tag: str = "x:1") -> bytes:
    """What `docker save` wrote before version 25; the manifest last, as there."""
    document = json.dumps(
        {
            "os": "linux",
            "architecture": ARCHITECTURE,
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [sha256(tar) for tar in tars]},
        }
    ).encode()
    name = hashlib.sha256(document).hexdigest() + ".json"
    layers = [f"{number:064x}/layer.tar" for number in range(len(tars))]
    manifest = [{"Config": name, "RepoTags": [tag], "Layers": layers}]
    return make_tar(
        *(file(layer, tar) for layer, tar in zip(layers, tars, strict=True)),
        file(name, document),
        file("manifest.json", json.dumps(manifest).encode()),
    )


def listing(root: Path) -> dict[str, str]:
    """Every file below a directory: path -> what it is and holds."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        mode = status.st_mode
        name = str(path.relative_to(root))
        if stat.S_ISLNK(mode):
            found[name] = "-> " + os.readlink(path)
        elif stat.S_ISDIR(mode):
            found[name] = "directory"
        elif stat.S_ISREG(mode):
            found[name] = path.read_bytes()[:4096].decode("latin-1")
        else:
            found[name] = f"{stat.S_IFMT(mode):o}"
    return found


class Canary:
    """A tree that must not change: names, inodes, owners, modes, times, contents."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "etc").mkdir(parents=True)
        (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "victim").write_text("untouched")
        (root / "link").symlink_to("victim")
        (root / "victim").chmod(0o640)
        self.before = self._picture()

    def _picture(self) -> list[object]:
        picture: list[object] = []
        for path in [self.root, *sorted(self.root.rglob("*"))]:
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            picture.append(
                (
                    str(path),
                    status.st_ino,
                    status.st_nlink,
                    status.st_mode,
                    status.st_uid,
                    status.st_gid,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                    content,
                )
            )
        return picture

    def check(self) -> None:
        """Fail if anything is not as it was."""
        assert self._picture() == self.before
