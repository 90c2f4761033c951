"""create: from a bundle to an init process that waits for `start`.

Also the first half of `run`, which does not wait.
"""

import _socket
import gc
import posix

from ocirun.errors import BundleError, InvalidConfig, OcirunError
from ocirun.executor.child import Link
from ocirun.executor.parent import Birth, spawn
from ocirun.plan.compile import compile_plan
from ocirun.plan.step import Plan
from ocirun.runtime.handover import check_preserved, console_socket, hand_over, size_terminal
from ocirun.runtime.settings import Settings, absolute, now, oci_state, state_file
from ocirun.spec.fastjson import dumps, loads
from ocirun.spec.load import CONFIG, accept, read_config
from ocirun.state.process import start_time
from ocirun.state.store import SOCKET, SOCKET_NEW, VERSION, Folder, check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.executor.child import Cloner
    from ocirun.runtime.notify import Relay

_LATER_HOOKS = ("startContainer", "poststart", "poststop")


class Request:
    """What the caller of create or run asks for.

    Attributes:
        id: of the new container.
        bundle: directory with config.json.
        config: file that takes the place of the bundle's config.json; "" for none.
        pid_file: file that gets the pid of init; "" for none.
        console_socket: AF_UNIX socket that gets the terminal's master; "" for none.
        pidfd_socket: AF_UNIX socket that gets a pidfd of init; "" for none.
        no_pivot: move the root file system over "/" instead of pivot_root(2).
        no_new_keyring: keep the caller's session keyring.
        preserve_fds: number of descriptors from 3 on that the container gets.
        wait: init waits for `start`.
        foreground: the terminal is the caller's, without a console socket.
        spec: a valid config that takes the place of the bundle's config.json; without a
            bundle ("") it is written beside the record, which then is the bundle.
        cloner: clones init in another process; None: in this one.
    """

    def __init__(self, container_id: str, bundle: str = ".") -> None:
        self.id = container_id
        self.bundle = bundle
        self.config = ""
        self.pid_file = ""
        self.console_socket = ""
        self.pidfd_socket = ""
        self.no_pivot = False
        self.no_new_keyring = False
        self.preserve_fds = 0
        self.wait = True
        self.foreground = False
        self.spec: dict[str, Any] | None = None
        self.cloner: Cloner | None = None


class Created:
    """A container that has been born: its folder (unlocked, open), record, and init.

    `relay` passes on what it says to NOTIFY_SOCKET; None if there is nothing to pass on.
    """

    def __init__(
        self, folder: Folder, fields: "dict[str, Any]", birth: Birth, relay: "Relay | None"
    ) -> None:
        self.folder = folder
        self.fields = fields
        self.pid = birth.pid
        self.process = birth.process
        self.console = birth.console
        self.relay = relay


def create(settings: Settings, request: Request) -> Created:
    """Create a container (runtime.md, "create").

    Raises OcirunError; then nothing of the container is left.
    """
    # A command lives for milliseconds: collecting garbage costs more than it frees.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _create(settings, request)
    finally:
        if collecting:
            gc.enable()


def _create(settings: Settings, request: Request) -> Created:
    # The sockets of systemd are for the command that it has started, not for a library's caller.
    listening = 0 if request.cloner else _listening()
    host = b"" if request.cloner else posix.environ.get(b"NOTIFY_SOCKET", b"")
    preserved = request.preserve_fds + listening
    check_preserved(preserved)
    check_id(request.id)
    bundle, config, data, spec = load_spec(settings, request)
    console = console_socket(spec, request)
    folder = settings.store.create(request.id)
    relay: Relay | None = None
    notify = ""
    try:
        if host:
            from ocirun.runtime.notify import make_folder, relay_of

            notify = make_folder(folder)
            relay = None if request.wait else relay_of(settings, folder, host)
        # For `exec`: what changes in the bundle from now on is of no account.
        folder.write_file(CONFIG, data or dumps(spec).encode())
        plan = _plan(settings, request, spec, bundle, data, notify)
        fields = record_fields(request, spec, plan)
        if config:
            fields["config"] = config
        link = _link(request, plan, folder)
        link.preserved = preserved
        if listening:
            # Of a shared pid namespace too: init's pid is known to nobody before its birth.
            plan.env += [b"LISTEN_FDS=%d" % listening, b"LISTEN_PID=1"]
        birth = _bear(settings, plan, fields, link, folder)
        try:
            hand_over(request, birth, console)
            folder.unlock()
        except BaseException:
            birth.abort()
            raise
        return Created(folder, fields, birth, relay)
    except BaseException as error:
        if relay is not None:
            relay.close()
        folder.remove()
        folder.close()
        if isinstance(error, OcirunError) and not error.bundle:
            error.bundle, error.config = bundle, config
        raise
    finally:
        if console is not None:
            console.close()


