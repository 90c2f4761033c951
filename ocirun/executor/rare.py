"""The steps of properties that few containers have. Performed by init.

Loaded by the process that clones init (`child.load`), and only for a plan that has one of
them: init itself imports nothing.
"""

import posix

from ocirun.executor.adding import STEPS as ADDING
from ocirun.executor.filesystem import own_proc
from ocirun.executor.paths import find
from ocirun.linux import schedule
from ocirun.linux.ffi import SyscallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.executor.child import Child


def scheduler(child: "Child", *attributes: int) -> None:
    """sched_setattr(2), before the privileges are dropped: some policies need them."""
    schedule.sched_setattr(*attributes)


def io_priority(child: "Child", kind: int, priority: int) -> None:
    """ioprio_set(2)."""
    schedule.ioprio_set(kind, priority)


def memory_policy(child: "Child", mode: int, nodes: int) -> None:
    """set_mempolicy(2)."""
    schedule.set_mempolicy(mode, nodes)


def security_label(child: "Child", module: str, words: bytes) -> None:
    """What the next execve changes to, by the file of a security module in procfs.

    A procfs of init's own: the container's could be a fake, and the label be lost
    (CVE-2019-16884).
    """
    folder = b"%d/attr/" % posix.getpid()
    fd = -1
    if module == "apparmor":  # a file of its own since Linux 5.8; before, the shared one
        try:
            fd = own_proc(child, folder + b"apparmor/exec")
        except OSError:
            pass
    if fd < 0:
        fd = own_proc(child, folder + b"exec")
    try:
        posix.write(fd, words)
    except OSError as error:
        raise SyscallError("write", error.errno) from None
    finally:
        posix.close(fd)


def file_label(child: "Child", path: bytes, label: bytes) -> None:
    """The SELinux label of one directory (xattr(7))."""
    fd = find(child.root, path, posix.O_RDONLY | posix.O_DIRECTORY)
    try:
        posix.setxattr(fd, b"security.selinux", label)
    except OSError as error:
        raise SyscallError("fsetxattr", error.errno) from None
    finally:
        posix.close(fd)


STEPS: "dict[str, Callable[..., None]]" = {
    "scheduler": scheduler,
    "io-priority": io_priority,
    "memory-policy": memory_policy,
    "security-label": security_label,
    "file-label": file_label,
    **ADDING,
}
