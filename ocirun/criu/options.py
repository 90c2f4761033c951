"""What checkpoint and restore have in common: folders, CRIU's options, joined namespaces."""

import posix

from ocirun.criu.service import find_criu
from ocirun.errors import Unsupported, UsageError
from ocirun.executor.criu import IMAGES, WORK, Here, Launch
from ocirun.linux.clone import CLONE_NEWNET
from ocirun.plan.namespaces import KINDS
from ocirun.runtime.settings import absolute
from ocirun.state.process import in_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.criu.protobuf import Message
    from ocirun.executor.criu import Family

# struct criu_opts (criu, images/rpc.proto)
IMAGES_DIR_FD, PID, LEAVE_RUNNING, EXT_UNIX_SK, TCP_ESTABLISHED = 1, 2, 3, 4, 5
EVASIVE_DEVICES, SHELL_JOB, FILE_LOCKS, LOG_LEVEL, LOG_FILE = 6, 7, 8, 9, 10
PAGE_SERVER, NOTIFY_SCRIPTS, ROOT, PARENT_IMG, TRACK_MEM = 11, 12, 13, 14, 15
AUTO_DEDUP, WORK_DIR_FD, LINK_REMAP, CG_ROOT, RST_SIBLING = 16, 17, 18, 25, 26
INHERIT_FD, EXT_MASTERS, MANAGE_CGROUPS_MODE = 27, 30, 34
EXTERNAL, EMPTY_NS, JOIN_NS, FREEZE_CGROUP, TCP_SKIP_IN_FLIGHT = 37, 38, 39, 44, 46
LAZY_PAGES, ORPHAN_PTS_MASTER, CONFIG_FILE = 48, 50, 51
LSM_PROFILE, LSM_MOUNT_CONTEXT, MNTNS_COMPAT_MODE = 53, 63, 65

# enum criu_cg_mode
CGROUP_MODES = {"ignore": 0, "none": 1, "props": 2, "soft": 3, "full": 4, "strict": 5}
EMPTY_NAMESPACES = {"network": CLONE_NEWNET}
# Kinds that CRIU takes as they are: the kernel's file of each, and the name that runc gives it.
_EXTERNAL_NAMESPACES = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
_CONFIG_FILES = ("/etc/criu/ocirun.conf", "/etc/criu/runc.conf")
_LOG_EVERYTHING = 4


class CriuOptions:
    """The options of checkpoint and restore that CRIU has under the same name.

    Attributes:
        image_path: folder of the images. work_path: of logs and the like; "": the images'.
        tcp_established, ext_unix_sk, shell_job, file_locks, auto_dedup, lazy_pages,
        link_remap, tcp_skip_in_flight: switches of CRIU.
        cgroups_mode: a key of CGROUP_MODES.
        empty_ns: kinds of namespaces that are made and left empty.
        family: whose children CRIU and what it restores are.
    """

    def __init__(self) -> None:
        self.family: Family = Here()
        self.image_path = "checkpoint"
        self.work_path = ""
        self.tcp_established = False
        self.tcp_skip_in_flight = False
        self.ext_unix_sk = False
        self.shell_job = False
        self.file_locks = False
        self.auto_dedup = False
        self.lazy_pages = False
        self.link_remap = False
        self.cgroups_mode = "soft"
        self.empty_ns: list[str] = []


class Folders:
    """The folders of images and of work. Raises UsageError.

    Attributes:
        images, work: their paths. fd: of the images' folder.
    """

    def __init__(self, options: CriuOptions, make: bool) -> None:
        self.images = absolute(options.image_path)
        self.work = absolute(options.work_path) if options.work_path else self.images
        if options.work_path:
            posix.close(_open_folder(self.work, "--work-path", True))
        self.fd = _open_folder(self.images, "--image-path", make)

    def launch(self) -> Launch:
        """What a CRIU that works in them starts with. Raises Unsupported."""
        return Launch(find_criu(), self.images, self.work)

    def close(self) -> None:
        """Let go of them."""
        posix.close(self.fd)


