"""A directory tree as a sequence of entries, as if it were a tar archive.

The tree may change while it is read, and may have been laid out to trap the
reader: links are recorded and never followed, FIFOs and devices are never opened,
other file systems are not entered, and sockets are left out.
"""

import errno
import os
import stat
from collections.abc import Iterator

from ocirun.image import tree
from ocirun.image.extract import Data
from ocirun.image.streams import CHUNK
from ocirun.image.tar import Entry

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def scan(root: int, *, exclude: tuple[int, int]) -> Iterator[tuple[Entry, Data]]:
    """Yield every file below the open directory `root`, parents first, with its content.

    Args:
        exclude: (device, inode) of a directory that is left out: the data root, so
            that an import of `/` does not copy itself.

    Raises:
        OSError: a file cannot be read.
    """
    device = os.fstat(root).st_dev
    links: dict[tuple[int, int], bytes] = {}
    pending = [b""]
    yield _entry(b"./", os.fstat(root), b"", _xattrs(root)), ()
    while pending:
        parent = pending.pop()
        with tree.resolve_directory(root, parent) as place:
            for name in sorted(tree.list_names(place.fd)):
                path = parent + b"/" + name if parent else name
                status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
                if stat.S_ISSOCK(status.st_mode):
                    continue
                if status.st_dev != device and not stat.S_ISDIR(status.st_mode):
                    continue  # something is bound over the file
                if stat.S_ISDIR(status.st_mode):
                    if (status.st_dev, status.st_ino) == exclude:
                        continue
                    fd = os.open(name, _DIRECTORY, dir_fd=place.fd)
                    try:
                        yield _entry(path, status, b"", _xattrs(fd)), ()
                    finally:
                        os.close(fd)
                    if status.st_dev == device:
                        pending.append(path)
                    continue
                if status.st_nlink > 1:
                    known = links.setdefault((status.st_dev, status.st_ino), path)
                    if known != path:
                        yield Entry(path, "hardlink", link=known), ()
                        continue
                yield from _leaf(place.fd, name, path, status)


def _leaf(
    parent: int, name: bytes, path: bytes, status: os.stat_result
) -> Iterator[tuple[Entry, Data]]:
    if stat.S_ISREG(status.st_mode):
        fd = os.open(name, _FILE, dir_fd=parent)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.ESTALE, "the file changed while it was copied", path)
            entry = _entry(path, status, b"", _xattrs(fd))
            yield entry, _content(fd, entry.size)
        finally:
            os.close(fd)
    elif stat.S_ISLNK(status.st_mode):
        yield _entry(path, status, os.readlink(name, dir_fd=parent), {}), ()
    else:
        yield _entry(path, status, b"", {}), ()


def _content(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the data of a file, holes left out (lseek(2), SEEK_DATA)."""
    position = 0
    while position < size:
        try:
            position = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a hole up to the end
            raise
        end = min(size, os.lseek(fd, position, os.SEEK_HOLE))
        while position < end:
            data = os.pread(fd, min(CHUNK, end - position), position)
            if not data:
                return  # cut short while it was copied; the size stays as announced
            yield position, data
            position += len(data)


def _entry(path: bytes, status: os.stat_result, link: bytes, xattrs: dict[bytes, bytes]) -> Entry:
    mode = status.st_mode
    kind = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "directory",
        stat.S_IFLNK: "symlink",
        stat.S_IFCHR: "char",
        stat.S_IFBLK: "block",
        stat.S_IFIFO: "fifo",
    }[stat.S_IFMT(mode)]
    return Entry(
        path,
        kind,
        size=status.st_size if kind == "file" else 0,
        mode=stat.S_IMODE(mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime=status.st_mtime_ns,
        link=link,
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
        xattrs=xattrs,
    )


def _xattrs(fd: int) -> dict[bytes, bytes]:
    try:
        return {os.fsencode(name): os.getxattr(fd, name) for name in os.listxattr(fd)}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA):
            return {}
        raise
