"""One container, held by the program that made it or found it.

Belongs here: Container. What makes containers is a Runtime (`runtime`); a further process in
one is described in `exec`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from ocirun.errors import ContainerTimeout
from ocirun.library.completed import Usage, usage_of
from ocirun.library.exec import Command, CompletedExec, ExecTurn, request_of
from ocirun.library.executor import Executor, RemoteProcess, readable
from ocirun.library.streams import Stream
from ocirun.runtime.delete import delete
from ocirun.runtime.events import events, stats
from ocirun.runtime.kill import kill
from ocirun.runtime.mounts import Mounts, add_mounts, remove_mounts
from ocirun.runtime.pause import pause, resume
from ocirun.runtime.ps import processes
from ocirun.runtime.run import exit_status
from ocirun.runtime.settings import Settings
from ocirun.runtime.start import start
from ocirun.runtime.state import state
from ocirun.runtime.update import Source, update

_LAST_WORD = 2.0
"""Seconds in which the executor tells the end of an init that has ended."""


class Container:
    """One container.

    Attributes:
        id: its id.
        stdin, stdout, stderr: our ends of its pipes, where PIPE was asked for; else None.
        process: its init, if this Runtime has made it.
    """

    def __init__(self, settings: Settings, container_id: str, executor: Executor) -> None:
        self._settings = settings
        self._executor = executor
        self.id = container_id
        self.stdin: IO[Any] | None = None
        self.stdout: IO[Any] | None = None
        self.stderr: IO[Any] | None = None
        self.process: RemoteProcess | None = None

    def __repr__(self) -> str:
        return f"Container({self.id!r})"

    def start(self) -> None:
        """Execute the container's command (runtime.md, "start").

        Raises NotFound, WrongStatus, CommandNotFound, HookFailed.
        """
        start(self._settings, self.id)

    def state(self) -> dict[str, Any]:
        """The state of the container (runtime.md, "Query State"). Raises NotFound."""
        return state(self._settings, self.id)

    @property
    def pid(self) -> int:
        """The process id of init in the caller's pid namespace; 0 once it has ended."""
        pid: int = self.state()["pid"]
        return pid

    def kill(self, signal: str | int = "TERM", all: bool = False) -> None:
        """Send a signal to init, or with `all` to every process (runtime.md, "kill").

        Raises NotFound, WrongStatus, UsageError.
        """
        kill(self._settings, self.id, signal, all)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the container has ended, and return its exit status (128 + n for signal n).

        Only who has made a container can learn its exit status: for another's
        (`Runtime.get`) it is None. Raises ContainerTimeout after `timeout` seconds.
        """
        if self.process is not None:
            end = self.process.wait(timeout)
            if end is None:
                raise late(self.id, timeout)
            return None if end.status is None else exit_status(end.status)
        _wait_for_other(self, timeout)
        return None

    @property
    def usage(self) -> Usage | None:
        """What it has used, once it has ended; None before, and of another's container."""
        end = self.process.ended() if self.process is not None else None
        return usage_of(end) if end is not None else None

    def exec(
        self,
        command: Command,
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        input: bytes | str | None = None,
        capture_output: bool = False,
        text: bool = False,
        timeout: float | None = None,
        check: bool = False,
        **options: Any,
    ) -> CompletedExec:
        """Run one more process in the container to its end, as `subprocess.run` does.

        Args:
            command: the words of the command, or a whole process as in config.json.
            stdin, stdout, stderr, input, capture_output, text: as in `Runtime.run`.
            timeout: seconds; then the process is killed.
            check: raise ContainerFailed unless the exit status is 0.
            options: what differs from the container's own process:
                env: variables that are added, by name. cwd: working directory.
                user: uid, or (uid, gid). groups: gids that are added.
                capabilities: such as "CAP_NET_ADMIN", that are added.
                no_new_privileges, apparmor, selinux: as in config.json.
                cgroup: a cgroup below the container's, as of `ocirun exec`.
                terminal, console_socket: a terminal, whose master the socket gets.

        Raises NotFound, WrongStatus, CommandNotFound, InvalidConfig, UsageError;
        ContainerTimeout, with what was caught so far.
        """
        request = request_of(self.id, command, **options)
        return ExecTurn(
            self._settings, self._executor, request,
            stdin, stdout, stderr, input, capture_output, text,
        ).complete(timeout, check)  # fmt: skip

    def pause(self) -> None:
        """Stop every process of the container, until `resume`.

        Raises NotFound, WrongStatus, Unsupported.
        """
        pause(self._settings, self.id)

    def resume(self) -> None:
        """Let a paused container go on. Raises NotFound, WrongStatus."""
        resume(self._settings, self.id)

    def checkpoint(self, image_path: str | os.PathLike[str], **options: Any) -> None:
        """Write the container's processes to files (CRIU), for `Runtime.restore`.

        The container is deleted then, unless it is left running, and its init has ended by
        SIGKILL. Root of the machine is needed.

        Args:
            image_path: folder of the images, made if it is missing.
            options: those of `ocirun checkpoint` (docs/checkpoint.md):
                leave_running: let the container run on.
                pre_dump: write the memory alone, for a parent_path; the container runs on.
                parent_path: an earlier checkpoint, seen from image_path.
                work_path: folder of CRIU's log and the like; image_path when not given.
                tcp_established, tcp_skip_in_flight, ext_unix_sk, shell_job, file_locks,
                link_remap, auto_dedup, lazy_pages: switches of CRIU.
                manage_cgroups_mode: soft, full, strict, props, none or ignore.
                empty_ns: ["network"]: leave out what is in it.
                page_server: ADDRESS:PORT of the CRIU that takes the memory.
                status_fd: gets a NUL byte once pages can be fetched, and is closed.

        Raises NotFound, WrongStatus, UsageError, Unsupported, CriuFailed; it runs on then.
        """
        from ocirun.library.criu import checkpoint_request, perform

        perform(self._settings, self._executor, checkpoint_request(self.id, image_path, **options))

    def processes(self) -> list[int]:
        """The pids of the container's processes, as the caller sees them, sorted.

        Raises NotFound, Unsupported.
        """
        return processes(self._settings, self.id)

    def update(self, resources: Mapping[str, Any]) -> None:
        """Change limits: an object as linux.resources (config-linux.md, "Control groups").

        What it does not name stays as it is. Raises NotFound, WrongStatus, InvalidConfig,
        Unsupported; StepFailed, with the limits as they were before, if the kernel refuses one.
        """
        update(self._settings, self.id, Source(dict(resources)))

    def add_mounts(self, mounts: Sequence[Mapping[str, Any]]) -> None:
        """Mount in the container, which is created, running or paused: all of them, or none.

        Args:
            mounts: objects as in config.json's `mounts`; sources are looked up on the host, a
                relative one from the bundle (config.md, "Mounts").

        Raises NotFound, WrongStatus, InvalidConfig, Unsupported, StepFailed; the pointer of an
        error leads into `mounts`.
        """
        self._change_mounts(add_mounts, [dict(mount) for mount in mounts])

    def remove_mounts(self, destinations: Sequence[str]) -> None:
        """Unmount what is at these places in the container, the last one first: all, or nothing.

        What uses a mount keeps it until it lets go (umount2(2), MNT_DETACH). The container's root,
        /proc, /sys, /dev, devices, masked and read-only paths stay.
        Raises NotFound, WrongStatus, InvalidConfig, Unsupported, StepFailed.
        """
        if isinstance(destinations, str):
            raise TypeError("the destinations are a sequence, not one text")
        self._change_mounts(remove_mounts, [{"destination": place} for place in destinations])

    def _change_mounts(self, change: Callable[..., None], entries: list[dict[str, Any]]) -> None:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            cloner = self._executor.cloner((null, null, null))
            change(self._settings, self.id, Mounts(entries), cloner)
        finally:
            os.close(null)

    def stats(self) -> dict[str, Any]:
        """What the container uses now, in the form of runc's events.

        CPU time is in nanoseconds, memory in bytes. Raises NotFound, WrongStatus.
        """
        return stats(self._settings, self.id)

    def events(self, interval: float | None = None) -> Iterator[dict[str, Any]]:
        """Events in runc's form as they happen, until the container has ended.

        {"type": "oom", "id": ...} when the kernel has killed a process for want of memory; and
        every `interval` seconds {"type": "stats", "id": ..., "data": as of `stats`}.
        Raises NotFound, WrongStatus, UsageError, before the first one.
        """
        return events(self._settings, self.id, interval)

    def delete(self, force: bool = False) -> None:
        """Delete the container; with `force` in any state (runtime.md, "delete").

        Raises NotFound, WrongStatus.
        """
        delete(self._settings, self.id, force)
        # Init is gone, but the executor's word of it may still be on its way.
        if self.process is not None and self.process.wait(_LAST_WORD) is not None:
            self.process.close()


def late(container_id: str, timeout: float | None) -> ContainerTimeout:
    """The exception for a container that has not ended in time."""
    words = f"container {container_id} has not ended within {timeout} seconds"
    return ContainerTimeout(words, timeout=timeout or 0.0)


def _wait_for_other(container: Container, timeout: float | None) -> None:
    """Wait for an init process that this Runtime has not made."""
    pid = container.pid
    if not pid:
        return
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # The pid may be another's by now: what has ended needs no waiting.
        if container.pid == pid and not readable(pidfd, timeout):
            raise late(container.id, timeout)
    finally:
        os.close(pidfd)
