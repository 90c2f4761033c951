"""Id mappings that an ordinary user may not write: by newuidmap(1) and newgidmap(1).

They are setuid programs of the package "uidmap" (shadow-utils), and allow what /etc/subuid
and /etc/subgid say. Loaded only if a plan names them (`Plan.helpers`).

The process id that they get cannot be another's meanwhile: init is this process's child
and not yet waited for; and of one that the executor has reaped they would refuse a
successor that is not the same user's.
"""

import posix

from ocirun.errors import StepFailed
from ocirun.plan.describe import describe
from ocirun.plan.step import Step

_FOLDERS = "/usr/bin:/bin:/usr/local/bin:/usr/sbin:/sbin"
_LIMIT = 4096
"""Bytes of the helper's words that are kept."""


def map_by_helper(pid: int, step: Step) -> None:
    """Write a map ("id-map", "uid" or "gid", text) of the process's user namespace.

    Raises StepFailed with the helper's own words.
    """
    kind, text = str(step.args[0]), step.args[1]
    assert isinstance(text, bytes)
    name = f"new{kind}map"
    path = _find(name)
    if not path:
        raise StepFailed(
            f"a user who maps more than the own {kind} needs {name}, which is not in PATH",
            step=describe(step),
            pointer=step.pointer,
            hint='install the package "uidmap" (Fedora: "shadow-utils"), or map only the own id',
        )
    status, words = _run([path, str(pid), *text.decode().split()])
    if status != 0:
        said = words.strip().splitlines()
        raise StepFailed(
            f"cannot map the {kind}s: " + (said[-1] if said else f"{name} failed ({status})"),
            step=describe(step),
            pointer=step.pointer,
            path=path,
            hint=_hint(kind, words),
        )


def _find(name: str) -> str:
    """The absolute path of the program; "" if there is none. A relative entry is not used."""
    path = posix.environ.get(b"PATH", b"").decode("utf-8", "surrogateescape")
    for folder in (path + ":" + _FOLDERS).split(":"):
        candidate = f"{folder}/{name}"
        if folder.startswith("/") and posix.access(candidate, posix.X_OK, effective_ids=True):
            return candidate
    return ""


def _run(argv: list[str]) -> tuple[int, str]:
    """Run a program that gets nothing of this process: its exit status, and what it said."""
    output = posix.memfd_create("output", posix.MFD_CLOEXEC)
    try:
        # Everything of ocirun's is close-on-exec, but a caller may hold something that is not.
        others = [int(name) for name in posix.listdir("/proc/self/fd") if int(name) > 2]
        pid = posix.posix_spawn(
            argv[0],
            argv,
            {},
            file_actions=[
                (posix.POSIX_SPAWN_OPEN, 0, "/dev/null", posix.O_RDONLY, 0),
                (posix.POSIX_SPAWN_DUP2, output, 1),
                (posix.POSIX_SPAWN_DUP2, output, 2),
                *((posix.POSIX_SPAWN_CLOSE, fd) for fd in others),
            ],
            setsigmask=(),
        )
        try:
            status = posix.waitstatus_to_exitcode(posix.waitpid(pid, 0)[1])
        except ChildProcessError:  # the caller has its children reaped; init will see the map
            status = 0
        return status, posix.pread(output, _LIMIT, 0).decode("utf-8", "replace")
    finally:
        posix.close(output)


def _hint(kind: str, words: str) -> str:
    if f"{kind}_map failed" in words:
        return (
            f"new{kind}map could not use its own privileges: is it setuid root, or does the caller "
            "run with no_new_privs, or in a container that has not these capabilities?"
        )
    file = f"/etc/sub{kind}"
    return (
        f"each mapped id must be the user's own, or in a range that {file} grants: a line "
        f"NAME:FIRST:COUNT with the user's name or number (usermod --add-sub{kind}s)"
    )
