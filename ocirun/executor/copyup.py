"""tmpcopyup: fill a new tmpfs with what the image has in its place. Performed by init.

The image is hostile: everything is done below descriptors, no symlink is
followed, and the size of the tmpfs bounds what is copied. Devices, sockets and
pipes are left out.
"""

import posix

from ocirun.executor.paths import S_IFDIR, S_IFMT
from ocirun.linux.ffi import SyscallError

_S_IFREG, _S_IFLNK = 0o100000, 0o120000
_CHUNK = 1 << 20
_DEPTH = 128


def copy_up(source: int, target: int, depth: int = 0) -> None:
    """Copy the content, modes and owners of a directory into another one.

    Args:
        source: descriptor of a directory, open for reading.
        target: descriptor of the new file system's directory.

    Raises SyscallError, for instance ENOSPC, or ELOOP beyond 128 levels.
    """
    if depth > _DEPTH:
        raise SyscallError("copy", 40)
    there = posix.fstat(source)
    posix.chmod(b".", there.st_mode & 0o7777, dir_fd=target)
    posix.chown(b".", there.st_uid, there.st_gid, dir_fd=target)
    for name in posix.listdir(source):
        entry = posix.lstat(name, dir_fd=source)
        kind = entry.st_mode & S_IFMT
        if kind == S_IFDIR:
            posix.mkdir(name, 0o700, dir_fd=target)
            flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
            inner = posix.open(name, flags, dir_fd=source)
            made = posix.open(name, flags, dir_fd=target)
            copy_up(inner, made, depth + 1)
            posix.close(inner)
            posix.close(made)
        elif kind == _S_IFREG:
            _copy_file(name, source, target)
        elif kind == _S_IFLNK:
            posix.symlink(posix.readlink(name, dir_fd=source), name, dir_fd=target)
            posix.chown(name, entry.st_uid, entry.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_file(name: str, source: int, target: int) -> None:
    # Not a pipe that takes its place meanwhile: opening one must not wait.
    flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
    inner = posix.open(name, flags, dir_fd=source)
    there = posix.fstat(inner)
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    made = posix.open(name, flags, 0o600, dir_fd=target)
    while data := posix.read(inner, _CHUNK):
        while data:
            data = data[posix.write(made, data) :]
    posix.fchown(made, there.st_uid, there.st_gid)
    posix.fchmod(made, there.st_mode & 0o7777)
    posix.close(inner)
    posix.close(made)
