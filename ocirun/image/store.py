"""The data root: where images and the containers of `launch` lie.

    DATA_ROOT/lock                    flock(2): held while names appear or go
    DATA_ROOT/images/NAME/image.json  what the image is
    DATA_ROOT/images/NAME/rootfs/     its files
    DATA_ROOT/containers/ID/          bundles of `launch` (see `bundle`)
    DATA_ROOT/*/.import-*, .remove-*  half made or half removed: no name begins with a
                                      dot, so nobody sees them

Folders appear and disappear by rename(2) alone, so an image is there whole or not
at all. Whoever fills or empties a dot folder holds a lock on it; one that nobody
holds was left by a crash and is removed by the next import or removal.
"""

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ocirun.errors import ImageError
from ocirun.image import tree
from ocirun.image.config import MAX_JSON, ImageConfig, mapping, parse_json, text, texts
from ocirun.state.process import in_user_namespace

HOST = "host"
# Present in every folder that `launch` has made; written and read by `bundle`.
MARKER = ".ocirun-launch"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:[:/][A-Za-z0-9][A-Za-z0-9._-]*)*")
_MAX_NAME = 128


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the store.

    Attributes:
        name: as given at import, such as `busybox:1.36`.
        rootfs: absolute path of its files.
        source: directory, tar, docker, oci, or builtin (`host`).
        digest: of its manifest (oci), config (docker) or archive (tar); else "".
        imported: time of the import, RFC 3339 in UTC.
        size: bytes of its files.
        files: how many.
        layers: diff_ids, lowest first.
        config: defaults for its containers.
        problem: why image.json cannot be read; "" when all is well.
    """

    name: str
    rootfs: str
    source: str = ""
    digest: str = ""
    imported: str = ""
    size: int = 0
    files: int = 0
    layers: tuple[str, ...] = ()
    config: ImageConfig = field(default_factory=ImageConfig)
    problem: str = ""

    def facts(self) -> dict[str, Any]:
        """Everything that is known, as plain JSON values."""
        return {**asdict(self), "layers": list(self.layers), "config": self.config.facts()}


def default_data_root() -> str:
    """$OCIRUN_DATA_ROOT, or /var/lib/ocirun for root, or ocirun under $XDG_DATA_HOME.

    Root of a user namespace that has a user's XDG_RUNTIME_DIR is that user (`podman unshare`).
    """
    if chosen := os.environ.get("OCIRUN_DATA_ROOT"):
        return chosen
    guest = os.environ.get("XDG_RUNTIME_DIR") and in_user_namespace()
    if os.geteuid() == 0 and not guest:
        return "/var/lib/ocirun"
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(base, "ocirun")


def check_name(name: str) -> str:
    """Return the name if an image may bear it: parts of letters, digits and `._-`, by `/` or `:`.

    Raises:
        ImageError: it may not, or is `host`, which is built in.
    """
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise ImageError(
            f"invalid image name {name[:80]!r}",
            hint="parts of letters, digits, `.`, `_`, `-` that begin with a letter or digit, "
            f"joined by `/` or `:`; at most {_MAX_NAME} characters",
        )
    if name == HOST:
        raise ImageError("the image name 'host' is reserved", hint="it is the machine's own root")
    return name


def _folder(name: str) -> str:
    """The folder of a name: `/` and `:` as %2f and %3a (overlay splits lowerdir at colons)."""
    return check_name(name).replace("/", "%2f").replace(":", "%3a")


class Store:
    """The images and launch folders under one data root."""

    def __init__(self, data_root: str = "") -> None:
        self.root = Path(os.path.abspath(data_root or default_data_root()))
        self.images = self.root / "images"
        self.containers = self.root / "containers"

    def prepare(self) -> None:
        """Make the folders, for their owner alone: images hold setuid files and device nodes.

        Raises:
            ImageError: the data root cannot be made.
        """
        try:
            self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
            self.images.mkdir(mode=0o700, exist_ok=True)
            self.containers.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise tree.image_error(error, "cannot make the data root", str(self.root)) from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store's lock: names appear and go only under it. Waits for others."""
        self.prepare()
        try:
            fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise tree.image_error(error, "cannot lock the data root", str(self.root)) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    # --- images -----------------------------------------------------------------

    def find_image(self, name: str) -> Image:
        """Return an image.

        Raises:
            ImageError: there is none of that name, or its image.json is damaged.
        """
        if name == HOST:
            return Image(HOST, "/", source="builtin")
        image = self._load(_folder(name), name)
        if image is None:
            raise ImageError(
                f"there is no image {name!r}",
                path=str(self.images),
                hint="`ocirun image list` shows what there is; `host` is always there",
            )
        if image.problem:
            raise ImageError(
                f"image {name!r} is damaged: {image.problem}",
                path=str(self.images / _folder(name)),
                hint="import it again with --force",
            )
        return image

    def has_image(self, name: str) -> bool:
        """Whether the name is taken, be it by a damaged image.

        Raises:
            ImageError: no image may bear that name; the data root is not the caller's to see.
        """
        place = self.images / _folder(name)
        try:
            return place.exists()
        except OSError as error:
            raise tree.image_error(error, "cannot look for the image", str(place)) from None

    def list_images(self) -> list[Image]:
        """Return all images by name; a damaged one has `problem` set, and hides no other."""
        try:
            folders = os.listdir(self.images)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise tree.image_error(error, "cannot list the images", str(self.images)) from None
        names = [(f.replace("%2f", "/").replace("%3a", ":"), f) for f in folders if f[0] != "."]
        images = [self._load(folder, name) for name, folder in sorted(names)]
        return [image for image in images if image is not None]

    def _load(self, folder: str, name: str) -> Image | None:
        rootfs = str(self.images / folder / "rootfs")
        try:
            with open(self.images / folder / "image.json", "rb") as file:
                document = parse_json(file.read(MAX_JSON), "image.json")
            return _from_json(document, name, rootfs)
        except NotADirectoryError:
            return None
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not (self.images / folder).exists():
                return None
            if not os.access(self.images, os.X_OK, effective_ids=True):
                place = str(self.images)
                raise tree.image_error(error, "cannot look for the image", place) from None
            return Image(name, rootfs, problem=f"image.json: {error.strerror}")
        except ImageError as error:
            return Image(name, rootfs, problem=error.message)

    def remove_image(self, name: str) -> None:
        """Remove an image.

        Raises:
            ImageError: there is none, or a container of `launch` uses it.
        """
        folder = _folder(name)
        with self.lock():
            if not (self.images / folder).is_dir():
                self.find_image(name)
            self._refuse_used(name, "remove")
            doomed = self.discard(self.images / folder)
        self.clear(doomed)
        self.sweep()

    def users(self, name: str) -> list[str]:
        """Ids of the launch folders that lie over an image."""
        found = []
        for folder in sorted(self.containers.iterdir()) if self.containers.is_dir() else ():
            try:
                marker = parse_json((folder / MARKER).read_bytes(), MARKER)
            except (OSError, ImageError):
                continue
            if marker.get("image") == name:
                found.append(folder.name)
        return found

    def _refuse_used(self, name: str, verb: str) -> None:
        if users := self.users(name):
            raise ImageError(
                f"cannot {verb} image {name!r}: in use by {', '.join(users[:10])}",
                path=str(self.containers / users[0]),
                hint=f"`ocirun delete {users[0]}` first",
            )

    # --- folders that are not yet, or no longer, there --------------------------

    @contextmanager
    def staging(self, parent: Path) -> Iterator[Path]:
        """A fresh dot folder in `images` or `containers`; removed at the end unless renamed.

        The folder stays locked until then, under its new name too.
        """
        with self.lock():
            path = parent / f".import-{secrets.token_hex(8)}"
            try:
                path.mkdir(mode=0o700)
            except OSError as error:
                raise tree.image_error(error, "cannot make", str(path)) from None
            fd = claim(path)
        self.sweep()
        try:
            yield path
        finally:
            try:
                if path.exists():
                    _remove(path)
            except OSError:
                pass  # `sweep` tries again; the failure that led here matters more
            finally:
                os.close(fd)

    def publish(self, staged: Path, image: Image, *, force: bool) -> Image:
        """Give a filled staging folder its name.

        Raises:
            ImageError: the name is taken (and not `force`), or the old one is in use.
        """
        final = self.images / _folder(image.name)
        doomed = None
        try:
            (staged / "image.json").write_text(_to_json(image), encoding="utf-8")
            with self.lock():
                if final.exists():
                    if not force:
                        raise name_taken(image.name)
                    self._refuse_used(image.name, "replace")
                    doomed = self.discard(final)
                os.rename(staged, final)
        except OSError as error:
            raise tree.image_error(error, "cannot store the image", str(final)) from None
        if doomed is not None:
            self.clear(doomed)
        return replace(image, rootfs=str(final / "rootfs"))

    def discard(self, path: Path) -> tuple[Path, int]:
        """Take a folder out of sight at once; call under `lock`, then `clear` without it."""
        doomed = path.with_name(f".remove-{secrets.token_hex(8)}")
        try:
            os.rename(path, doomed)
        except OSError as error:
            raise tree.image_error(error, "cannot remove", str(path)) from None
        try:
            return doomed, claim(doomed, wait=False)
        except OSError:
            return doomed, -1  # the launch that is in charge of it has the lock

    def clear(self, doomed: tuple[Path, int]) -> None:
        """Remove the files of a folder that `discard` took out of sight."""
        path, fd = doomed
        try:
            _remove(path)
        except OSError as error:
            raise tree.image_error(error, "cannot remove all of", str(path)) from None
        finally:
            if fd >= 0:
                os.close(fd)

    def sweep(self) -> None:
        """Remove what crashed imports and removals have left. Failures are left for later."""
        for parent in (self.images, self.containers):
            for path in list(parent.glob(".import-*")) + list(parent.glob(".remove-*")):
                try:
                    with self.lock():
                        fd = claim(path, wait=False)
                except OSError:
                    continue  # in work, or gone
                try:
                    _remove(path)
                except OSError:
                    pass
                finally:
                    os.close(fd)


