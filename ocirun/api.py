"""The operations in this very process: what the command line calls.

    rt = Runtime(root="/run/ocirun")
    web = rt.create("web", "bundles/web")
    web.start()
    web.kill("TERM")
    web.delete()

The public library (`ocirun.library`) has the same operations, through a process
that is kept warm for them. All methods raise `ocirun.OcirunError` or one of its subclasses.
"""

from ocirun.runtime.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ocirun.runtime.checkpoint import CheckpointRequest
    from ocirun.runtime.exec import ExecRequest
    from ocirun.runtime.mounts import Mounts
    from ocirun.runtime.restore import RestoreRequest
    from ocirun.runtime.update import Source


class ContainerInfo:
    """What `list` shows of a container.

    Attributes:
        id, bundle, created, owner: text; empty if the record cannot be read.
        pid: of init, 0 if it does not run.
        status: creating, created, running, stopped or unknown.
        annotations: of config.json.
        state: the whole state, as `Container.state` returns it.
    """

    def __init__(self, state: "dict[str, Any]") -> None:
        self.state = state
        self.id: str = state["id"]
        self.pid: int = state["pid"]
        self.status: str = state["status"]
        self.bundle: str = state["bundle"]
        self.created: str = state["created"]
        self.owner: str = state["owner"]
        self.annotations: dict[str, str] = state.get("annotations", {})

    def __repr__(self) -> str:
        return f"ContainerInfo(id={self.id!r}, status={self.status!r}, pid={self.pid})"


class Container:
    """One container of a Runtime."""

    def __init__(self, settings: Settings, container_id: str) -> None:
        self._settings = settings
        self.id = container_id

    def start(self) -> None:
        """Execute the container's command (runtime.md, "start")."""
        from ocirun.runtime.start import start

        start(self._settings, self.id)

    def state(self) -> "dict[str, Any]":
        """The state of the container (runtime.md, "Query State")."""
        from ocirun.runtime.state import state

        return state(self._settings, self.id)

    def kill(self, signal: "str | int" = "TERM", all: bool = False) -> None:
        """Send a signal to init, or with `all` to every process (runtime.md, "kill")."""
        from ocirun.runtime.kill import kill

        kill(self._settings, self.id, signal, all)

    def exec(self, request: "ExecRequest", *, detach: bool = False) -> int:
        """Run one more process in the container, and return its exit status; 0 with `detach`."""
        from ocirun.runtime.exec import execute

        return execute(self._settings, request, detach=detach)

    def pause(self) -> None:
        """Stop every process of the container, until `resume`."""
        from ocirun.runtime.pause import pause

        pause(self._settings, self.id)

    def resume(self) -> None:
        """Let a paused container go on."""
        from ocirun.runtime.pause import resume

        resume(self._settings, self.id)

    def checkpoint(self, request: "CheckpointRequest") -> None:
        """Write the container's processes to files (CRIU), and delete it unless it runs on."""
        from ocirun.runtime.checkpoint import checkpoint

        checkpoint(self._settings, request)

    def processes(self) -> list[int]:
        """The pids of the container's processes, as the caller sees them."""
        from ocirun.runtime.ps import processes

        return processes(self._settings, self.id)

    def update(self, source: "Source") -> None:
        """Give the container other limits; what is not named stays as it is."""
        from ocirun.runtime.update import update

        update(self._settings, self.id, source)

    def add_mounts(self, mounts: "Mounts") -> None:
        """Mount in the container: all of the mounts, or none."""
        from ocirun.runtime.mounts import add_mounts

        add_mounts(self._settings, self.id, mounts)

    def remove_mounts(self, mounts: "Mounts") -> None:
        """Unmount in the container what is at the mounts' destinations: all, or nothing."""
        from ocirun.runtime.mounts import remove_mounts

        remove_mounts(self._settings, self.id, mounts)

    def stats(self) -> "dict[str, Any]":
        """What the container uses now, in the form of runc's events."""
        from ocirun.runtime.events import stats

        return stats(self._settings, self.id)

    def events(self, interval: float | None = None) -> "Iterator[dict[str, Any]]":
        """Out of memory, and every `interval` seconds what it uses, until the container ends."""
        from ocirun.runtime.events import events

        return events(self._settings, self.id, interval)

    def delete(self, force: bool = False) -> None:
        """Delete the container; with `force` in any state (runtime.md, "delete")."""
        from ocirun.runtime.delete import delete

        delete(self._settings, self.id, force)


