"""exec: one more process in a container that runs."""

from ocirun.errors import InvalidConfig, OcirunError, UsageError, WrongStatus
from ocirun.executor.child import Link
from ocirun.executor.parent import Birth, spawn
from ocirun.plan.exec import compile_exec
from ocirun.plan.step import Plan
from ocirun.runtime.handover import check_preserved, console_socket, hand_over, size_terminal
from ocirun.runtime.run import Forwarder, attend
from ocirun.runtime.settings import Settings, oci_state, status_of
from ocirun.spec.fastjson import loads
from ocirun.spec.load import check_spec, load_kept, read_input
from ocirun.state.store import Folder, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.cgroups import CgroupPlan
    from ocirun.executor.child import Cloner

FAILED = 255
_CAPABILITY_SETS = ("bounding", "effective", "permitted", "ambient")


class ExecRequest:
    """What the caller of exec asks for.

    Attributes:
        id: of the container.
        process: a whole process (config.md, "Process"), or None: the container's own with the
            changes below. process_file: a file with one as JSON ("-": standard input), or "".
        args: the command; env: words that are added; cwd: "" for the container's own.
        user: (uid, gid), gid None for the container's own; None for the container's user.
        additional_gids: groups that are added.
        capabilities: capabilities that are added to all sets but the inheritable one.
        terminal: give it a terminal. no_new_privileges: set, or left as the container's.
        apparmor, label: profile and label; "" for the container's own.
        cgroup: a cgroup below the container's ("" for its own): PATH, or CONTROLLER[,...]:PATH.
        ignore_paused: in a paused container wait until it goes on; else it is refused.
        pid_file, console_socket, pidfd_socket, preserve_fds: as of create.
        foreground: the terminal is the caller's, without a console socket.
        cloner: clones the process in another process; None: in this one.
    """

    def __init__(self, container_id: str, args: "list[str] | None" = None) -> None:
        self.id = container_id
        self.process: dict[str, Any] | None = None
        self.process_file = ""
        self.args = args or []
        self.env: list[str] = []
        self.cwd = ""
        self.user: tuple[int, int | None] | None = None
        self.additional_gids: list[int] = []
        self.capabilities: list[str] = []
        self.terminal = False
        self.no_new_privileges = False
        self.apparmor = ""
        self.label = ""
        self.cgroup: list[str] = []
        self.ignore_paused = False
        self.pid_file = ""
        self.console_socket = ""
        self.pidfd_socket = ""
        self.preserve_fds = 0
        self.foreground = False
        self.cloner: Cloner | None = None


def execute(settings: Settings, request: ExecRequest, *, detach: bool = False) -> int:
    """Run a process in a container.

    Args:
        detach: return when it runs, and leave it there.

    Returns:
        Its exit status, 128 + n if signal n ended it; 0 with `detach`.

    Raises:
        OcirunError: if it could not be run.
    """
    request.foreground = not detach and not request.console_socket
    signals = Forwarder()
    if request.ignore_paused:
        signals.is_held = lambda: _is_paused(settings, request.id)
    if not detach:
        signals.install()
    try:
        try:
            birth = join(settings, request)
        except OcirunError as error:
            error.exit_code = FAILED  # as runc: below that it is the command's own status
            raise
        signals.forward_to(birth.pid)
        return 0 if detach else attend(birth.pid, birth.console)
    finally:
        signals.restore()


def _is_paused(settings: Settings, container_id: str) -> bool:
    folder = settings.store.open(container_id)
    try:
        return status_of(folder, folder.read()) == "paused"
    except OcirunError:
        return False
    finally:
        folder.close()


def join(settings: Settings, request: ExecRequest) -> Birth:
    """Make the process, up to its execve. Raises OcirunError."""
    check_preserved(request.preserve_fds)
    folder = settings.store.open(request.id)
    try:
        record = folder.read()
        _check_status(folder, record, request)
        spec = _spec(folder, request)
    finally:
        folder.close()
    console = console_socket(spec, request)
    try:
        plan = _plan(settings, record, spec, request)
        link = Link()
        link.cloner = request.cloner
        link.preserved = request.preserve_fds
        birth = spawn(plan, link)
        if not record.is_alive():
            # The namespaces may have been those of another process of the same number.
            birth.abort()
            raise _stopped(record)
        if plan.listener[0]:
            from ocirun.runtime.agent import hand_over as introduce

            state = oci_state(record.fields, "running", record.pid)
            birth.to_agent = lambda fd, number: introduce(plan, state, birth, fd, number)
        birth.prepare()
        birth.finish(lambda: None)
        try:
            hand_over(request, birth, console)
        except BaseException:
            birth.abort()
            raise
        return birth
    except OcirunError as error:
        if error.pointer.startswith("/process"):
            error.pointer = ""  # of the process that the caller gave, not of config.json
        elif not error.bundle:
            record.point_into(error)
        raise
    finally:
        if console is not None:
            console.close()


