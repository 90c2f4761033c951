"""Finding the command to execute, and seeing that it is the container's own.

Until the execve, /proc/self/exe in the container is the interpreter of the host.
A command, an interpreter of a script or a loader of a program that leads there
would execute it inside, and could keep it open and overwrite it later
(CVE-2019-5736). So none of them may be reached through a "magic" link of procfs.
"""

import posix

from ocirun.executor.paths import ENOENT, S_IFMT
from ocirun.linux.ffi import SyscallError
from ocirun.linux.fs import RESOLVE_NO_MAGICLINKS, openat2
from ocirun.linux.mount import AT_FDCWD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.executor.child import Child

EACCES, ELOOP = 13, 40
_S_IFREG = 0o100000
_PT_INTERP = 3
_CHAIN = 5  # the kernel follows four scripts (execve(2))


def executable(child: "Child", candidates: tuple[bytes, ...]) -> None:
    """Find the command, as the user and in the working directory (execvp(3))."""
    error = ENOENT
    for path in candidates:
        try:
            mode = posix.stat(path).st_mode
        except OSError as failure:
            if failure.errno == EACCES:
                error = EACCES
            continue
        if mode & S_IFMT == _S_IFREG and posix.access(path, posix.X_OK, effective_ids=True):
            refuse_magic_links(path)
            child.path = path
            return
        error = EACCES
    raise SyscallError("execve", error)


def refuse_magic_links(path: bytes) -> None:
    """Raise ELOOP if the file, or what the kernel loads to execute it, is behind a magic link."""
    for _ in range(_CHAIN):
        if not path:
            return
        try:
            flags = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY
            fd = openat2(AT_FDCWD, path, flags, RESOLVE_NO_MAGICLINKS)
        except SyscallError as error:
            if error.errno == ELOOP:
                raise SyscallError("openat2(RESOLVE_NO_MAGICLINKS)", ELOOP) from None
            return  # missing or not readable: execve has its own answer
        try:
            path = _interpreter(fd)
        finally:
            posix.close(fd)


def _interpreter(fd: int) -> bytes:
    """What the kernel loads besides the file: after "#!", or an ELF file's PT_INTERP; else b""."""
    head = posix.pread(fd, 4096, 0)
    if head.startswith(b"#!"):
        words = head[2:256].split(b"\n", 1)[0].split()
        return words[0] if words else b""
    if not head.startswith(b"\x7fELF") or len(head) < 64:
        return b""
    wide = head[4] == 2  # ELFCLASS64 (elf(5))
    order = "little" if head[5] == 1 else "big"

    def number(data: bytes, offset: int, size: int) -> int:
        return int.from_bytes(data[offset : offset + size], order)  # type: ignore[arg-type]

    table = number(head, 32, 8) if wide else number(head, 28, 4)
    size = number(head, 54, 2) if wide else number(head, 42, 2)
    count = number(head, 56, 2) if wide else number(head, 44, 2)
    for index in range(min(count, 128)):
        try:
            entry = posix.pread(fd, 56, table + index * size)
            if number(entry, 0, 4) == _PT_INTERP:
                offset = number(entry, 8, 8) if wide else number(entry, 4, 4)
                length = number(entry, 32, 8) if wide else number(entry, 16, 4)
                return posix.pread(fd, min(length, 4096), offset).split(b"\0", 1)[0]
        except (OSError, OverflowError):  # offsets beyond what a file can have
            return b""
    return b""


STEPS = {"executable": executable}
