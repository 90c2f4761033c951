"""What the hot commands do: call the api, print the answer. On the hot path.

Both ways of reading the command line end here: `ocirun.cli.quick` and, through
`ocirun.cli.commands`, Typer. Every function takes the global options and the
command's own values, and returns the exit status. Errors pass through.
"""

import posix

from ocirun.cli import log
from ocirun.cli.options import Options
from ocirun.cli.output import emit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.api import ContainerInfo, Runtime


def open_runtime(options: Options) -> "Runtime":
    """Return the api's Runtime for these global options."""
    from ocirun.api import Runtime

    return Runtime(
        options.root,
        systemd_cgroup=options.systemd_cgroup,
        cgroup_manager=options.cgroup_manager,
        rootless=options.rootless,
        debug=log.debug if options.debug else None,
        warning=log.warning,
    )


def open_existing(options: Options) -> "Runtime":
    """Return the Runtime for work on containers that are there, perhaps a user's."""
    runtime = open_runtime(options)
    runtime.act_as_owner()
    return runtime


def create(
    options: Options,
    *,
    id: str,
    bundle: str,
    config: str,
    pid_file: str,
    console_socket: str,
    no_pivot: bool,
    no_new_keyring: bool,
    preserve_fds: int,
    pidfd_socket: str,
) -> int:
    """Create a container that waits for start."""
    open_runtime(options).create(
        id,
        bundle,
        config=config,
        pid_file=pid_file,
        console_socket=console_socket,
        no_pivot=no_pivot,
        no_new_keyring=no_new_keyring,
        preserve_fds=preserve_fds,
        pidfd_socket=pidfd_socket,
    )
    return 0


def run(
    options: Options,
    *,
    id: str,
    bundle: str,
    config: str,
    pid_file: str,
    console_socket: str,
    detach: bool,
    keep: bool,
    no_pivot: bool,
    no_new_keyring: bool,
    no_subreaper: bool,
    preserve_fds: int,
    pidfd_socket: str,
) -> int:
    """Run a container to its end; return its exit status (0 when detached)."""
    return open_runtime(options).run(
        id,
        bundle,
        config=config,
        pid_file=pid_file,
        console_socket=console_socket,
        detach=detach,
        keep=keep,
        no_pivot=no_pivot,
        no_new_keyring=no_new_keyring,
        no_subreaper=no_subreaper,
        preserve_fds=preserve_fds,
        pidfd_socket=pidfd_socket,
    )


def start(options: Options, *, id: str) -> int:
    """Start a created container."""
    open_existing(options).get(id).start()
    return 0


def state(options: Options, *, id: str) -> int:
    """Print the state of a container as JSON, indented as runc does."""
    emit(to_json(open_existing(options).get(id).state()) + "\n")
    return 0


def kill(options: Options, *, id: str, signal: str, all_: bool, regex: bool) -> int:
    """Send a signal, by name or number, to a container, or to all whose ids match."""
    runtime = open_existing(options)
    if regex:
        from ocirun.cli.matching import each

        return each(runtime, id, lambda one: runtime.get(one).kill(signal, all=all_))
    runtime.get(id).kill(signal, all=all_)
    return 0


def exec_(
    options: Options,
    *,
    id: str,
    command: "list[str] | None",
    process: str,
    cwd: str,
    env: "list[str] | None",
    tty: bool,
    user: str,
    additional_gids: "list[str] | None",
    detach: bool,
    pid_file: str,
    console_socket: str,
    process_label: str,
    apparmor: str,
    no_new_privs: bool,
    cap: "list[str] | None",
    preserve_fds: int,
    cgroup: "list[str] | None",
    ignore_paused: bool,
    pidfd_socket: str,
) -> int:
    """Run one more process in a container; return its exit status (0 when detached)."""
    from ocirun.runtime.exec import ExecRequest, parse_gids, parse_user

    request = ExecRequest(id, command)
    request.process_file = process
    request.cwd, request.terminal = cwd, tty
    request.env = env or []
    request.user = parse_user(user)
    request.additional_gids = parse_gids(additional_gids or ())
    request.capabilities = cap or []
    request.no_new_privileges = no_new_privs
    request.apparmor, request.label = apparmor, process_label
    request.cgroup, request.ignore_paused = cgroup or [], ignore_paused
    request.pid_file, request.console_socket = pid_file, console_socket
    request.pidfd_socket, request.preserve_fds = pidfd_socket, preserve_fds
    return open_existing(options).get(id).exec(request, detach=detach)


