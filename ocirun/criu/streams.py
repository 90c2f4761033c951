"""stdin, stdout and stderr of a container: they lead out of it, and after a restore elsewhere.

What each was is kept beside the images, in runc's file and form (descriptors.json: a list of
three names). The name is the one that CRIU knows it by, so that the restored process gets the
stream that `restore` has in its place.
"""

import posix

from ocirun.cgroups.files import read
from ocirun.criu.mounts import Mount, write_json
from ocirun.errors import Unsupported
from ocirun.spec.fastjson import loads
from ocirun.spec.load import read_file

FILE = "descriptors.json"
_STREAMS = ("stdin", "stdout", "stderr")
_NOT_AGAIN = 0o400000 | 0o20000000  # O_NOFOLLOW, __O_TMPFILE: CRIU opens /proc/PID/fd/N so
_KIND, _CHARACTERS = 0o170000, 0o020000
_PTS = range(136, 144)  # majors of pseudo terminals (devices.txt)


def describe(pid: int, inside: list[Mount]) -> list[str]:
    """CRIU's names of the three streams of a process that sees these mounts.

    Raises Unsupported, of what could not be restored.
    """
    known = {mount.number for mount in inside}
    return [_name(pid, fd, known) for fd in range(3)]


def _name(pid: int, fd: int, known: set[int]) -> str:
    path = f"/proc/{pid}/fd/{fd}"
    try:
        link = posix.readlink(path)
        facts = posix.stat(path)
        info = _info(pid, fd)
    except OSError:  # it has closed it
        return ""
    number = int(info.get(b"mnt_id", b"-1"))
    if link.startswith(("pipe:[", "socket:[")) or number in known:
        return link
    if facts.st_mode & _KIND == _CHARACTERS and posix.major(facts.st_rdev) in _PTS:
        return f"tty[{_kernels(facts.st_rdev):x}:{_kernels(facts.st_dev):x}]"
    if int(info.get(b"flags", b"0"), 8) & _NOT_AGAIN:
        raise Unsupported(
            f"{_STREAMS[fd]} of the container is a file that was opened with O_NOFOLLOW or "
            "O_TMPFILE, and criu could not open it again",
            hint="give the container a file with a name, opened without these flags (Python's "
            "tempfile sets them), or a pipe",
        )
    return f"file[{number:x}:{facts.st_ino:x}]"


def _kernels(device: int) -> int:
    """A device's number as the kernel, and CRIU, have it: 20 bits of minor."""
    return posix.major(device) << 20 | posix.minor(device)


def _info(pid: int, fd: int) -> dict[bytes, bytes]:
    """What proc(5) says of a descriptor (fdinfo), by name: pos, flags, mnt_id."""
    lines = read(f"/proc/{pid}/fdinfo/{fd}").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(b":") for line in lines)}


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
