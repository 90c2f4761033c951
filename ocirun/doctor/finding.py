"""A finding, and trials: what is tried happens in a process of its own, which then ends."""

import os
import select
from collections.abc import Callable
from dataclasses import dataclass

_SECONDS = 10
_LIMIT = 4096


@dataclass(frozen=True)
class Finding:
    """One thing that a host can do or cannot.

    Attributes:
        area: heading it stands under. name: what it is about.
        good: it works. detail: what was seen, or why it does not work.
        mend: the command, or what else is to be done, that mends it; "" if it is good.
        needed: without it no container can be run.
    """

    area: str
    name: str
    good: bool
    detail: str = ""
    mend: str = ""
    needed: bool = False


def attempt(trial: Callable[[], object], *, user_namespace: bool = False) -> str:
    """Do something in a short-lived process, which takes all that it makes with it.

    Args:
        trial: raises OSError if it cannot be done.
        user_namespace: it is root of a new user namespace there.

    Returns:
        "" if it could be done, else why not.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            if user_namespace:
                enter_user_namespace()
            trial()
        except OSError as error:
            call = getattr(error, "call", "") or error.filename or ""
            words = os.strerror(error.errno) if error.errno else error.strerror or str(error)
            said = f"{call}: {words}" if call else words
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(write, said.encode()[:_LIMIT] or b"\0")
            os._exit(0)
    os.close(write)
    try:
        if not select.select([read], [], [], _SECONDS)[0]:
            os.kill(pid, 9)
            return f"nothing happened for {_SECONDS} seconds"
        data = os.read(read, _LIMIT)
    finally:
        os.close(read)
        os.waitpid(pid, 0)
    return "it died of it" if not data else data.strip(b"\0").decode("utf-8", "replace")


def enter_user_namespace() -> None:
    """Become root of a new user namespace, in which the caller alone is mapped. Raises OSError."""
    from ocirun.linux.clone import CLONE_NEWUSER, unshare

    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    write_file("/proc/self/uid_map", f"0 {uid} 1")
    write_file("/proc/self/setgroups", "deny")
    write_file("/proc/self/gid_map", f"0 {gid} 1")


def write_file(path: str, text: str) -> None:
    """Write to a file of the kernel's, in one piece. Raises OSError that names it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def read_file(path: str) -> str:
    """A file's text without blanks around it; "" if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
