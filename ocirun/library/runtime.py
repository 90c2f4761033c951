"""Runtime and Container: containers from Python, through a warm executor."""

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ocirun.api import ContainerInfo
from ocirun.errors import ContainerTimeout, UsageError
from ocirun.library.completed import CompletedContainer, usage_of
from ocirun.library.container import Container, late
from ocirun.library.executor import End, Executor, RemoteProcess
from ocirun.library.streams import Conversation, Stream, Streams, streams_of
from ocirun.library.turn import Turn
from ocirun.runtime.cache import Cache
from ocirun.runtime.create import Created, Request, create
from ocirun.runtime.run import clear_away, exit_status, poststart
from ocirun.runtime.settings import Settings
from ocirun.runtime.state import states
from ocirun.state.store import check_id

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ocirun.library.spec import Spec

Q = TypeVar("Q", bound=Request)
Bundle: TypeAlias = "str | os.PathLike[str] | Spec | Mapping[str, Any]"


class Runtime:
    """All containers below one root directory, and a warm executor that makes them.

    The executor is a small process, started with the first container; it is what
    clones init processes, so that neither the size nor the threads nor the signal
    handling of the caller matter. If it dies it is replaced; containers live on. Methods may be
    called from several threads. What the executor inherits (limits, cgroup, namespaces) is
    what the caller had when it was started.

    Args:
        root: the directory; "" for /run/ocirun, or $XDG_RUNTIME_DIR/ocirun for
            ordinary users.
        systemd_cgroup: let systemd make the cgroups, as scopes.
        cgroup_manager: "cgroupfs", "systemd", or "disabled" for no cgroups at all.
        debug: takes a line of debug output.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = "",
        *,
        systemd_cgroup: bool = False,
        cgroup_manager: str = "cgroupfs",
        debug: Callable[[str], None] | None = None,
    ) -> None:
        place = os.path.abspath(root) if os.fspath(root) else ""
        self._settings = Settings(place, systemd_cgroup, cgroup_manager, debug)
        self._settings.cache = Cache()
        self._executor = Executor()

    def __enter__(self) -> "Self":
        self._executor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the executor. Containers live on; the Runtime can still be used."""
        self._executor.close()
        if self._settings.cache is not None:
            self._settings.cache.close()

    @property
    def root(self) -> str:
        """The directory that holds the containers' state."""
        return self._settings.store.root

    def create(
        self,
        id: str,
        bundle: Bundle,
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        text: bool = False,
        console_socket: str = "",
        pid_file: str = "",
        no_pivot: bool = False,
        no_new_keyring: bool = False,
    ) -> Container:
        """Create a container that waits for `start` (runtime.md, "create").

        Args:
            id: 1 to 255 characters of A-Z a-z 0-9 _ + - .
            bundle: directory with config.json, or a Spec, or a config as a dict.
            stdin, stdout, stderr: as in `subprocess.Popen`.
            text: the pipes are text files (UTF-8).
            console_socket: AF_UNIX socket that gets the terminal's master.
            pid_file: file that gets the pid of init.
            no_pivot: move the root file system over "/" instead of pivot_root(2).
            no_new_keyring: keep the executor's session keyring.

        Raises OcirunError: nothing of the container is left then.
        """
        request = _with_bundle(Request(id), bundle)
        request.console_socket = console_socket
        request.pid_file = pid_file
        request.no_pivot = no_pivot
        request.no_new_keyring = no_new_keyring
        streams = Streams(stdin, stdout, stderr)
        try:
            return self._held(self._bear(request, streams), streams, text)
        finally:
            streams.close()

    def restore(
        self,
        id: str,
        bundle: Bundle,
        image_path: str | os.PathLike[str],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        text: bool = False,
        **options: Any,
    ) -> Container:
        """Make a container again from what a checkpoint has written (CRIU). It runs then.

        Args:
            id, bundle: as in `create`; the root file system must be as it was.
            image_path: folder of the images.
            stdin, stdout, stderr: as in `create`, in place of those that led out of the container.
            text: the pipes are text files (UTF-8).
            options: those of `ocirun restore` (docs/checkpoint.md):
                console_socket, pid_file: as in `create`.
                work_path, tcp_established, ext_unix_sk, shell_job, file_locks, link_remap,
                auto_dedup, lazy_pages, manage_cgroups_mode, empty_ns: as in
                `Container.checkpoint`.
                lsm_profile: TYPE:NAME of the profile of AppArmor or SELinux to run under.
                lsm_mount_context: the SELinux context of mounts that have one.

        Raises OcirunError: nothing of the container is left then.
        """
        from ocirun.library.criu import Away, restore_request
        from ocirun.runtime.restore import bring_back

        request = _with_bundle(restore_request(id, image_path, **options), bundle)
        streams = Streams(stdin, stdout, stderr)
        request.family = Away(self._executor, streams)
        try:
            return self._held(bring_back(self._settings, request), streams, text)
        finally:
            streams.close()

    def run(
        self,
        bundle: Bundle,
        *,
        id: str | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        input: bytes | str | None = None,
        capture_output: bool = False,
        text: bool = False,
        timeout: float | None = None,
        check: bool = False,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
    ) -> CompletedContainer:
        """Run a container to its end and delete it, as `subprocess.run` does with a process.

        Args:
            bundle: directory with config.json, or a Spec, or a config as a dict.
            id: of the container; made up when not given.
            stdin, stdout, stderr: as in `subprocess.run`.
            input: what the container reads from stdin.
            capture_output: catch stdout and stderr.
            text: `input` and the output are text (UTF-8), not bytes.
            timeout: seconds; then the container is killed and deleted.
            check: raise ContainerFailed unless the exit status is 0.
            no_pivot, no_new_keyring: as in `create`.

        Raises OcirunError; ContainerTimeout, with what was caught so far.
        """
        turn = RunTurn(self, bundle, id, stdin, stdout, stderr, input, capture_output, text)
        turn.request.no_pivot = no_pivot
        turn.request.no_new_keyring = no_new_keyring
        return turn.complete(timeout, check)

    def get(self, id: str) -> Container:
        """A container by its id. Its existence is found out by the first method called."""
        return Container(self._settings, check_id(id), self._executor)

    def list(self) -> list[ContainerInfo]:
        """All containers, sorted by id; an unreadable record has the status "unknown"."""
        return [ContainerInfo(state) for state in states(self._settings)]

    def delete(self, id: str, *, force: bool = False) -> None:
        """Delete a container; with `force` in any state, and none is no error."""
        self.get(id).delete(force)

    def _bear(self, request: Request, streams: Streams) -> Created:
        request.cloner = self._executor.cloner(streams.theirs)
        try:
            return create(self._settings, request)
        finally:
            streams.close_theirs()

    def _held(self, created: Created, streams: Streams, text: bool) -> Container:
        """The container for whoever has it made, with our ends of its pipes."""
        created.folder.close()
        container = Container(self._settings, created.fields["id"], self._executor)
        container.process = _remote(created)
        container.stdin = streams.file(0, text)
        container.stdout = streams.file(1, text)
        container.stderr = streams.file(2, text)
        return container


