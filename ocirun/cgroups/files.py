"""Reading and writing the files of cgroup and proc file systems; no policy.

A failure is a CallFailed: an OSError that also knows the call, as it is shown to
the user. (ocirun.linux.ffi has its own; that one costs the import of `_ctypes`.)
"""

import posix

_WRITE = posix.O_WRONLY | posix.O_CLOEXEC
_READ = posix.O_RDONLY | posix.O_CLOEXEC


class CallFailed(OSError):
    """A system call on a file failed.

    Attributes:
        errno: the kernel's error number.
        call: the call with its arguments, `write("/sys/fs/cgroup/x/pids.max", "5")`.
        path: the file.
    """

    def __init__(self, call: str, error: OSError, path: str) -> None:
        super().__init__(error.errno, error.strerror)
        self.call = call
        self.path = path


def read(path: str) -> bytes:
    """The whole content of a file that the kernel makes up. Raises CallFailed."""
    try:
        fd = posix.open(path, _READ)
    except OSError as error:
        raise CallFailed(f'open("{path}", O_RDONLY)', error, path) from None
    try:
        content = chunk = posix.read(fd, 65536)
        while chunk:
            chunk = posix.read(fd, 65536)
            content += chunk
    except OSError as error:
        raise CallFailed(f'read("{path}")', error, path) from None
    finally:
        posix.close(fd)
    return content


def write(path: str, value: str) -> None:
    """Write `value` to an existing file with one write(2). Raises CallFailed.

    Never creates a file: on a directory that is no cgroup the open fails.
    """
    try:
        fd = posix.open(path, _WRITE)
    except OSError as error:
        raise CallFailed(f'open("{path}", O_WRONLY)', error, path) from None
    try:
        posix.write(fd, value.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise CallFailed(f'write("{path}", "{value}")', error, path) from None
    finally:
        posix.close(fd)


def mkdir(path: str) -> None:
    """mkdir(2) with mode 0755. Raises CallFailed."""
    try:
        posix.mkdir(path, 0o755)
    except OSError as error:
        raise CallFailed(f'mkdir("{path}", 0755)', error, path) from None


def rmdir(path: str) -> None:
    """rmdir(2). Raises CallFailed."""
    try:
        posix.rmdir(path)
    except OSError as error:
        raise CallFailed(f'rmdir("{path}")', error, path) from None
