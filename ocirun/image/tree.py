"""Directory trees that strangers have filled: walk, create, read and remove below a descriptor.

Every function here takes an open directory and names relative to it. A name is
resolved one component at a time, never following a symlink by way of the
kernel: links are read and resolved as they would be inside a chroot at that
directory (as RESOLVE_IN_ROOT of openat2(2) does), so no name leads out.

What is written into a tree (tar entries, whiteouts) is `extract`'s business.
"""

import errno
import os
import stat

from ocirun.errors import ImageError

# Links followed while one name is resolved; the kernel's own limit (path_resolution(7)).
MAX_LINKS = 40
# Directories below the root. It bounds the descriptors that one walk holds open.
MAX_DEPTH = 256

_WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Place:
    """An open directory inside a tree: `fd` (O_PATH) and `path`, free of symlinks, relative.

    A context manager that closes the descriptor.
    """

    __slots__ = ("fd", "path")

    def __init__(self, fd: int, path: bytes) -> None:
        self.fd = fd
        self.path = path

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_root(path: str | bytes) -> int:
    """Open the root directory of a tree. The last component must not be a symlink.

    Raises:
        OSError: ENOTDIR for a symlink or a file.
    """
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def resolve_directory(root: int, path: bytes, *, create: bool = False) -> Place:
    """Open the directory `path` as a process in a chroot at `root` would see it.

    Args:
        root: descriptor of the tree's root.
        path: a leading slash means the same root; `..` stops at the root.
        create: make missing directories (mode 0755).

    Raises:
        OSError: ENOENT, ENOTDIR, ELOOP (more than MAX_LINKS links), ENAMETOOLONG
            (deeper than MAX_DEPTH).
    """
    stack: list[tuple[bytes, int]] = []
    pending = path.split(b"/")[::-1]
    links = 0
    try:
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if stack:
                    os.close(stack.pop()[1])
                continue
            here = stack[-1][1] if stack else root
            child = _enter(here, name, create)
            if isinstance(child, int):
                stack.append((name, child))
                if len(stack) > MAX_DEPTH:
                    raise OSError(errno.ENAMETOOLONG, f"deeper than {MAX_DEPTH} directories")
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if child.startswith(b"/"):
                _close_all(stack)
            pending += child.split(b"/")[::-1]
        canonical = b"/".join(name for name, _ in stack)
        if stack:
            return Place(stack.pop()[1], canonical)
        return Place(os.open(".", _WALK, dir_fd=root), b"")
    finally:
        _close_all(stack)


def _close_all(stack: list[tuple[bytes, int]]) -> None:
    while stack:
        os.close(stack.pop()[1])


def _enter(directory: int, name: bytes, create: bool) -> int | bytes:
    """Return a descriptor of the directory `name`, or the target if it is a symlink."""
    try:
        return os.open(name, _WALK, dir_fd=directory)
    except FileNotFoundError:
        if not create:
            raise
        os.mkdir(name, 0o700, dir_fd=directory)
        os.chmod(name, 0o755, dir_fd=directory, follow_symlinks=False)  # whatever the umask
        return os.open(name, _WALK, dir_fd=directory)
    except NotADirectoryError:
        # O_DIRECTORY|O_NOFOLLOW says ENOTDIR of a symlink as well as of a file (open(2)).
        try:
            return os.readlink(name, dir_fd=directory)
        except OSError:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None


def split_parent(path: bytes) -> tuple[bytes, bytes]:
    """Split a path into its parent and its last component, slashes at the end dropped."""
    parent, _, name = path.rstrip(b"/").rpartition(b"/")
    return parent, name


