"""start: let a created container execute its command (runtime.md, "start")."""

import _socket
import posix

from ocirun.errors import OcirunError, StepFailed, WrongStatus
from ocirun.executor.protocol import FAILED, GO, MAX_MESSAGE
from ocirun.runtime.settings import Settings, state_file, status_of
from ocirun.state.store import NOTIFY, SOCKET, Folder, Record

_REFUSALS = {
    "creating": "cannot start a container that is still being created",
    "running": "cannot start an already running container",
    "paused": "cannot start a container in the paused state",
    "stopped": "cannot start a container that has stopped",
}


def start(settings: Settings, container_id: str) -> None:
    """Start a container.

    Raises NotFound, WrongStatus, CommandNotFound, HookFailed, StateError.
    """
    folder = settings.store.open(container_id, lock=True)
    try:
        record = folder.read()
        status = status_of(folder, record)
        if status != "created":
            raise WrongStatus(f"{_REFUSALS[status]}: {container_id}", bundle=record.bundle)
        host = posix.environ.get(b"NOTIFY_SOCKET", b"")
        if host and folder.has(NOTIFY):
            _start_and_listen(settings, folder, record, host)
        else:
            _start(folder, record)
    finally:
        folder.close()


def _start(folder: Folder, record: Record) -> None:
    _execute(folder, record)
    if record.fields["hooks"].get("poststart"):
        poststart(record)


def _start_and_listen(settings: Settings, folder: Folder, record: Record, host: bytes) -> None:
    """Start it, and stay until it says that it is ready (sd_notify(3)), as runc and crun do."""
    from ocirun.runtime.notify import relay_of

    relay = relay_of(settings, folder, host)
    try:
        _start(folder, record)
        folder.unlock()  # it may take long, and the container may be killed meanwhile
        relay.wait(record.pid)
    finally:
        relay.close()


def _execute(folder: Folder, record: Record) -> None:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{folder.fd}/{SOCKET}")
        sock.send(GO)
        message = sock.recv(MAX_MESSAGE)
    except OSError as error:
        raise WrongStatus(
            f"{_REFUSALS['stopped']}: {record.id}",
            syscall="connect",
            errno=error.errno or 0,
            bundle=record.bundle,
        ) from None
    finally:
        sock.close()
        posix.unlink(SOCKET, dir_fd=folder.fd)
    if message[:1] == FAILED:
        raise _failure(record, message)
    if message:
        raise StepFailed("init gave an answer that nobody knows", bundle=record.bundle)


def _failure(record: Record, message: bytes) -> OcirunError:
    from ocirun.executor.failures import explain
    from ocirun.plan.process import compile_hooks
    from ocirun.plan.step import Plan

    plan = Plan(record.id, record.bundle)
    command = record.fields.get("command", "")
    plan.args = [command.encode()]
    compile_hooks(plan, record.fields)
    error = explain(plan, message)
    record.point_into(error)
    return error


def poststart(record: Record) -> None:
    """Run the poststart hooks. One that fails ends the container. Raises HookFailed."""
    from ocirun.executor.hooks import run_hooks
    from ocirun.plan.process import compile_hooks
    from ocirun.plan.step import Plan

    plan = Plan(record.id, record.bundle)
    compile_hooks(plan, record.fields)
    state = state_file(record.fields, "running", record.pid)
    try:
        failure = run_hooks(plan.hooks["poststart"], state)
    finally:
        posix.close(state)
    if failure:
        from ocirun.executor.failures import hook_failed
        from ocirun.runtime.kill import end

        index, status, words = failure
        end(record)
        error = hook_failed(plan, "poststart", index, status, words.decode("utf-8", "replace"))
        record.point_into(error)
        raise error