def load_spec(settings: Settings, request: Request) -> "tuple[str, str, bytes, dict[str, Any]]":
    """What is asked for: (bundle, the file in place of its config.json or "", bytes, spec).

    There are no bytes if the spec was given.
    """
    spec = request.spec
    if request.bundle:
        bundle = absolute(request.bundle)
    else:
        bundle = f"{absolute(settings.store.root)}/{request.id}"
    data = b""
    # As with crun: a relative path is the caller's, but for the bundle's own file.
    config = absolute(request.config) if request.config not in ("", CONFIG) else ""
    if spec is None:
        if settings.cache is not None:
            data, spec = settings.cache.load(bundle, config)
        else:
            data = read_config(bundle, config)
            spec = accept(loads(data, config or f"{bundle}/{CONFIG}"), data, bundle, config)
    if not spec.get("process"):
        raise InvalidConfig(f"{config or CONFIG} has no process", pointer="", bundle=bundle)
    return bundle, config, data, spec


def _listening() -> int:
    """The number of sockets that systemd hands over (sd_listen_fds(3)), from descriptor 3 on."""
    count = posix.environ.get(b"LISTEN_FDS", b"")
    return int(count) if count.isdigit() and len(count) < 4 else 0


def _plan(
    settings: Settings, request: Request, spec: "dict[str, Any]", bundle: str, data: bytes,
    notify: str,
) -> Plan:  # fmt: skip
    """The plan; `data` is the config.json that it may be kept by, b"" if there is none."""
    host = settings.host()
    keyring, pivot = not request.no_new_keyring, not request.no_pivot

    def make(container_id: str) -> Plan:
        plan = compile_plan(
            spec, host, container_id, bundle, keyring=keyring, pivot=pivot, notify=notify
        )
        if (spec.get("linux") or {}).get("seccomp"):
            from ocirun.seccomp.cache import fill

            fill(plan, settings.store.root)
        return plan

    if settings.cache is not None and data:
        key = (host, data, bundle, keyring, pivot)
        plan, encoded = settings.cache.plan(key, request.id, make)
        plan.encoded = encoded
    else:
        plan = make(request.id)
    if plan.terminal and request.foreground:
        size_terminal(plan)
    for warning in plan.warnings:
        settings.note(warning)
    try:
        posix.close(posix.open(plan.rootfs, posix.O_DIRECTORY | posix.O_CLOEXEC))
    except OSError as error:
        raise BundleError(
            f"the root file system {plan.rootfs} cannot be used",
            pointer="/root/path",
            syscall="open(O_DIRECTORY)",
            errno=error.errno or 0,
            path=plan.rootfs,
            hint="root.path must be a directory, relative to the bundle or absolute",
        ) from None
    return plan


def record_fields(request: Request, spec: "dict[str, Any]", plan: Plan) -> "dict[str, Any]":
    """The record of a container that is about to be born."""
    hooks = spec.get("hooks") or {}
    kinds = {space["type"]: space for space in spec["linux"]["namespaces"]}
    fields = {
        "version": VERSION,
        "id": request.id,
        "ociVersion": spec["ociVersion"],
        "bundle": plan.bundle,
        "rootfs": plan.rootfs,
        "created": now(),
        "owner": "root" if posix.getuid() == 0 else str(posix.getuid()),
        "pid": 0,
        "startTime": 0,
        "cgroups": plan.cgroup.paths if plan.cgroup else {},
        "ownPids": "pid" in kinds and not kinds["pid"].get("path"),
        "annotations": spec.get("annotations") or {},
        "hooks": {name: hooks[name] for name in _LATER_HOOKS if hooks.get(name)},
        "command": spec["process"]["args"][0],
    }
    if plan.resctrl:
        # Of groups that are there already delete must leave its hands.
        fields["resctrl"] = list(unused({path: path for path in plan.resctrl}))
    joined = next((step for step in plan.parent if step.op == "resctrl-join"), None)
    if joined is not None:
        fields["rdt"] = list(joined.args)  # for statistics: where resctrl is, and its group
    if plan.cgroup and plan.cgroup.scope:
        unit, _, bus, *_ = plan.cgroup.scope.args
        fields["scope"] = [unit, bus]
    return fields