def pause(options: Options, *, id: str) -> int:
    """Stop every process of a container."""
    open_existing(options).get(id).pause()
    return 0


def resume(options: Options, *, id: str) -> int:
    """Let a paused container go on."""
    open_existing(options).get(id).resume()
    return 0


def ps(options: Options, *, id: str, format: str, arguments: "list[str] | None") -> int:
    """Print the processes of a container: their pids as JSON, or what ps(1) says of them."""
    pids = open_existing(options).get(id).processes()
    if format == "json":
        from ocirun.spec.fastjson import dumps

        emit(dumps(pids) + "\n")
        return 0
    from ocirun.cli.processes import table

    emit(table(pids, arguments or []))
    return 0


def update(
    options: Options,
    *,
    id: str,
    resources: str,
    l3_cache_schema: str,
    mem_bw_schema: str,
    kernel_memory: str,
    kernel_memory_tcp: str,
    **limits: str,
) -> int:
    """Change the limits of a container."""
    from ocirun.cli.limits import source_of
    from ocirun.runtime.update import read_source

    if kernel_memory or kernel_memory_tcp:
        log.debug("limits of kernel memory are ignored, as the kernel has none any more")
    source = read_source(resources) if resources else source_of(limits)
    source.l3_cache, source.memory_bandwidth = l3_cache_schema, mem_bw_schema
    open_existing(options).get(id).update(source)
    return 0


def events(options: Options, *, id: str, interval: str, stats: bool) -> int:
    """Print what a container uses: once, or again and again until it ends."""
    from ocirun.runtime.events import check_interval, parse_duration
    from ocirun.spec.fastjson import dumps

    seconds = parse_duration(interval)
    check_interval(seconds)
    container = open_existing(options).get(id)
    if stats:
        emit(dumps({"type": "stats", "id": id, "data": container.stats()}) + "\n")
    elif posix.isatty(1):
        from ocirun.cli.live import show

        show(container, seconds)
    else:
        for event in container.events(seconds):
            emit(dumps(event) + "\n")
    return 0


def delete(options: Options, *, id: str, force: bool, regex: bool) -> int:
    """Delete a container, or all whose ids match."""
    runtime = open_existing(options)
    if regex:
        from ocirun.cli.matching import each

        return each(runtime, id, lambda one: runtime.delete(one, force=force))
    runtime.delete(id, force=force)
    return 0


def list_containers(options: Options, *, format: str, quiet: bool) -> int:
    """Print the containers as a table, as JSON, or only their ids."""
    infos = open_existing(options).list()
    if quiet:
        emit("".join(f"{info.id}\n" for info in infos))
    elif format == "json":
        from ocirun.spec.fastjson import dumps

        emit(dumps([info.state for info in infos]) + "\n")
    else:
        emit(_table(infos))
    return 0


def features(options: Options) -> int:
    """Print the features document as JSON (features.md of the specification)."""
    from ocirun.runtime.features import features as read_features

    emit(to_json(read_features()) + "\n")
    return 0


def _table(infos: "list[ContainerInfo]") -> str:
    """Align columns as runc does: three spaces between them, at least 12 wide."""
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    for info in infos:
        rows.append((info.id, str(info.pid), info.status, info.bundle, info.created, info.owner))
    widths = [max(12, 3 + max(len(row[i]) for row in rows)) for i in range(6)]
    lines = []
    for row in rows:
        line = "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(line.rstrip() + "\n")
    return "".join(lines)


def to_json(value: object, indent: str = "\n") -> str:
    """Write a value as JSON, indented by two spaces as runc does."""
    from ocirun.spec.fastjson import dumps

    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = [f"{dumps(key)}: {to_json(item, inner)}" for key, item in value.items()]
        return "{" + inner + ("," + inner).join(items) + indent + "}"
    if isinstance(value, (list, tuple)) and value:
        return "[" + inner + ("," + inner).join(to_json(x, inner) for x in value) + indent + "]"
    return dumps(value)


COMMANDS: "dict[str, Callable[..., int]]" = {
    "create": create,
    "start": start,
    "state": state,
    "kill": kill,
    "delete": delete,
    "run": run,
    "exec": exec_,
    "pause": pause,
    "resume": resume,
    "ps": ps,
    "update": update,
    "events": events,
    "list": list_containers,
    "features": features,
}
