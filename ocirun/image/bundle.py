"""The bundle of a launch, and its folder from the moment a launch begins until it goes.

    DATA_ROOT/containers/ID/config.json     a normal configuration; its annotations ask
                                            for the overlay (see `spec`)
                            rootfs/         empty: where the container sees image and
                                            upper layer merged
                            upper/, work/   what the container writes (not for `host`)
                            .ocirun-launch  who may remove this folder, and when

It appears whole, by rename; while a launch is in charge of it, that holds a lock on
it; and it goes when the launch ends, or when the container that was left running is
deleted, unless its files are to be kept.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ocirun.errors import AlreadyExists, ImageError, UsageError
from ocirun.image import tree
from ocirun.image.config import parse_json
from ocirun.image.options import LaunchOptions, check_id
from ocirun.image.spec import launch_spec
from ocirun.image.store import HOST, MARKER, Image, Store, claim
from ocirun.image.users import resolve_user
from ocirun.state.process import in_user_namespace

_MAX_MARKER = 65536
# Tells `delete` that `cleanup` is to be called; its value is the image's name.
ANNOTATION = "run.ocirun.launch"


def fill_bundle(
    folder: Path, options: LaunchOptions, image: Image, annotations: dict[str, str]
) -> None:
    """Write config.json and the directories of a bundle; those that are there stay.

    Raises:
        UsageError, ImageError: see `launch_spec` and `resolve_user`.
        OSError: the folder cannot be written.
    """
    spec = launch_spec(
        options,
        image,
        user=resolve_user(image.rootfs, options.user or image.config.user),
        directory=os.getcwd(),
        environ=os.environ,
        rootless=os.geteuid() != 0 or in_user_namespace(),
    )
    spec["annotations"] |= annotations
    text = json.dumps(spec, indent=2) + "\n"
    _replace_file(folder / "config.json", text)
    (folder / "rootfs").mkdir(mode=0o755, exist_ok=True)
    if image.name == HOST:
        return
    (folder / "work").mkdir(mode=0o700, exist_ok=True)
    if not (folder / "upper").is_dir():
        # The root of the overlay has the owner and mode of the upper directory.
        like = os.stat(image.rootfs)
        (folder / "upper").mkdir(mode=0o700)
        os.chown(folder / "upper", like.st_uid, like.st_gid)
        os.chmod(folder / "upper", like.st_mode & 0o7777)


def write_bundle(folder: str, options: LaunchOptions, data_root: str) -> str:
    """Write the bundle of a launch into a folder of the caller's; return its absolute path.

    It is the caller's from then on: nothing of ocirun's removes it, and it does not
    keep the image from being removed.

    Raises:
        UsageError: the folder exists and is not empty; and as `fill_bundle`.
        ImageError: no such image; the folder cannot be written.
    """
    check_id(options.id)
    image = Store(data_root).find_image(options.image)
    path = Path(os.path.abspath(folder))
    try:
        if path.is_dir() and any(path.iterdir()):
            raise UsageError("the folder of the bundle is not empty", path=str(path))
        made = not path.exists()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            fill_bundle(path, options, image, {})
        except BaseException:
            for child in path.iterdir():
                _remove_in(path, child.name)
            if made:
                path.rmdir()
            raise
    except OSError as error:
        raise tree.image_error(error, "cannot write the bundle", str(path)) from None
    return str(path)


@dataclass(frozen=True, slots=True)
class Marker:
    """What `.ocirun-launch` says.

    Attributes:
        image: that the folder lies over.
        keep: the container's files are to be kept when it ends.
        kept: it has ended, and they were.
        runtime_root: where the record of its container is.
        device, inode: of the folder: a copy of it is no launch folder.
    """

    image: str
    keep: bool
    kept: bool
    runtime_root: str
    device: int
    inode: int


@contextmanager
def launch_folder(
    options: LaunchOptions,
    data_root: str,
    *,
    runtime_root: str,
    exists: Callable[[str], bool],
    detach: bool,
) -> Iterator[str]:
    """The bundle of a launch, for as long as the launch is in charge; yields its path.

    When the body ends, the folder goes, or its files are kept (`options.keep`), or the
    container is left with it (`detach`): then `cleanup` ends it. When the body fails,
    the folder goes; files that an earlier launch kept stay.

    Args:
        exists: whether the runtime has a container of an id. A folder without one, that
            no launch is in charge of, was left by a crash and is replaced.

    Raises:
        AlreadyExists: a container of that id exists, or files kept from one.
        UsageError, ImageError: as `fill_bundle`; no such image.
    """
    store = Store(data_root)
    check_id(options.id)
    store.find_image(options.image)
    final = store.containers / options.id
    with store.staging(store.containers) as staged:
        lock = _take_over(store, final, options, runtime_root, exists)
        try:
            if lock is None:
                _appear(store, staged, final, options, runtime_root)
            identity = _identity(final)
            try:
                if lock is not None:
                    _fill(store, final, options, runtime_root)
                yield str(final)
            except BaseException:
                _end(store, final, identity, keep=lock is not None)
                raise
            if not detach:
                _end(store, final, identity, keep=options.keep)
        except OSError as error:
            raise tree.image_error(error, "cannot write the bundle", str(final)) from None
        finally:
            if lock is not None:
                os.close(lock)


def _appear(
    store: Store, staged: Path, final: Path, options: LaunchOptions, runtime_root: str
) -> None:
    """Fill the staging folder and give it its name, while the image is there."""
    _fill(store, staged, options, runtime_root)
    with store.lock():
        store.find_image(options.image)  # still there: from now on it is in use
        if os.path.lexists(final):
            raise _taken(options.id, final)
        os.rename(staged, final)


def _fill(store: Store, folder: Path, options: LaunchOptions, runtime_root: str) -> None:
    image = store.find_image(options.image)
    fill_bundle(folder, options, image, {ANNOTATION: image.name})
    identity = _identity(folder)
    _write_marker(folder, Marker(options.image, options.keep, False, runtime_root, *identity))


def _take_over(
    store: Store,
    final: Path,
    options: LaunchOptions,
    runtime_root: str,
    exists: Callable[[str], bool],
) -> int | None:
    """Decide about a folder that is there already.

    Returns a lock on it if it was kept and is used again; None if there is none, or no
    longer.
    """
    with store.lock():
        if not os.path.lexists(final):
            return None
        marker = read_marker(str(final))
        if marker is None or exists(options.id):
            raise _taken(options.id, final)
        if marker.kept:
            _check_kept(marker, options, final)
        elif marker.runtime_root != runtime_root:
            raise _taken(options.id, final)
        try:
            lock = claim(final, wait=False)
        except OSError:
            raise _taken(options.id, final) from None  # a launch is in charge of it
        if marker.kept:
            return lock
        os.close(lock)
        doomed = store.discard(final)
    store.clear(doomed)
    return None


def _check_kept(marker: Marker, options: LaunchOptions, path: Path) -> None:
    if not options.keep:
        raise AlreadyExists(
            f"the files of an earlier container {options.id!r} were kept",
            path=str(path),
            hint="go on with them by --keep, or remove that folder",
        )
    if marker.image != options.image:
        raise AlreadyExists(
            f"the files kept of container {options.id!r} lie over image {marker.image!r}",
            path=str(path),
            hint="choose another id, or remove that folder",
        )


def _taken(container_id: str, path: Path) -> AlreadyExists:
    return AlreadyExists(
        f"container {container_id!r} already exists",
        path=str(path),
        hint=f"`ocirun delete {container_id}` first, or choose another id",
    )


def cleanup(bundle: str) -> None:
    """Remove the folder of a launch whose container is gone, or keep its files if so asked.

    Does nothing unless `bundle` is a folder that `launch_folder` made, at its place.
    `delete` calls it for every bundle with the file MARKER in it, before it removes the
    container's record. Follows no symlink; a second call does nothing.

    Raises:
        ImageError: the files cannot be removed.
    """
    path = Path(os.path.abspath(bundle))
    marker = read_marker(str(path))
    if marker is None or path.parent.name != "containers":
        return
    store = Store(str(path.parent.parent))
    _end(store, path, (marker.device, marker.inode), keep=marker.keep)


def _end(store: Store, path: Path, identity: tuple[int, int], *, keep: bool) -> None:
    """Mark the folder as kept, or remove it; only if it still is the one that was meant."""
    with store.lock():
        marker = read_marker(str(path))
        if marker is None or (marker.device, marker.inode) != identity:
            return
        if keep:
            _write_marker(path, replace(marker, kept=True))
            return
        doomed = store.discard(path)
    store.clear(doomed)


def read_marker(folder: str) -> Marker | None:
    """Read the marker of a launch folder; None if the folder is none, or a copy of one."""
    try:
        root = tree.open_root(folder)
    except OSError:
        return None
    try:
        status = os.fstat(root)
        marker = Marker(**parse_json(tree.read_file(root, MARKER.encode(), _MAX_MARKER), MARKER))
    except (OSError, ImageError, TypeError):
        return None
    finally:
        os.close(root)
    return marker if (marker.device, marker.inode) == (status.st_dev, status.st_ino) else None


def _write_marker(folder: Path, marker: Marker) -> None:
    _replace_file(folder / MARKER, json.dumps(asdict(marker)) + "\n")


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder, follow_symlinks=False)
    return status.st_dev, status.st_ino


def _replace_file(path: Path, text: str) -> None:
    """Write a file beside its place and rename it there."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.rename(fresh, path)


def _remove_in(folder: Path, name: str) -> None:
    root = tree.open_root(str(folder))
    try:
        tree.remove_tree(root, os.fsencode(name))
    finally:
        os.close(root)
