"""Launch folders: DATA_ROOT/containers/ID, from the moment a launch begins until it is removed.

Such a folder is a bundle (see `bundle`) with the file `.ocirun-launch` in it. It
appears whole, by rename; while a launch is in charge of it, that holds a lock on it;
and it goes when the launch ends, or when the container that was left running is
deleted, unless its files are to be kept.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ocirun.errors import AlreadyExists, ImageError
from ocirun.image import tree
from ocirun.image.bundle import fill_bundle, replace_file
from ocirun.image.config import parse_json
from ocirun.image.options import LaunchOptions, check_id
from ocirun.image.store import MARKER, Store, claim

_MAX_MARKER = 65536


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
        UsageError, ImageError: as `bundle.fill_bundle`; no such image.
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
                    fill_bundle(final, options, store.find_image(options.image))
                    _mark(final, options, runtime_root)
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
    fill_bundle(staged, options, store.find_image(options.image))
    _mark(staged, options, runtime_root)
    with store.lock():
        store.find_image(options.image)  # still there: from now on it is in use
        if os.path.lexists(final):
            raise _taken(options.id, final)
        os.rename(staged, final)


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


def _mark(folder: Path, options: LaunchOptions, runtime_root: str) -> None:
    identity = _identity(folder)
    _write_marker(folder, Marker(options.image, options.keep, False, runtime_root, *identity))


def _write_marker(folder: Path, marker: Marker) -> None:
    replace_file(folder / MARKER, json.dumps(asdict(marker)) + "\n")


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder, follow_symlinks=False)
    return status.st_dev, status.st_ino
