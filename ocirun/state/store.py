"""The store: a directory per container under the root directory (/run/ocirun).

    ROOT/ID/            0700; locked with flock(2) during an operation
    ROOT/ID/state.json  the record: written aside and renamed, so it is whole or absent
    ROOT/ID/start.sock  where init listens; present while the container is created;
                        named start.sock.new while it is being created
    ROOT/ID/notify/     the container's socket for sd_notify(3), if its creator has one

The record holds what later commands need: nothing in config.json that changes
after create has any effect (runtime.md, "create").
"""

import fcntl
import posix
import time

from ocirun.errors import AlreadyExists, NotFound, OcirunError, StateError, UsageError
from ocirun.spec.fastjson import dumps, loads
from ocirun.state.process import in_user_namespace, is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RECORD = "state.json"
SOCKET = "start.sock"
SOCKET_NEW = SOCKET + ".new"
NOTIFY = "notify"
VERSION = 1
_BUSY_SECONDS = 10.0
_RECORD_LIMIT = 16 << 20
_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-")
_REST = _FIRST | {"."}
EEXIST, ENOENT, ENOTEMPTY, EAGAIN, EISDIR = 17, 2, 39, 11, 21

# The kinds of properties of a record: name -> type. Written by `create`.
FIELDS: "dict[str, type]" = {
    "version": int,
    "id": str,
    "ociVersion": str,
    "bundle": str,
    "rootfs": str,
    "created": str,
    "owner": str,
    "pid": int,
    "startTime": int,
    "cgroups": dict,
    "ownPids": bool,
    "annotations": dict,
    "hooks": dict,
}


def check_id(container_id: str) -> str:
    """Return the id if it is one: a name that cannot leave the store's directory.

    Raises UsageError.
    """
    good = (
        0 < len(container_id) <= 255
        and container_id[0] in _FIRST
        and _REST.issuperset(container_id)
    )
    if not good:
        shown = container_id if len(container_id) <= 64 else container_id[:64] + "..."
        raise UsageError(
            f"invalid container id {shown!r}",
            hint="an id has 1 to 255 characters of A-Z a-z 0-9 _ + - . and does not begin with '.'",
        )
    return container_id


def default_root() -> str:
    """/run/ocirun for root; $XDG_RUNTIME_DIR/ocirun for others, or else /tmp/ocirun-UID.

    Root of a user namespace may well have a user's XDG_RUNTIME_DIR (in rootless Podman).
    """
    runtime = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode("utf-8", "surrogateescape")
    euid = posix.geteuid()
    if runtime and (euid != 0 or in_user_namespace()):
        return runtime + "/ocirun"
    return f"/tmp/ocirun-{euid}" if euid != 0 else "/run/ocirun"


class Record:
    """The record of one container: plain values, checked when it is read."""

    def __init__(self, fields: "dict[str, Any]") -> None:
        self.fields = fields
        self.id: str = fields["id"]
        self.bundle: str = fields["bundle"]
        self.pid: int = fields["pid"]
        self.start_time: int = fields["startTime"]
        self.cgroups: dict[str, str] = fields["cgroups"]

    def point_into(self, error: OcirunError) -> None:
        """Let an error's pointer lead into the config of this container."""
        error.bundle, error.config = self.bundle, self.fields.get("config", "")

    def is_alive(self) -> bool:
        """The init process still runs."""
        return is_alive(self.pid, self.start_time)


