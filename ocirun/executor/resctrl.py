"""Groups of the resctrl file system (config-linux.md, "IntelRdt"; the kernel's x86/resctrl.rst).

Performed by the parent, and `remove` by delete. Nothing here knows where resctrl is mounted:
the steps hold whole paths.
"""

import posix

from ocirun.errors import InvalidConfig, OcirunError
from ocirun.executor.failures import step_failed
from ocirun.linux.ffi import SyscallError
from ocirun.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.executor.outside import Undo

ENOENT, EEXIST = 2, 17
_LIMIT = 1 << 16


class ResctrlError(SyscallError):
    """The kernel refused a change; `words` are its own, from info/last_cmd_status."""

    def __init__(self, call: str, error: int, words: str = "") -> None:
        super().__init__(call, error)
        self.words = words


def group(pid: int, root: str, directory: str, schemata: bytes, match: bytes) -> "Undo | None":
    """Make the group, unless it is there, and write its schemata.

    Args:
        schemata: lines to write in any case.
        match: lines that a group which is there must have already, and a new one gets.
    """
    made = _make(root, directory)
    lines = schemata
    try:
        if made:
            lines = match + schemata
        elif match:
            _compare(_read(f"{directory}/schemata").decode("utf-8", "replace"), match.decode())
        if lines:
            _write(root, f"{directory}/schemata", lines)
    except BaseException:
        if made:
            _undo(directory)[0]()
        raise
    return _undo(directory) if made else None


def existing(pid: int, directory: str) -> None:
    """See that a group is there which somebody else has to make."""
    try:
        posix.stat(directory)
    except OSError as error:
        raise ResctrlError(f"stat({directory})", error.errno or 0) from None


def monitor(pid: int, root: str, directory: str) -> "Undo":
    """Make a group that only counts."""
    if not _make(root, directory):
        raise ResctrlError(f"mkdir({directory})", EEXIST)
    return _undo(directory)


def join(pid: int, root: str, directory: str) -> None:
    """Put init into the group; what it starts will be in it as well."""
    _write(root, f"{directory}/tasks", b"%d" % pid)


def remove(directories: list[str]) -> None:
    """Remove groups, the last one first; one that is gone already is fine.

    Raises StepFailed.
    """
    for directory in reversed(directories):
        try:
            posix.rmdir(directory)
        except OSError as error:
            if error.errno != ENOENT:
                step = Step("resctrl-remove", "/linux/intelRdt", directory)
                raise step_failed(step, error.errno or 0, f"rmdir({directory})") from None


def _undo(directory: str) -> "Undo":
    def back() -> None:
        try:
            remove([directory])
        except OcirunError:  # the error that led here is the one to tell
            pass

    return back, None


def parse(text: str) -> dict[tuple[str, str], int]:
    """Schemata as numbers: (resource, domain) -> mask, or percentage for MB.

    The kernel writes them with spaces and zeros that nobody has to ask for. Raises ValueError.
    """
    found = {}
    for line in text.splitlines():
        name, colon, rest = line.strip().partition(":")
        if not colon:
            continue
        base = 10 if name.startswith(("MB", "SMBA")) else 16
        for entry in filter(None, rest.split(";")):
            domain, _, value = entry.partition("=")
            found[name.strip(), domain.strip()] = int(value.strip(), base)
    return found


def _compare(there: str, wanted: str) -> None:
    try:
        known, asked = parse(there), parse(wanted)
    except ValueError as error:
        raise InvalidConfig(f"a schema that cannot be read: {error}") from None
    for (name, domain), value in asked.items():
        if known.get((name, domain)) != value:
            raise InvalidConfig(
                f"the group is there already, and its schema for {name}:{domain} is another",
                hint="leave the schemata out to use the group as it is, or use another closID",
            )


def _make(root: str, directory: str) -> bool:
    try:
        posix.mkdir(directory, 0o755)
    except OSError as error:
        if error.errno == EEXIST:
            return False
        raise ResctrlError(f"mkdir({directory})", error.errno or 0, _status(root)) from None
    return True


def _write(root: str, path: str, data: bytes) -> None:
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
        try:
            posix.write(fd, data)
        finally:
            posix.close(fd)
    except OSError as error:
        raise ResctrlError(f"write({path})", error.errno or 0, _status(root)) from None


def _status(root: str) -> str:
    """What the kernel says of the last failure; "ok" is no news."""
    try:
        words = _read(f"{root}/info/last_cmd_status").decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return "" if words == "ok" else words


def _read(path: str) -> bytes:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, _LIMIT)
    finally:
        posix.close(fd)


STEPS: "dict[str, Callable[..., Undo | None]]" = {
    "resctrl-group": group,
    "resctrl-existing": existing,
    "resctrl-monitor": monitor,
    "resctrl-join": join,
}