class Runtime:
    """All containers below one root directory.

    Args:
        root: the directory; "" for /run/ocirun, or $XDG_RUNTIME_DIR/ocirun for
            ordinary users.
        systemd_cgroup: let systemd make the cgroups, as scopes.
        cgroup_manager: "cgroupfs", "systemd", or "disabled" for no cgroups at all.
        rootless: "true", "false" or "auto": is the caller without privileges, so that what
            it may not have (docs/rootless.md) is no error where that does no harm.
        debug: takes a line of debug output.
        warning: takes a line on what went wrong without being an error; None: debug does.
    """

    def __init__(
        self,
        root: str = "",
        *,
        systemd_cgroup: bool = False,
        cgroup_manager: str = "cgroupfs",
        rootless: str = "auto",
        debug: "Callable[[str], None] | None" = None,
        warning: "Callable[[str], None] | None" = None,
    ) -> None:
        self._settings = Settings(root, systemd_cgroup, cgroup_manager, debug, rootless)
        self._settings.warning = warning

    @property
    def root(self) -> str:
        """The directory that holds the containers' state."""
        return self._settings.store.root

    def act_as_owner(self) -> None:
        """Let root become, for good, the user whose containers these are.

        What their records say is that user's to decide. Raises StateError.
        """
        self._settings.store.act_as_owner()

    def create(
        self,
        id: str,
        bundle: str = ".",
        *,
        config: str = "",
        pid_file: str = "",
        console_socket: str = "",
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        preserve_fds: int = 0,
        pidfd_socket: str = "",
    ) -> Container:
        """Create a container that waits for `start` (runtime.md, "create").

        `config` is a file that takes the place of the bundle's config.json.
        """
        from ocirun.runtime.create import Request, create

        request = Request(id, bundle)
        request.config = config
        request.pid_file = pid_file
        request.console_socket = console_socket
        request.no_pivot = no_pivot
        request.no_new_keyring = no_new_keyring
        request.preserve_fds = preserve_fds
        request.pidfd_socket = pidfd_socket
        create(self._settings, request).folder.close()
        return Container(self._settings, id)

    def run(
        self,
        id: str,
        bundle: str = ".",
        *,
        config: str = "",
        pid_file: str = "",
        console_socket: str = "",
        detach: bool = False,
        keep: bool = False,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        no_subreaper: bool = False,
        preserve_fds: int = 0,
        pidfd_socket: str = "",
    ) -> int:
        """Run a container to its end and return its exit status; 128 + n for signal n.

        With `detach` it returns 0 as soon as the container runs; with `keep` the
        container is not deleted at its end.
        """
        from ocirun.runtime.create import Request
        from ocirun.runtime.run import run

        request = Request(id, bundle)
        request.config = config
        request.pid_file = pid_file
        request.console_socket = console_socket
        request.no_pivot = no_pivot
        request.no_new_keyring = no_new_keyring
        request.preserve_fds = preserve_fds
        request.pidfd_socket = pidfd_socket
        return run(self._settings, request, detach=detach, keep=keep, subreaper=not no_subreaper)

    def restore(
        self, request: "RestoreRequest", *, detach: bool = False, no_subreaper: bool = False
    ) -> int:
        """Restore a container from the files of a checkpoint, wait for its end, and delete it.

        Returns its exit status; with `detach` 0, as soon as it runs.
        """
        from ocirun.runtime.restore import restore

        return restore(self._settings, request, detach=detach, subreaper=not no_subreaper)

    def get(self, id: str) -> Container:
        """A container by its id. Its existence is found out by the first method called."""
        from ocirun.state.store import check_id

        return Container(self._settings, check_id(id))

    def list(self) -> list[ContainerInfo]:
        """All containers, sorted by id; an unreadable record has the status "unknown"."""
        from ocirun.runtime.state import states

        return [ContainerInfo(state) for state in states(self._settings)]

    def delete(self, id: str, *, force: bool = False) -> None:
        """Delete a container; with `force` in any state, and none is no error."""
        self.get(id).delete(force)
