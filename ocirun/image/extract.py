"""Writing the entries of a layer, or of a root file system, into an image's folder.

The archive is hostile until proven otherwise. Whatever it says, nothing outside
the folder is created, changed, opened or removed: parents are resolved inside
the root (`tree`), the last component is never followed, files are created with
O_EXCL, and what existed is removed before it is replaced. Whiteouts and opaque
directories are those of the OCI image specification, layer.md, "Whiteouts".
"""

import errno
import os
import stat
from collections.abc import Iterable

from ocirun.errors import ImageError
from ocirun.image import tree
from ocirun.image.tar import Entry
from ocirun.state.process import in_user_namespace, is_alone

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"

# Extended attributes that mean the same on every machine. Not kept: security.selinux
# and its like (the host's policy), trusted.* and user.overlay.* (they would steer
# the overlay that later lies over the image).
_XATTRS = (b"security.capability", b"user.", b"system.posix_acl_")
_XATTRS_NOT = (b"user.overlay.",)
# errno values that mean: this file system, or this user, cannot have that attribute.
_XATTR_MISSING = (errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.ENOSPC, errno.ERANGE)
# Far beyond every file system's range; the kernel clamps what is left (timestamp_truncate).
_MAX_SECONDS = 2**40

Data = Iterable[tuple[int, bytes]]


class Budget:
    """What one import may write: shared by all its layers."""

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self.bytes = 0
        self.entries = 0

    def take(self, entry: Entry) -> None:
        """Account for one entry, at its apparent size.

        Raises:
            ImageError: there is more than the import may write.
        """
        self.bytes += entry.size
        self.entries += 1
        if self.bytes > self.max_bytes:
            raise ImageError(
                f"the image holds more than {self.max_bytes} bytes",
                hint="raise the limit with --max-size",
            )
        if self.entries > self.max_entries:
            raise ImageError(f"the image holds more than {self.max_entries} files")


