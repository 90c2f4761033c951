"""Compiled filters, kept by content: ROOT/.seccomp/DIGEST.

Compiling takes libseccomp some milliseconds, and loading libseccomp takes longer. So a
program is kept below the state root by all that it was made of: the description of the
filter, the kernel, the machine, and libseccomp as a file. A file has

    ocirun-seccomp-1 DIGEST of the key and all that follows
    DEVICE INODE SIZE MTIME PATH of libseccomp
    names of system calls that libseccomp did not know
    and the program.

The folder and its files must be the caller's own and nobody else's. What is anything else,
damaged or of another libseccomp, is not used, and written anew. That there is no cache is
never an error.
"""

import marshal
import posix
from _blake2 import blake2b

from ocirun.plan.step import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.plan.seccomp import Request

FOLDER = ".seccomp"
FILES = 64
"""As many programs are kept, the newest ones."""
BYTES = 1 << 20
"""And as many bytes of all of them."""
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS (linux/bpf_common.h)

_MAGIC = b"ocirun-seccomp-1 "
_LIMIT = 256 << 10
_S_IFMT, _S_IFREG, _S_IFDIR = 0o170000, 0o100000, 0o040000


class Compiled:
    """A program, and how it was made.

    Attributes:
        program: bytes of struct sock_filter.
        unknown: names of system calls that libseccomp did not know, sorted.
        library: path of libseccomp; "" if it is not known.
    """

    def __init__(self, program: bytes, unknown: list[str], library: str) -> None:
        self.program = program
        self.unknown = unknown
        self.library = library


def fill(plan: Plan, root: str) -> None:
    """Put the program in the place of its description in the plan's steps.

    Args:
        plan: a plan whose filter is still a description (`plan.seccomp`).
        root: the state root, which exists.

    Raises InvalidConfig, Unsupported, OcirunError if the filter cannot be compiled.
    """
    for steps in (plan.child, plan.last):
        for index, step in enumerate(steps):
            if step.op == "seccomp":
                compiled = program_for(step.args[0], root)  # type: ignore[arg-type]
                steps[index] = Step(step.op, step.pointer, compiled.program, *step.args[1:])
                if compiled.unknown:
                    words = ", ".join(compiled.unknown)
                    plan.warnings.append(f"seccomp: unknown system calls, skipped: {words}")


def program_for(request: "Request", root: str) -> Compiled:
    """The program for a description, from the cache or compiled. Raises as `fill` does."""
    kernel = posix.uname()
    # Of version 0: without references, so that equal descriptions have equal bytes.
    facts = marshal.dumps(("1", kernel.machine, kernel.release, kernel.version, request), 0)
    key = blake2b(facts, digest_size=32).hexdigest().encode()
    folder = _open_folder(f"{root}/{FOLDER}")
    try:
        compiled = _load(folder, key) if folder >= 0 else None
        if compiled is None:
            from ocirun.seccomp.compiler import compile_filter

            compiled = compile_filter(request)
            if folder >= 0:
                _save(folder, key, compiled)
        return compiled
    finally:
        if folder >= 0:
            posix.close(folder)


def _open_folder(path: str) -> int:
    """The cache's folder, made if need be; -1 if there can be none."""
    try:
        try:
            posix.mkdir(path, 0o700)
        except FileExistsError:
            pass
        flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
        fd = posix.open(path, flags)
    except OSError:
        return -1
    if _is_ours(posix.fstat(fd), _S_IFDIR):
        return fd
    posix.close(fd)
    return -1


def _is_ours(status: posix.stat_result, kind: int) -> bool:
    """Nobody else can have written it."""
    return (
        status.st_mode & _S_IFMT == kind
        and status.st_uid == posix.geteuid()
        and not status.st_mode & 0o077
    )


def _load(folder: int, key: bytes) -> Compiled | None:
    try:
        flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
        fd = posix.open(key, flags, dir_fd=folder)
    except OSError:
        return None
    try:
        status = posix.fstat(fd)
        if not _is_ours(status, _S_IFREG) or status.st_size > _LIMIT:
            return None
        data = posix.read(fd, status.st_size)
    except OSError:
        return None
    finally:
        posix.close(fd)
    head, _, rest = data.partition(b"\n")
    if head != _MAGIC + _digest(key, rest):
        return None
    library, unknown, program = rest.split(b"\n", 2)
    size, remainder = divmod(len(program), 8)
    if remainder or not 0 < size <= MAX_INSTRUCTIONS:
        return None
    path = library.partition(b"/")[2].decode("utf-8", "surrogateescape")
    if not path or _identity("/" + path) != library:
        return None
    return Compiled(program, unknown.decode().split(), "/" + path)


def _digest(key: bytes, data: bytes) -> bytes:
    return blake2b(key + data, digest_size=32).hexdigest().encode()


def _identity(path: str) -> bytes:
    """A file as it is now: another libseccomp may make other programs."""
    try:
        s = posix.stat(path)
    except OSError:
        return b""
    words = f"{s.st_dev} {s.st_ino} {s.st_size} {s.st_mtime_ns} {path}"
    return words.encode("utf-8", "surrogateescape")


def _save(folder: int, key: bytes, compiled: Compiled) -> None:
    """Write a file aside and rename it; then drop the oldest ones. Failures are of no account."""
    library = _identity(compiled.library) if compiled.library else b""
    if not library:
        return
    unknown = " ".join(compiled.unknown).encode()
    rest = library + b"\n" + unknown + b"\n" + compiled.program
    data = memoryview(_MAGIC + _digest(key, rest) + b"\n" + rest)
    aside = b".%d.%s" % (posix.getpid(), posix.urandom(8).hex().encode())
    try:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
        fd = posix.open(aside, flags, 0o600, dir_fd=folder)
        try:
            posix.fchmod(fd, 0o600)
            while data:
                data = data[posix.write(fd, data) :]
        finally:
            posix.close(fd)
        posix.rename(aside, key, src_dir_fd=folder, dst_dir_fd=folder)
        _trim(folder)
    except OSError:
        try:
            posix.unlink(aside, dir_fd=folder)
        except OSError:
            pass


def _trim(folder: int) -> None:
    """Drop the oldest files beyond the limits, also those that a crash has left aside."""
    found = []
    for name in posix.listdir(folder):
        try:
            status = posix.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
        found.append((status.st_mtime_ns, status.st_size, name))
    found.sort(reverse=True)
    total = 0
    for number, (_, size, name) in enumerate(found, 1):
        total += size
        if number > FILES or total > BYTES:
            try:
                posix.unlink(name, dir_fd=folder)
            except OSError:  # another process was faster
                pass
