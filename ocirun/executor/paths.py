"""Finding and making places inside the container's root, which is hostile.

Everything is resolved by the kernel under the root's descriptor
(openat2(2), RESOLVE_IN_ROOT): a symlink in the image, absolute or with "..",
leads to where it would lead for a process in the container, never outside.
What is found is held as an O_PATH descriptor and never looked up again.
"""

import posix

from ocirun.linux.ffi import SyscallError
from ocirun.linux.fs import (
    O_PATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)
from ocirun.linux.mount import PROC_SUPER_MAGIC, filesystem_magic

ENOENT, EEXIST, ENOTDIR, ELOOP, EPERM, EAGAIN = 2, 17, 20, 40, 1, 11
EACCES, EBUSY, EINVAL = 13, 16, 22
_IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
S_IFMT, S_IFDIR = 0o170000, 0o040000


def find(root: int, path: bytes, flags: int = O_PATH, strict: bool = False) -> int:
    """Open `path` inside the root.

    Args:
        flags: for open(2).
        strict: refuse every symlink on the way.

    Raises SyscallError (ENOENT, ELOOP, ...).
    """
    resolve = _IN_ROOT | (RESOLVE_NO_SYMLINKS if strict else 0)
    for _ in range(64):
        try:
            return openat2(root, path, flags, resolve)
        except SyscallError as error:
            # Something was renamed or mounted meanwhile, and ".." cannot be
            # vouched for: the kernel asks to try again.
            if error.errno != EAGAIN:
                raise
    raise SyscallError("openat2", EAGAIN)


def make(
    root: int, path: bytes, directory: bool, strict: bool = False, depth: int = 0,
    made: "list[tuple[int, bytes, bool]] | None" = None,
) -> int:  # fmt: skip
    """Open the place `path` inside the root (O_PATH), making what is missing of it.

    A dangling symlink is followed: its target is made, inside the root.
    Directories get mode 0755, files too (as runc makes them). `made` gets what is made:
    (descriptor of the directory that it is in, name, is it a directory).
    """
    try:
        return find(root, path, O_PATH, strict)
    except SyscallError as error:
        if error.errno != ENOENT or depth > 40:
            raise
    above, _, name = path.rstrip(b"/").rpartition(b"/")
    parent = make(root, above or b"/", True, strict, depth + 1, made)
    try:
        link = _readlink(name, parent)
        if link:
            onward = link if link.startswith(b"/") else above + b"/" + link
            if strict:
                raise SyscallError("openat2", ELOOP)
            return make(root, onward, directory, strict, depth + 1, made)
        if _create(name, parent, directory) and made is not None:
            made.append((posix.dup(parent), name, directory))
        return posix.open(name, O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=parent)
    finally:
        posix.close(parent)


def _readlink(name: bytes, parent: int) -> bytes:
    try:
        return posix.readlink(name, dir_fd=parent)
    except OSError:
        return b""


def _create(name: bytes, parent: int, directory: bool) -> bool:
    """Make it; False if somebody else has done so meanwhile."""
    try:
        if directory:
            posix.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
            posix.close(posix.open(name, flags, 0o755, dir_fd=parent))
    except OSError as error:
        if error.errno != EEXIST:
            raise SyscallError("mkdirat" if directory else "openat", error.errno) from None
        return False
    return True


def is_directory(fd: int) -> bool:
    """The descriptor denotes a directory."""
    return posix.fstat(fd).st_mode & S_IFMT == S_IFDIR


def refuse_proc(fd: int) -> None:
    """Raise EPERM if the place lies on a procfs: nothing of it may be covered by an image."""
    if filesystem_magic(fd) == PROC_SUPER_MAGIC:
        raise SyscallError("fstatfs(PROC_SUPER_MAGIC)", EPERM)