def _stopped(record: Record) -> WrongStatus:
    return WrongStatus(
        f"cannot exec in a stopped container: container not running: {record.id}",
        bundle=record.bundle,
    )


def _check_status(folder: Folder, record: Record, request: ExecRequest) -> None:
    status = status_of(folder, record)
    if status == "stopped":
        raise _stopped(record)
    if status == "creating":
        raise WrongStatus(f"cannot exec in a container that is still being created: {record.id}")
    if status == "paused" and not request.ignore_paused:
        raise WrongStatus(
            f"cannot exec in a paused container: {record.id}",
            hint=f"`ocirun resume {record.id}` first, or use --ignore-paused",
        )


def _spec(folder: Folder, request: ExecRequest) -> "dict[str, Any]":
    """The container's config as of its creation, with the new process. Raises InvalidConfig."""
    spec = load_kept(folder.fd)
    if request.process_file:
        request.process = _read_process(request.process_file)
    spec["process"] = request.process or _changed(spec["process"], request)
    # What the caller has added must be as right as what stands in config.json.
    return check_spec(spec)


def _changed(own: "dict[str, Any]", request: ExecRequest) -> "dict[str, Any]":
    """The container's process with what the options change, as runc and crun do it."""
    if not request.args:
        raise UsageError(
            "there is no command to execute", hint="give it after the id, or --process FILE"
        )
    process = dict(own)
    process["args"] = request.args
    process["terminal"] = request.terminal
    if request.cwd:
        process["cwd"] = request.cwd
    if request.env:
        process["env"] = [*(own.get("env") or ()), *request.env]
    if request.user or request.additional_gids:
        user = process["user"] = dict(own.get("user") or {})
        if request.user:
            uid, gid = request.user
            user["uid"] = uid
            if gid is not None:
                user["gid"] = gid
        if request.additional_gids:
            groups = [*(user.get("additionalGids") or ()), *request.additional_gids]
            user["additionalGids"] = list(dict.fromkeys(groups))
    if request.capabilities:
        sets = process["capabilities"] = dict(own.get("capabilities") or {})
        for name in _CAPABILITY_SETS:
            both = [*(sets.get(name) or ()), *request.capabilities]
            sets[name] = list(dict.fromkeys(both))
    if request.no_new_privileges:
        process["noNewPrivileges"] = True
    if request.apparmor:
        process["apparmorProfile"] = request.apparmor
    if request.label:
        process["selinuxLabel"] = request.label
    return process


def _plan(settings: Settings, record: Record, spec: "dict[str, Any]", request: ExecRequest) -> Plan:
    cgroup = _cgroup(record, request) if record.cgroups else None
    host = settings.host()
    plan = compile_exec(spec, host, record.id, record.bundle, record.pid, cgroup)
    if host.rootless and plan.oom_score_adj is not None:
        plan.oom_score_adj = None
        plan.warnings.append(
            "oomScoreAdj is left as it is: the file is root's, as the process cannot be traced"
        )
    if (spec.get("linux") or {}).get("seccomp"):
        from ocirun.seccomp.cache import fill

        fill(plan, settings.store.root)
    if plan.terminal and request.foreground:
        size_terminal(plan)
    for warning in plan.warnings:
        settings.note(warning)
    return plan


def _cgroup(record: Record, request: ExecRequest) -> "CgroupPlan":
    """The cgroups to join: the container's, or those below it that are asked for."""
    from ocirun.cgroups import joining
    from ocirun.cgroups.below import below, where_init_is

    paths = record.cgroups
    if request.cgroup:
        paths = below(paths, request.cgroup)
    elif "" in paths:
        paths = where_init_is(paths, record.pid)
    return joining(paths)


def _read_process(path: str) -> "dict[str, Any]":
    """The process in a file ("-": standard input), as JSON. Raises UsageError, InvalidJSON."""
    data = read_input(path)
    process = loads(data, path)
    if not isinstance(process, dict):
        raise InvalidConfig("the process is not an object", pointer="/process", path=path)
    return process


def parse_user(text: str) -> "tuple[int, int | None] | None":
    """UID[:GID] as (uid, gid); None for "". Raises UsageError."""
    if not text:
        return None
    uid, colon, gid = text.partition(":")
    if not _is_id(uid) or (colon and not _is_id(gid)):
        raise UsageError(
            f"--user {text}: not UID or UID:GID",
            hint="numbers: which names an image knows is the caller's business",
        )
    return int(uid), int(gid) if colon else None


def parse_gids(words: "list[str] | tuple[()]") -> list[int]:
    """Group numbers, also several in a word with commas between them. Raises UsageError."""
    found = []
    for word in words:
        for gid in word.split(","):
            if not _is_id(gid):
                raise UsageError(f"--additional-gids {word}: not a number")
            found.append(int(gid))
    return found


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10