class Folder:
    """The directory of one container, held by a descriptor."""

    def __init__(self, root: str, container_id: str, fd: int) -> None:
        self.root = root
        self.id = container_id
        self.fd = fd
        self.path = f"{root}/{container_id}"

    def lock(self) -> None:
        """Take the container for one operation. Waits up to 10 seconds.

        Raises StateError if another operation holds it for longer.
        """
        limit = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno != EAGAIN or time.monotonic() > limit:
                    raise StateError(
                        f"container {self.id} is busy: another operation is under way",
                        syscall="flock(LOCK_EX)",
                        errno=error.errno or 0,
                        path=self.path,
                    ) from None
            time.sleep(0.005)

    def unlock(self) -> None:
        """Release the lock, whoever else has inherited the descriptor."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the directory (and of the lock)."""
        if self.fd >= 0:
            posix.close(self.fd)
            self.fd = -1

    def exists(self) -> bool:
        """The directory has not been removed meanwhile."""
        return posix.fstat(self.fd).st_nlink > 0

    def write(self, fields: "dict[str, Any]") -> None:
        """Write the record, whole or not at all. Raises StateError."""
        self.write_file(RECORD, dumps(fields).encode())

    def write_file(self, name: str, data: bytes) -> None:
        """Write a file in the directory, whole or not at all. Raises StateError."""
        aside = name + ".new"
        try:
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC
            fd = posix.open(aside, flags, 0o600, dir_fd=self.fd)
            try:
                while data:
                    data = data[posix.write(fd, data) :]
            finally:
                posix.close(fd)
            posix.rename(aside, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            raise StateError(
                f"cannot write the record of container {self.id}",
                syscall="write",
                errno=error.errno or 0,
                path=f"{self.path}/{name}",
                hint="is the file system of --root full or read-only?",
            ) from None

    def read(self) -> Record:
        """Read the record. Raises StateError if it is absent, cut off, or not a record."""
        path = f"{self.path}/{RECORD}"
        try:
            fd = posix.open(RECORD, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=self.fd)
            try:
                data = posix.read(fd, _RECORD_LIMIT)
            finally:
                posix.close(fd)
            fields = loads(data, path)
        except OSError as error:
            raise StateError(
                f"cannot read the record of container {self.id}",
                syscall="openat",
                errno=error.errno or 0,
                path=path,
                hint=f"`ocirun delete --force {self.id}` clears what is left of it",
            ) from None
        except Exception as error:
            raise StateError(f"the record of container {self.id} is not JSON", path=path) from error
        if not is_record(fields):
            raise StateError(f"the record of container {self.id} is damaged", path=path)
        return Record(fields)  # type: ignore[arg-type]

    def has(self, name: str) -> bool:
        """There is a file of that name."""
        try:
            posix.stat(name, dir_fd=self.fd)
        except OSError:
            return False
        return True

    def remove(self) -> None:
        """Remove the directory with all that is in it. Idempotent."""
        _remove_files(self.fd)
        try:
            posix.rmdir(self.path)
        except OSError as error:
            if error.errno != ENOENT:
                raise


def _remove_files(fd: int) -> None:
    for name in posix.listdir(fd):
        try:
            posix.unlink(name, dir_fd=fd)
        except OSError as error:
            if error.errno == EISDIR:
                _remove_folder(name, fd)
            elif error.errno != ENOENT:
                raise


def _remove_folder(name: str, parent: int) -> None:
    """Remove a folder with the files in it."""
    flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
    fd = posix.open(name, flags, dir_fd=parent)
    try:
        _remove_files(fd)
    finally:
        posix.close(fd)
    posix.rmdir(name, dir_fd=parent)


def is_record(fields: object) -> bool:
    """The value has all the properties of a record, with the right types."""
    return isinstance(fields, dict) and all(
        type(fields.get(name)) is kind for name, kind in FIELDS.items()
    )


class Store:
    """All containers below one root directory.

    The records say which processes to signal, which cgroups to remove and which hooks to
    run, so they must be the caller's own.
    """

    def __init__(self, root: str = "") -> None:
        self.chosen = bool(root)
        self.root = root.rstrip("/") or ("/" if root else default_root())

    def act_as_owner(self) -> None:
        """Let root become the user whose containers these are, for good.

        Raises StateError if that is not possible.
        """
        try:
            facts = posix.stat(self.root)
        except OSError:
            return
        uid, gid = facts.st_uid, facts.st_gid
        if uid == 0 or posix.geteuid() != 0:
            return
        try:
            posix.setgroups([])
            posix.setresgid(gid, gid, gid)
            posix.setresuid(uid, uid, uid)
        except OSError as error:
            raise StateError(
                f"the containers below {self.root} are user {uid}'s",
                syscall="setresuid",
                errno=error.errno or 0,
                path=self.root,
            ) from None

    def _check_owner(self) -> None:
        """See that the root directory is the caller's own.

        In /tmp another user could have made it, or a link. Raises StateError.
        """
        try:
            facts = posix.stat(self.root, follow_symlinks=self.chosen)
        except OSError:  # whoever needs it will say so
            return
        if facts.st_uid != posix.geteuid() or facts.st_mode & 0o170000 != 0o040000:
            raise StateError(
                "the directory of the containers' state is not the caller's own",
                path=self.root,
                hint=f"it is user {facts.st_uid}'s: become that user, or choose another --root",
            )

    def create(self, container_id: str) -> Folder:
        """Make the directory of a new container and lock it.

        Raises AlreadyExists, StateError, UsageError.
        """
        check_id(container_id)
        path = f"{self.root}/{container_id}"
        try:
            try:
                posix.mkdir(path, 0o700)
            except FileNotFoundError:
                _make_directories(self.root)
                posix.mkdir(path, 0o700)
            try:
                self._check_owner()
            except StateError:
                posix.rmdir(path)
                raise
            folder = Folder(self.root, container_id, _open_directory(path))
        except FileExistsError:
            raise AlreadyExists(
                f"container with id {container_id} already exists",
                path=path,
                hint=f"choose another id, or `ocirun delete {container_id}` first",
            ) from None
        except OSError as error:
            raise StateError(
                f"cannot make the directory of container {container_id}",
                syscall="mkdir",
                errno=error.errno or 0,
                path=path,
                hint="choose a writable directory with --root",
            ) from None
        folder.lock()
        return folder

    def open(self, container_id: str, lock: bool = False) -> Folder:
        """Open the directory of a container. Raises NotFound, StateError, UsageError."""
        check_id(container_id)
        self._check_owner()
        path = f"{self.root}/{container_id}"
        try:
            folder = Folder(self.root, container_id, _open_directory(path))
        except OSError as error:
            if error.errno == ENOENT:
                raise _unknown(container_id) from None
            raise StateError(
                f"cannot open container {container_id}",
                syscall="open",
                errno=error.errno or 0,
                path=path,
            ) from None
        if lock:
            folder.lock()
            if not folder.exists():
                folder.close()
                raise _unknown(container_id)
        return folder

    def ids(self) -> list[str]:
        """The ids of all containers, sorted."""
        self._check_owner()
        try:
            names = posix.listdir(self.root)
        except OSError as error:
            if error.errno == ENOENT:
                return []
            raise StateError(
                "cannot list the containers",
                syscall="open",
                errno=error.errno or 0,
                path=self.root,
            ) from None
        return sorted(name for name in names if name[0] in _FIRST and _REST.issuperset(name))


def _unknown(container_id: str) -> NotFound:
    return NotFound(
        f"container does not exist: {container_id}",
        hint="`ocirun list` shows the containers below this --root",
    )


def _open_directory(path: str) -> int:
    flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
    return posix.open(path, flags)


def _make_directories(path: str) -> None:
    parent = path.rpartition("/")[0]
    try:
        posix.mkdir(path, 0o700)
    except FileNotFoundError:
        if not parent:
            raise
        _make_directories(parent)
        posix.mkdir(path, 0o700)
    except FileExistsError:
        pass