def _with_bundle(request: Q, bundle: Bundle) -> Q:
    """The request, for this bundle or spec."""
    if isinstance(bundle, (str, os.PathLike)):
        request.bundle = os.fspath(bundle)
        return request
    from ocirun.library.spec import Spec

    request.bundle = ""
    request.spec = (bundle if isinstance(bundle, Spec) else Spec.from_dict(bundle)).to_dict()
    path = request.spec.get("root", {}).get("path", "")
    if not path.startswith("/"):
        raise UsageError(
            f"root.path {path!r} is relative, and there is no bundle",
            pointer="/root/path",
            hint="give an absolute path, or write the spec into a bundle with Spec.save",
        )
    return request


def _remote(created: Created) -> RemoteProcess:
    process = created.process
    assert isinstance(process, RemoteProcess)
    return process


class RunTurn(Turn[CompletedContainer]):
    """One `run`."""

    def __init__(
        self,
        runtime: Runtime,
        bundle: Bundle,
        id: str | None,
        stdin: Stream,
        stdout: Stream,
        stderr: Stream,
        given: bytes | str | None,
        capture_output: bool,
        text: bool,
    ) -> None:
        super().__init__(streams_of(stdin, stdout, stderr, given, capture_output), given, text)
        self.runtime = runtime
        self.request = _with_bundle(Request(id or made_up()), bundle)
        self.request.wait = False
        self.created: Created | None = None

    def begin(self) -> None:
        """Make the container; its command runs then."""
        settings = self.runtime._settings
        created = self.runtime._bear(self.request, self.streams)
        self.talk = Conversation(_remote(created), self.streams, self.given)
        self.created = created
        poststart(settings, created)

    def abort(self) -> None:
        """Kill and delete a container that has not been finished."""
        if self.created is not None:
            _remote(self.created).end()
            self._clear()

    def finish(self) -> CompletedContainer:
        """Delete the container, which has ended; say how it went."""
        created = self.created
        assert created is not None
        end = _remote(created).ended()
        assert end is not None
        oom_killed = _was_oom_killed(created)
        self._clear()
        return CompletedContainer(
            self.request.id,
            -1 if end.status is None else exit_status(end.status),
            self.talk.output(1, self.text),
            self.talk.output(2, self.text),
            oom_killed,
            usage_of(end),
        )

    def _clear(self) -> None:
        created, self.created = self.created, None
        assert created is not None
        try:
            clear_away(self.runtime._settings, created)
            self.talk.drain()
        finally:
            created.folder.close()
            _remote(created).close()

    def late(self, timeout: float | None) -> ContainerTimeout:
        """The exception for a container that was too slow."""
        return late(self.request.id, timeout)


def _was_oom_killed(created: Created) -> bool:
    paths = created.fields["cgroups"]
    if not paths:
        return False
    from ocirun.cgroups import oom_killed

    return oom_killed(paths)


def made_up() -> str:
    """An id for a container that was given none."""
    return "run-" + os.urandom(8).hex()


_default: Runtime | None = None
_default_lock = threading.Lock()


def default() -> Runtime:
    """The Runtime behind `ocirun.run`, made when it is first needed."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Runtime()
        return _default


def run(bundle: Bundle, **options: Any) -> CompletedContainer:
    """Run a container to its end and delete it: `Runtime.run` with the default root."""
    return default().run(bundle, **options)


__all__ = ["Container", "ContainerInfo", "End", "RunTurn", "Runtime", "run"]