def open_file(root: int, path: bytes) -> int:
    """Open a regular file for reading, resolved inside `root`; its last component may be a link.

    Devices, FIFOs and sockets are recognised before they are opened, so nothing
    blocks and no device is touched.

    Raises:
        OSError: as `resolve_directory`; EINVAL when it is not a regular file.
    """
    for _ in range(MAX_LINKS):
        parent, name = split_parent(path)
        with resolve_directory(root, parent) as place:
            status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(name, dir_fd=place.fd)
                path = target if target.startswith(b"/") else place.path + b"/" + target
                continue
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            fd = os.open(name, flags, dir_fd=place.fd)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise OSError(errno.EINVAL, "not a regular file")
            return fd
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def list_names(directory: int) -> list[bytes]:
    """Names in an open directory; an O_PATH descriptor will do."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return [os.fsencode(name) for name in os.listdir(fd)]
    finally:
        os.close(fd)


def read_file(root: int, path: bytes, limit: int) -> bytes:
    """Read a whole regular file of at most `limit` bytes, resolved inside `root`.

    Raises:
        OSError: as `open_file`; EFBIG when it is larger.
    """
    with open(open_file(root, path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes")
    return data


def measure(root: int) -> tuple[int, int]:
    """Return (bytes, inodes) of the files below `root`: apparent sizes, hard links once."""
    size = 0
    seen: set[int] = set()
    pending = [b""]
    while pending:
        path = pending.pop()
        with resolve_directory(root, path) as place:
            for name in list_names(place.fd):
                status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(path + b"/" + name)
                elif stat.S_ISREG(status.st_mode) and status.st_ino not in seen:
                    size += status.st_size
                seen.add(status.st_ino)
    return size, len(seen)


def remove_tree(parent: int, name: bytes) -> None:
    """Remove `name` in the open directory `parent`, and everything below it; absent is fine.

    No symlink is followed and no mount is entered. Directories are emptied by
    moving those below up to the top, so the depth of the tree costs neither
    descriptors nor stack.

    Raises:
        OSError: EBUSY when a mount lies on it.
    """
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        # Linux says EISDIR of a directory, POSIX EPERM (unlink(2)).
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    try:
        os.rmdir(name, dir_fd=parent)
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    top = _open_writable(parent, name)
    try:
        _flatten(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _flatten(top: int) -> None:
    """Empty the directory `top`, at most two descriptors open at a time."""
    device = os.fstat(top).st_dev
    serial = 0
    while names := os.listdir(top):
        for name in names:
            if _unlink(top, name):
                continue
            child = _open_writable(top, name)
            try:
                if os.fstat(child).st_dev != device:
                    raise OSError(errno.EBUSY, "a file system is mounted here", name)
                for below in os.listdir(child):
                    if not _unlink(child, below):
                        serial = _lift(child, below, top, serial)
            finally:
                os.close(child)
            os.rmdir(name, dir_fd=top)


def _unlink(directory: int, name: str) -> bool:
    """Remove a name that is not a directory, or an empty one. False: a directory with contents."""
    try:
        os.unlink(name, dir_fd=directory)
        return True
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    try:
        os.rmdir(name, dir_fd=directory)
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False


def _lift(directory: int, name: str, top: int, serial: int) -> int:
    """Move the directory `name` up to `top` under a free name; return the next serial number."""
    while True:
        serial += 1
        try:
            os.rename(name, f".lifted-{serial}", src_dir_fd=directory, dst_dir_fd=top)
            return serial
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                continue  # the tree holds that very name
            if error.errno != errno.EACCES:
                raise
            # Moving a directory rewrites its "..": an unprivileged user needs w on it.
            os.close(_open_writable(directory, name, force=True))


def _open_writable(parent: int, name: str | bytes, *, force: bool = False) -> int:
    """Open a directory for listing; make it ours to change first if its mode forbids that."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if force or os.geteuid() != 0:
        handle = os.open(name, _WALK, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        finally:
            os.close(handle)
    return os.open(name, flags, dir_fd=parent)


def image_error(error: OSError, doing: str, path: str | bytes) -> ImageError:
    """Turn an OSError into an ImageError: what was being done, to what, and what would help."""
    hint = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space, or put the data root on a larger file system with --data-root"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "the data root must be writable: run as root, or choose another with --data-root"
    number = error.errno or 0
    # The renderer adds the kernel's words for the number; words of our own say more.
    own = number == 0 or error.strerror != os.strerror(number)
    return ImageError(
        f"{doing}: {error.strerror or error}" if own else doing,
        errno=0 if own else number,
        path=os.fsdecode(path),
        hint=hint,
    )