class Extractor:
    """Writes entries below `root`, an open directory; one object for one layer.

    Args:
        layered: whiteouts have their meaning. False for a root file system, where
            `.wh.x` is a name like any other.

    As root, owners, device nodes and setuid bits are kept; device nodes not by root of a user
    namespace, owners not where it is the only user that is mapped. Otherwise every file
    belongs to the caller: device nodes are left out (`skipped` counts them), setuid
    and setgid are dropped because the owner is another, and directories stay
    writable for their owner so that later layers can be written.
    """

    def __init__(self, root: int, budget: Budget, *, layered: bool) -> None:
        self._root = root
        self._budget = budget
        self._layered = layered
        self._owner = os.geteuid() == 0 and not is_alone()
        self._nodes = os.geteuid() == 0 and not in_user_namespace()
        self._parent = (b"", tree.resolve_directory(root, b""))
        # Directories get their times last: writing into them changes those.
        self._times: dict[bytes, int] = {}
        # Paths that this layer has written, with the directories above them.
        self._written: set[bytes] = set()
        self.skipped = 0

    def add(self, entry: Entry, data: Data) -> None:
        """Write one entry; `data` yields its content.

        Raises:
            ImageError: the entry has a name that is not allowed, or cannot be written.
        """
        self._budget.take(entry)
        parts = _split(entry.name)
        try:
            if not parts:
                self._write_root(entry)
            elif self._layered and any(part.startswith(WHITEOUT) for part in parts):
                self._whiteout(parts)
            else:
                self._write(entry, b"/".join(parts[:-1]), parts[-1], data)
        except OSError as error:
            raise tree.image_error(error, "cannot unpack", entry.name) from None

    def __enter__(self) -> "Extractor":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._parent[1].close()
        if kind is None:
            self._finish_times()

    def _finish_times(self) -> None:
        """Set the times of the directories, which entries written later have disturbed."""
        for path, mtime in self._times.items():
            parent, name = tree.split_parent(path)
            try:
                with tree.resolve_directory(self._root, parent) as place:
                    _set_times(place.fd, name or b".", mtime)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # replaced since
                    raise tree.image_error(error, "cannot unpack", path) from None

    # --- names ------------------------------------------------------------------

    def _open_parent(self, path: bytes, *, create: bool) -> tree.Place:
        """Resolve the parent of an entry; the latest one is kept, most entries share it."""
        known, place = self._parent
        if path == known and place.fd >= 0:
            return place
        fresh = tree.resolve_directory(self._root, path, create=create)
        place.close()
        self._parent = (path, fresh)
        return fresh

    def _mark(self, path: bytes) -> None:
        while self._layered and path and path not in self._written:
            self._written.add(path)
            path = path.rpartition(b"/")[0]

    # --- entries ----------------------------------------------------------------

    def _write_root(self, entry: Entry) -> None:
        """The entry of the root directory itself, such as `./`."""
        if entry.kind != "directory":
            raise ImageError(
                f"the root of the image is a {entry.kind}", path=os.fsdecode(entry.name)
            )
        self._finish_directory(self._root, b"", entry)

    def _write(self, entry: Entry, parent: bytes, name: bytes, data: Data) -> None:
        place = self._open_parent(parent, create=True)
        path = place.path + b"/" + name if place.path else name
        existing = _kind_at(place.fd, name)
        replaced = existing and not (existing == "directory" and entry.kind == "directory")
        if replaced and entry.kind != "hardlink":
            tree.remove_tree(place.fd, name)
        match entry.kind:
            case "hardlink":
                self._link(entry, place, name, path)
            case "file":
                self._write_file(entry, place.fd, name, data)
            case "directory":
                self._write_directory(entry, place.fd, name, path)
            case "symlink":
                os.symlink(entry.link, name, dir_fd=place.fd)
                self._own(entry, place.fd, name)
                _set_times(place.fd, name, entry.mtime)
            case _:
                self._write_node(entry, place.fd, name)
        self._mark(path)
        if replaced:
            place.close()  # it may have been a link by which this very parent was found

    def _write_file(self, entry: Entry, parent: int, name: bytes, data: Data) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            position = 0
            for offset, part in data:
                if offset != position:
                    os.lseek(fd, offset, os.SEEK_SET)
                _write_all(fd, part)
                position = offset + len(part)
            if position != entry.size:
                os.ftruncate(fd, entry.size)
            self._finish(fd, entry)
            os.utime(fd, ns=_times(entry.mtime))
        finally:
            os.close(fd)

    def _write_directory(self, entry: Entry, parent: int, name: bytes, path: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            pass  # of a lower layer: contents stay, owner and mode become this one's
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=parent)
        try:
            self._finish_directory(fd, path, entry)
        finally:
            os.close(fd)

    def _finish_directory(self, fd: int, path: bytes, entry: Entry) -> None:
        if not self._owner:
            entry.mode |= 0o700
        self._finish(fd, entry)
        self._times[path] = entry.mtime

    def _write_node(self, entry: Entry, parent: int, name: bytes) -> None:
        """A device or a FIFO. It is made and never opened."""
        if entry.kind == "fifo":
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif self._nodes:
            kind = stat.S_IFCHR if entry.kind == "char" else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=parent)
        else:
            self.skipped += 1
            return
        self._own(entry, parent, name)
        os.chmod(name, self._mode(entry), dir_fd=parent, follow_symlinks=False)
        _set_times(parent, name, entry.mtime)

    def _link(self, entry: Entry, place: tree.Place, name: bytes, path: bytes) -> None:
        """Make a hard link. Its target is resolved inside the image, and looked at first: it
        may be what the link replaces."""
        target = _split(entry.link)
        if not target:
            raise ImageError("a hard link to the root of the image", path=os.fsdecode(entry.name))
        try:
            with tree.resolve_directory(self._root, b"/".join(target[:-1])) as source:
                existing = _kind_at(source.fd, target[-1])
                if not existing:
                    raise FileNotFoundError(errno.ENOENT, "no such file")
                if (source.path + b"/" + target[-1]).lstrip(b"/") == path:
                    return
                tree.remove_tree(place.fd, name)
                os.link(
                    target[-1],
                    name,
                    src_dir_fd=source.fd,
                    dst_dir_fd=place.fd,
                    follow_symlinks=False,
                )
        except OSError as error:
            doing = f"cannot link to {entry.link[:200].decode('utf-8', 'backslashreplace')!r}"
            raise tree.image_error(error, doing, entry.name) from None

    # --- whiteouts --------------------------------------------------------------

    def _whiteout(self, parts: list[bytes]) -> None:
        *parents, name = parts
        if any(part.startswith(WHITEOUT) for part in parents):
            raise ImageError("a file below a whiteout", path=os.fsdecode(b"/".join(parts)))
        hidden = name[len(WHITEOUT) :]
        if name != OPAQUE and name.startswith(WHITEOUT + WHITEOUT):
            return  # bookkeeping of aufs: .wh..wh.aufs, .wh..wh.plnk, .wh..wh.orph
        if hidden in (b"", b".", b".."):
            raise ImageError(
                "a whiteout of no name, or of a directory above",
                path=os.fsdecode(b"/".join(parts)),
            )
        try:
            place = self._open_parent(b"/".join(parents), create=False)
        except (FileNotFoundError, NotADirectoryError):
            return  # the lower layers have no such directory: nothing to hide
        if name == OPAQUE:
            for child in tree.list_names(place.fd):
                self._hide(place, child)
        else:
            self._hide(place, hidden)
        place.close()  # the next entry resolves its parent anew

    def _hide(self, place: tree.Place, name: bytes) -> None:
        """Remove what lower layers have put at `name`; what this layer has written stays."""
        path = place.path + b"/" + name if place.path else name
        if path not in self._written:
            tree.remove_tree(place.fd, name)
        elif _kind_at(place.fd, name) == "directory":
            with tree.resolve_directory(self._root, path) as below:
                for child in tree.list_names(below.fd):
                    self._hide(below, child)

    # --- attributes -------------------------------------------------------------

    def _finish(self, fd: int, entry: Entry) -> None:
        # In this order: chown(2) clears setuid and capabilities.
        if self._owner:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, self._mode(entry))
        for name, value in entry.xattrs.items():
            if not name.startswith(_XATTRS) or name.startswith(_XATTRS_NOT) or b"\0" in name:
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno not in _XATTR_MISSING:
                    raise

    def _own(self, entry: Entry, parent: int, name: bytes) -> None:
        if self._owner:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)

    def _mode(self, entry: Entry) -> int:
        return entry.mode if self._owner else entry.mode & ~(stat.S_ISUID | stat.S_ISGID)


def _split(name: bytes) -> list[bytes]:
    """Components of an entry's name. A leading slash means the image's root.

    Raises:
        ImageError: `..` in it, or no name at all.
    """
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ImageError(
            "the archive holds a name with `..`: refused, it could lead out of the image",
            path=os.fsdecode(name),
        )
    if not name:
        raise ImageError("the archive holds an entry without a name")
    return parts


def _kind_at(parent: int, name: bytes) -> str:
    """`directory`, `other`, or "" when there is nothing."""
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return ""
    return "directory" if stat.S_ISDIR(mode) else "other"


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _times(mtime: int) -> tuple[int, int]:
    limit = _MAX_SECONDS * 10**9
    clamped = max(-limit, min(limit, mtime))
    return clamped, clamped


def _set_times(parent: int, name: bytes, mtime: int) -> None:
    os.utime(name, ns=_times(mtime), dir_fd=parent, follow_symlinks=False)