def _open_folder(path: str, option: str, make: bool) -> int:
    try:
        if make:
            _make_folders(path)
        return posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"cannot use the folder {path} of {option}",
            syscall="open(O_DIRECTORY)",
            errno=error.errno or 0,
            path=path,
        ) from None


def _make_folders(path: str) -> None:
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_folders(path.rpartition("/")[0])
        posix.mkdir(path, 0o700)


def need_root() -> None:
    """Raise Unsupported unless this is root: CRIU has to look into everything."""
    if posix.geteuid() != 0 or in_user_namespace():
        raise Unsupported(
            "checkpoint and restore need root: CRIU cannot do it in a user namespace",
            hint="call ocirun as root of the machine",
        )


def common(options: CriuOptions, spec: "dict[str, Any]", root: str, log: str) -> "Message":
    """The fields of criu_opts that both kinds of request have."""
    mode = CGROUP_MODES.get(options.cgroups_mode)
    if mode is None:
        raise UsageError(
            f"--manage-cgroups-mode {options.cgroups_mode}: unknown",
            hint="one of " + ", ".join(CGROUP_MODES),
        )
    unknown = [kind for kind in options.empty_ns if kind not in EMPTY_NAMESPACES]
    if unknown:
        raise UsageError(f"--empty-ns {unknown[0]}: only a network namespace can be left empty")
    empty = sum(EMPTY_NAMESPACES[kind] for kind in dict.fromkeys(options.empty_ns))
    fields: Message = [
        (IMAGES_DIR_FD, IMAGES),
        (WORK_DIR_FD, WORK),
        (LOG_LEVEL, _LOG_EVERYTHING),
        (LOG_FILE, log),
        (ROOT, root),
        (NOTIFY_SCRIPTS, True),
        (ORPHAN_PTS_MASTER, True),
        (EXT_MASTERS, True),
        (MANAGE_CGROUPS_MODE, mode),
        (TCP_ESTABLISHED, options.tcp_established),
        (TCP_SKIP_IN_FLIGHT, options.tcp_skip_in_flight),
        (EXT_UNIX_SK, options.ext_unix_sk),
        (SHELL_JOB, options.shell_job),
        (FILE_LOCKS, options.file_locks),
        (AUTO_DEDUP, options.auto_dedup),
        (LAZY_PAGES, options.lazy_pages),
        (LINK_REMAP, options.link_remap),
        (EMPTY_NS, empty),
    ]
    config = (spec.get("annotations") or {}).get("org.criu.config")
    if config is None:
        config = next((path for path in _CONFIG_FILES if posix.access(path, posix.R_OK)), "")
    if config:
        fields.append((CONFIG_FILE, config))
    return fields


def external_namespaces(spec: "dict[str, Any]") -> "list[tuple[str, str, str]]":
    """Namespaces that the container has joined and CRIU takes as they are.

    Returns (the kernel's file, CRIU's name, path) of each.
    """
    found = []
    for kind, path in _joined(spec):
        if kind in _EXTERNAL_NAMESPACES:
            found.append((*_EXTERNAL_NAMESPACES[kind], path))
    return found


def joined_namespaces(spec: "dict[str, Any]") -> "list[tuple[str, str]]":
    """(CRIU's name of the kind, path) of the others that are joined. Raises Unsupported."""
    found = []
    for kind, path in _joined(spec):
        if kind in _EXTERNAL_NAMESPACES:
            continue
        if kind in ("mount", "cgroup"):
            raise Unsupported(
                f"criu cannot restore into a {kind} namespace that is joined by path",
                pointer="/linux/namespaces",
            )
        found.append((kind, path))
    return found


def _joined(spec: "dict[str, Any]") -> "list[tuple[str, str]]":
    entries = (spec.get("linux") or {}).get("namespaces") or ()
    return [
        (one["type"], one["path"]) for one in entries if one.get("path") and one["type"] in KINDS
    ]