def _link(request: Request, plan: Plan, folder: Folder) -> Link:
    link = Link()
    link.cloner = request.cloner
    if request.wait:
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        # By way of the descriptor: a path of a socket has at most 107 bytes.
        listener.bind(f"/proc/self/fd/{folder.fd}/{SOCKET_NEW}")
        listener.listen(1)
        link.listener = listener
    if plan.hooks:
        from ocirun.executor.hooks import run_hooks

        link.run_hooks = run_hooks
        if any(plan.hooks.get(name) for name in ("prestart", "createRuntime", "createContainer")):
            link.creating = posix.memfd_create("creating", posix.MFD_CLOEXEC)
        if plan.hooks.get("startContainer"):
            link.created = posix.memfd_create("created", posix.MFD_CLOEXEC)
    return link


def _bear(
    settings: Settings, plan: Plan, fields: "dict[str, Any]", link: Link, folder: Folder
) -> Birth:
    """Clone init and see it through; keep the record up to date on the way.

    The record is written before any cgroup is made, so that whatever a crash leaves
    behind can be found and removed. Init needs no record to vanish: until it is told to go
    on, it ends with its parent. The name of the socket says that the container is created.
    """
    paths = fields["cgroups"]
    # In its v2 cgroup, which is made before it.
    born_inside = "" in paths and "scope" not in fields
    try:
        if born_inside:
            fields["cgroups"] = unused(paths)
            folder.write(fields)
        birth = spawn(plan, link)
        try:
            fields["pid"] = birth.pid
            fields["startTime"] = start_time(birth.pid)
            if not born_inside:
                fields["cgroups"] = unused(paths)
            if link.creating >= 0:
                state_file(fields, "creating", birth.pid, link.creating)
            if link.created >= 0:
                state_file(fields, "created", birth.pid, link.created)
            folder.write(fields)
            if plan.listener[0]:
                _introduce_agent(plan, fields, birth)
            birth.prepare()
            if fields["cgroups"] != paths:
                fields["cgroups"] = paths
                folder.write(fields)
            birth.finish(lambda: host_hooks(plan, link.creating))
            if link.listener is not None:
                posix.rename(SOCKET_NEW, SOCKET, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        except BaseException:
            birth.abort()
            if plan.hooks.get("poststop"):
                from ocirun.runtime.delete import run_poststop

                run_poststop(settings, fields)
            raise
        return birth
    finally:
        if link.listener is not None:
            link.listener.close()
        for fd in (link.creating, link.created):
            if fd >= 0:
                posix.close(fd)


def _introduce_agent(plan: Plan, fields: "dict[str, Any]", birth: Birth) -> None:
    from ocirun.runtime.agent import hand_over

    state = oci_state(fields, "creating", birth.pid)
    birth.to_agent = lambda fd, number: hand_over(plan, state, birth, fd, number)


def unused(paths: dict[str, str]) -> dict[str, str]:
    """The cgroups that are not there yet.

    One that is may be another's: until it is known to be free, `delete --force` after a
    crash must not touch it.
    """
    found = {}
    for key, path in paths.items():
        try:
            posix.stat(path)
        except OSError:
            found[key] = path
    return found


def host_hooks(plan: Plan, state: int) -> None:
    """Run prestart and createRuntime with the state in this memory file. Raises HookFailed."""
    from ocirun.executor.hooks import run_hooks

    for name in ("prestart", "createRuntime"):
        failure = run_hooks(plan.hooks.get(name, []), state)
        if failure:
            from ocirun.executor.failures import hook_failed

            raise hook_failed(
                plan, name, failure[0], failure[1], failure[2].decode("utf-8", "replace")
            )