def name_taken(name: str) -> ImageError:
    """The error for a name that exists."""
    return ImageError(
        f"there is an image {name!r} already",
        hint="choose another name, or replace it with --force",
    )


def claim(path: Path, *, wait: bool = True) -> int:
    """Lock a folder; the descriptor that is returned holds the lock.

    Raises:
        OSError: EWOULDBLOCK when another holds it (and not `wait`); ENOENT, ENOTDIR.
    """
    fd = tree.open_root(str(path))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(fd)
        raise
    return fd


def _remove(path: Path) -> None:
    parent = tree.open_root(str(path.parent))
    try:
        tree.remove_tree(parent, os.fsencode(path.name))
    finally:
        os.close(parent)


def _to_json(image: Image) -> str:
    document = image.facts()
    del document["rootfs"], document["problem"]
    return json.dumps(document, indent=2) + "\n"


def _from_json(document: dict[str, object], name: str, rootfs: str) -> Image:
    what = "image.json"
    config = mapping(document, "config", what)
    size, files = document.get("size", 0), document.get("files", 0)
    if not isinstance(size, int) or not isinstance(files, int):
        raise ImageError(f"{what}: size and files must be numbers")
    return Image(
        name,
        rootfs,
        source=text(document, "source", what),
        digest=text(document, "digest", what),
        imported=text(document, "imported", what),
        size=size,
        files=files,
        layers=texts(document, "layers", what),
        config=ImageConfig(
            architecture=text(config, "architecture", what),
            created=text(config, "created", what),
            env=texts(config, "env", what),
            entrypoint=texts(config, "entrypoint", what),
            cmd=texts(config, "cmd", what),
            working_dir=text(config, "working_dir", what),
            user=text(config, "user", what),
        ),
    )
