"""A further process in a container, through the executor, from its start to its end.

Belongs here: what `Container.exec` takes and returns, in the steps that a thread and a
loop have in common. The process itself is made by `ocirun.runtime.exec`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ocirun.errors import ContainerFailed, ContainerTimeout, UsageError
from ocirun.library.completed import Usage, usage_of
from ocirun.library.executor import Executor, RemoteProcess
from ocirun.library.streams import Conversation, Stream, streams_of
from ocirun.library.turn import Turn
from ocirun.runtime.exec import ExecRequest, join
from ocirun.runtime.run import exit_status
from ocirun.runtime.settings import Settings

Command = Sequence[str] | Mapping[str, Any]
"""A command, or a whole process as in config.json."""


class CompletedExec:
    """A process that has ended in a container, as `subprocess.CompletedProcess`.

    Attributes:
        id: of the container.
        args: the command.
        exit_status: 128 + n if signal n ended it; -1 if it is not known, since the
            executor was killed meanwhile.
        stdout, stderr: what it has written, if it was caught with PIPE; else None.
        usage: processor time and memory, of it and what it waited for.
    """

    def __init__(
        self,
        id: str,
        args: list[str],
        exit_status: int,
        stdout: bytes | str | None,
        stderr: bytes | str | None,
        usage: Usage,
    ) -> None:
        self.id = id
        self.args = args
        self.exit_status = exit_status
        self.stdout = stdout
        self.stderr = stderr
        self.usage = usage

    def check(self) -> None:
        """Raise ContainerFailed unless the exit status is 0."""
        if self.exit_status:
            command = f"{self.args[0]} in container {self.id}"
            words = f"{command} has ended with status {self.exit_status}"
            raise ContainerFailed(words, self)

    def __repr__(self) -> str:
        shown = [f"id={self.id!r}", f"args={self.args!r}", f"exit_status={self.exit_status}"]
        for name in ("stdout", "stderr"):
            if getattr(self, name) is not None:
                shown.append(f"{name}={getattr(self, name)!r}")
        return f"CompletedExec({', '.join(shown)})"


def request_of(
    container_id: str,
    command: Command,
    *,
    env: Mapping[str, str] | None = None,
    cwd: str = "",
    user: int | tuple[int, int] | None = None,
    groups: Sequence[int] = (),
    capabilities: Sequence[str] = (),
    no_new_privileges: bool = False,
    apparmor: str = "",
    selinux: str = "",
    cgroup: str = "",
    terminal: bool = False,
    console_socket: str = "",
) -> ExecRequest:
    """What `exec` of the command line would ask for. Raises UsageError, TypeError.

    A whole process takes no options that a process has itself.
    """
    request = ExecRequest(container_id)
    if isinstance(command, Mapping):
        given = (env, cwd, user, groups, capabilities, no_new_privileges, apparmor, selinux)
        if any(given) or terminal or user is not None:
            raise UsageError("options of a process are given, and the whole process as well")
        request.process = dict(command)
    elif isinstance(command, str):
        raise TypeError("the command is a sequence of words, not one text")
    else:
        request.args = [str(word) for word in command]
    request.env = [f"{name}={value}" for name, value in (env or {}).items()]
    request.cwd = cwd
    if user is not None:
        request.user = (user, None) if isinstance(user, int) else (user[0], user[1])
    request.additional_gids = list(groups)
    request.capabilities = list(capabilities)
    request.no_new_privileges = no_new_privileges
    request.apparmor, request.label = apparmor, selinux
    request.cgroup = [cgroup] if cgroup else []
    request.terminal, request.console_socket = terminal, console_socket
    return request


class ExecTurn(Turn[CompletedExec]):
    """One `exec`."""

    def __init__(
        self,
        settings: Settings,
        executor: Executor,
        request: ExecRequest,
        stdin: Stream,
        stdout: Stream,
        stderr: Stream,
        given: bytes | str | None,
        capture_output: bool,
        text: bool,
    ) -> None:
        super().__init__(streams_of(stdin, stdout, stderr, given, capture_output), given, text)
        self._settings = settings
        self.request = request
        self._process: RemoteProcess | None = None
        request.cloner = executor.cloner(self.streams.theirs)

    def begin(self) -> None:
        """Make the process; it runs then."""
        try:
            birth = join(self._settings, self.request)
        finally:
            self.streams.close_theirs()
        assert isinstance(birth.process, RemoteProcess)
        self._process = birth.process
        self.talk = Conversation(self._process, self.streams, self.given)

    def abort(self) -> None:
        """Kill a process that has not been finished, and read what it has written."""
        process, self._process = self._process, None
        if process is not None:
            process.end()
            self.talk.drain()

    def finish(self) -> CompletedExec:
        """Say how the process, which has ended, went."""
        process = self._process
        assert process is not None
        end = process.ended()
        assert end is not None
        self.abort()
        return CompletedExec(
            self.request.id,
            self._args(),
            -1 if end.status is None else exit_status(end.status),
            self.talk.output(1, self.text),
            self.talk.output(2, self.text),
            usage_of(end),
        )

    def _args(self) -> list[str]:
        process = self.request.process
        return list(process["args"]) if process else self.request.args

    def late(self, timeout: float | None) -> ContainerTimeout:
        """The exception for a process that was too slow."""
        command = self._args()[0]
        words = f"{command} in container {self.request.id} has not ended within {timeout} seconds"
        return ContainerTimeout(words, timeout=timeout or 0.0)
