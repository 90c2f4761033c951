"""The exception tree, and nothing else.

Every failure that a user can see is one of these classes. They carry facts
(which step, which JSON pointer, which syscall, which errno), never rendered
text: `ocirun.cli.render` turns them into a message, and `exit_code` is the one
table of exit statuses. This module is on the path of every hot command: it
imports nothing.
"""


class OcirunError(Exception):
    """Base of all errors that ocirun raises on purpose.

    Attributes:
        message: one line, what failed; no trailing period.
        step: what was being done, in the words of `ocirun explain`; "" if none.
        pointer: JSON pointer (RFC 6901) of the property of config.json that
            asked for it; "" if none.
        syscall: name of the failing call with its symbolic arguments; "" if none.
        errno: error number of the kernel; 0 if none.
        path: file or directory concerned; "" if none.
        kernel: the kernel's own words (file system context log); "" if none.
        hint: what the user can do about it; "" if unknown.
        bundle: directory whose config.json the pointer speaks of; "" if none.
    """

    exit_code = 1
    document = ""
    """What the pointer leads into if it is not a container's config; with a place in it."""
    config = ""
    """The config that the pointer speaks of; "" for config.json in `bundle`."""

    def __init__(
        self,
        message: str,
        *,
        step: str = "",
        pointer: str = "",
        syscall: str = "",
        errno: int = 0,
        path: str = "",
        kernel: str = "",
        hint: str = "",
        bundle: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.step = step
        self.pointer = pointer
        self.syscall = syscall
        self.errno = errno
        self.path = path
        self.kernel = kernel
        self.hint = hint
        self.bundle = bundle


class UsageError(OcirunError):
    """The call itself is wrong: a bad id, options that exclude each other."""


class InvalidJSON(OcirunError):
    """A document is not JSON. `line` and `column` count from 1."""

    def __init__(self, message: str, *, line: int, column: int, path: str = "") -> None:
        super().__init__(message, path=path)
        self.line = line
        self.column = column


class BundleError(OcirunError):
    """The bundle cannot be read: no directory, no config.json, no rootfs."""


class InvalidConfig(OcirunError):
    """config.json breaks the specification. `findings` holds every error found."""

    def __init__(self, message: str, findings: "tuple[object, ...]" = (), **facts: str) -> None:
        super().__init__(message, **facts)  # type: ignore[arg-type]
        self.findings = findings


class Unsupported(OcirunError):
    """config.json asks for something that this version cannot do. Never skipped."""


class StepFailed(OcirunError):
    """A step of the plan failed: the kernel said no."""


class CriuFailed(OcirunError):
    """CRIU could not do it. `lines` are the last ones of its log, whose place is `path`."""

    def __init__(self, message: str, lines: "tuple[str, ...]" = (), **facts: "str | int") -> None:
        super().__init__(message, **facts)  # type: ignore[arg-type]
        self.lines = lines


class HookFailed(OcirunError):
    """A hook of the bundle failed or ran out of time. `output` is the last that it wrote."""

    def __init__(
        self,
        message: str,
        *,
        output: str = "",
        step: str = "",
        pointer: str = "",
        errno: int = 0,
        path: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, step=step, pointer=pointer, errno=errno, path=path, hint=hint)
        self.output = output


class CommandNotFound(OcirunError):
    """process.args[0] cannot be executed in the container."""


class NotFound(OcirunError):
    """No container of that id ("container does not exist")."""


class AlreadyExists(OcirunError):
    """A container of that id exists already."""


class WrongStatus(OcirunError):
    """The container is not in a state in which the operation is allowed."""


class StateError(OcirunError):
    """The record of a container cannot be read or written."""


class ExecutorDied(OcirunError):
    """The library's executor process died in the middle of a request."""


class ContainerTimeout(OcirunError):
    """A container did not end in time. `timeout` is in seconds; `stdout` and `stderr` are what
    it had written by then, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        timeout: float,
        stdout: "bytes | str | None" = None,
        stderr: "bytes | str | None" = None,
    ) -> None:
        super().__init__(message)
        self.timeout = timeout
        self.stdout = stdout
        self.stderr = stderr


class ContainerFailed(OcirunError):
    """A container that was to succeed has not. `container` is its CompletedContainer."""

    def __init__(self, message: str, container: object) -> None:
        super().__init__(message)
        self.container = container


class ImageError(OcirunError):
    """An image cannot be imported, found or removed."""
