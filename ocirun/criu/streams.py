"""stdin, stdout and stderr of a container: they lead out of it, and after a restore elsewhere.

What each was is kept beside the images, in runc's file and form (descriptors.json: a list of
three names). The name is the one that CRIU knows it by, so that the restored process gets the
stream that `restore` has in its place.
"""

import posix

from ocirun.cgroups.files import read
from ocirun.criu.mounts import Mount, write_json
from ocirun.spec.fastjson import loads
from ocirun.spec.load import read_file

FILE = "descriptors.json"
_KIND, _CHARACTERS = 0o170000, 0o020000
_PTS = range(136, 144)  # majors of pseudo terminals (devices.txt)


def describe(pid: int, inside: list[Mount]) -> list[str]:
    """CRIU's names of the three streams of a process that sees these mounts."""
    known = {mount.number for mount in inside}
    return [_name(pid, fd, known) for fd in range(3)]


def _name(pid: int, fd: int, known: set[int]) -> str:
    path = f"/proc/{pid}/fd/{fd}"
    try:
        link = posix.readlink(path)
        facts = posix.stat(path)
        number = _mount_of(pid, fd)
    except OSError:  # it has closed it
        return ""
    if link.startswith(("pipe:[", "socket:[")) or number in known:
        return link
    if facts.st_mode & _KIND == _CHARACTERS and posix.major(facts.st_rdev) in _PTS:
        return f"tty[{_kernels(facts.st_rdev):x}:{_kernels(facts.st_dev):x}]"
    return f"file[{number:x}:{facts.st_ino:x}]"


def _kernels(device: int) -> int:
    """A device's number as the kernel, and CRIU, have it: 20 bits of minor."""
    return posix.major(device) << 20 | posix.minor(device)


def _mount_of(pid: int, fd: int) -> int:
    """The id of the mount that a descriptor lies on (proc(5), fdinfo); -1 if it lies on none."""
    for line in read(f"/proc/{pid}/fdinfo/{fd}").splitlines():
        if line.startswith(b"mnt_id:"):
            return int(line.split()[1])
    return -1


def is_external(name: str) -> bool:
    """CRIU must be told of it at the checkpoint."""
    return name.startswith(("file[", "tty["))


def keep(folder: int, found: list[str]) -> None:
    """Write the names into the folder of the images."""
    write_json(folder, FILE, found)


def inherited(images: str) -> dict[str, int]:
    """The streams that a restored process takes from this one: CRIU's name -> descriptor."""
    path = f"{images}/{FILE}"
    names = loads(read_file(path), path)
    found: dict[str, int] = {}
    for fd, name in enumerate(names if isinstance(names, list) else ()):
        if isinstance(name, str) and (is_external(name) or name.startswith(("pipe:[", "socket:["))):
            found.setdefault(name, fd)
    return found
