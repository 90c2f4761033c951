"""Cgroups within a container's, for a process that joins it.

Source: cgroup-v2.rst, "No Internal Process Constraint".
"""

import posix

from ocirun.cgroups.files import CallFailed, read
from ocirun.errors import NotFound, UsageError


def below(paths: dict[str, str], wishes: list[str]) -> dict[str, str]:
    """The paths with sub-cgroups: PATH for all hierarchies, or CONTROLLER[,...]:PATH.

    Raises UsageError for a path that leaves the container's cgroup or is not there.
    """
    found = dict(paths)
    for wish in wishes:
        names, colon, path = wish.rpartition(":")
        if ".." in path.split("/"):
            raise UsageError(f"--cgroup {wish}: {path} must not contain '..'")
        keys = names.split(",") if colon else list(paths)
        for key in keys:
            if key not in paths:
                raise UsageError(
                    f"--cgroup {wish}: the container has no cgroup of the controller {key!r}",
                    hint="its controllers: " + ", ".join(name or "(v2)" for name in paths),
                )
            inner = path.strip("/")
            found[key] = f"{paths[key]}/{inner}" if inner else paths[key]
    for directory in found.values():
        try:
            posix.stat(directory)
        except OSError as error:
            raise NotFound(
                f"there is no cgroup {directory}",
                syscall="stat",
                errno=error.errno or 0,
                path=directory,
            ) from None
    return found


def where_init_is(paths: dict[str, str], pid: int) -> dict[str, str]:
    """The paths, with init's own v2 cgroup where the container's can hold no process any more.

    A container that has made cgroups of its own and handed controllers down to them, such as one
    with systemd in it, leaves no other way in.
    """
    unified = paths[""]
    if not _read(f"{unified}/cgroup.subtree_control").strip():
        return paths
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith(b"0::"):
            path = line[3:].decode("utf-8", "surrogateescape")
            return {**paths, "": unified + _inner(unified, path)}
    return paths


def _inner(unified: str, path: str) -> str:
    """What of init's path, seen from the hierarchy's root, lies below the container's."""
    for start in range(len(unified)):
        if unified[start] == "/" and path.startswith(unified[start:] + "/"):
            return path[len(unified) - start :]
    return ""


def _read(path: str) -> bytes:
    try:
        return read(path)
    except CallFailed:
        return b""
