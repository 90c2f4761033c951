"""What `launch` can be asked for, and the parsing of its values.

Pure: text in, numbers and mounts out. The command line passes texts through as
they are, so that a library user gets the same checks.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ocirun.errors import UsageError

_SIZE = re.compile(r"([0-9]{1,19})(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_ID = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_+.-]*")
# The period over which the kernel counts, in microseconds (its own default), and the
# least quota that it takes (1 ms): sched-bwc.rst.
CPU_PERIOD = 100_000
_MIN_QUOTA = 1000
_MAX_CPUS = 65536
# PID_MAX_LIMIT on 64-bit machines.
_MAX_PIDS = 1 << 22
# HOST_NAME_MAX, gethostname(2).
_MAX_HOSTNAME = 64


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """A launch, as it is asked for; see docs/images.md.

    Attributes:
        id: of the container; also its host name unless `hostname` is given.
        image: name in the store, or `host`.
        command: replaces the image's command; with it goes its entry point.
        keep: keep what the container has written; a later launch can go on with it.
        read_only: the container cannot write to its root.
        env: NAME=VALUE, or NAME to take over the caller's value.
        workdir: absolute; "" for the image's.
        user: USER[:GROUP], names or numbers; "" for the image's.
        volumes: SOURCE:DESTINATION[:ro|rw].
        terminal: the process gets a terminal.
        interactive: the process reads the caller's standard input; else it is empty.
        hostname: "" for the id.
        memory: limit such as 64m; "" for none.
        cpus: number of processors' worth of time, such as 0.5; 0 for no limit.
        pids_limit: most processes; 0 or -1 for no limit.
        network: `none` (a network namespace of its own) or `host`.
    """

    id: str
    image: str
    command: tuple[str, ...] = ()
    keep: bool = False
    read_only: bool = False
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    volumes: tuple[str, ...] = ()
    terminal: bool = False
    interactive: bool = False
    hostname: str = ""
    memory: str = ""
    cpus: float = 0
    pids_limit: int = 0
    network: str = "none"


def check_id(container_id: str) -> str:
    """Return the id if a container may bear it (and so its folder).

    Raises:
        UsageError: it may not.
    """
    if len(container_id) > 255 or not _ID.fullmatch(container_id):
        raise UsageError(
            f"invalid container id {container_id[:80]!r}",
            hint="letters, digits and `_+.-`; the first one no dot; at most 255",
        )
    return container_id


def parse_size(text: str, what: str = "size") -> int:
    """Bytes from a number with an optional unit: b, k, m, g, t (powers of 1024).

    Raises:
        UsageError: not of that form, 0, or beyond 2^63-1.
    """
    match = _SIZE.fullmatch(text)
    value = int(match[1]) << _UNITS[(match[2] or "").lower()] if match else 0
    if not 0 < value < 2**63:
        raise UsageError(f"invalid {what} {text[:40]!r}", hint="such as 64m, 512k or 1g")
    return value


def parse_cpus(cpus: float) -> tuple[int, int]:
    """(quota, period) in microseconds for a number of processors.

    Raises:
        UsageError: no number, less than 0.01, or absurdly large.
    """
    if not math.isfinite(cpus) or not _MIN_QUOTA / CPU_PERIOD <= cpus <= _MAX_CPUS:
        raise UsageError(f"invalid number of cpus {cpus}", hint="0.01 or more, such as 1.5")
    return round(cpus * CPU_PERIOD), CPU_PERIOD


def parse_pids(limit: int) -> int:
    """A limit on processes; 0 for none.

    Raises:
        UsageError: less than -1, or more than the kernel can have.
    """
    if not -1 <= limit <= _MAX_PIDS:
        raise UsageError(f"invalid pids limit {limit}", hint=f"1 to {_MAX_PIDS}; -1 for no limit")
    return max(0, limit)


def parse_hostname(options: LaunchOptions) -> str:
    """The host name of a launch.

    Raises:
        UsageError: longer than the kernel takes, or with a NUL.
    """
    name = options.hostname or options.id[:_MAX_HOSTNAME]
    if len(os.fsencode(name)) > _MAX_HOSTNAME or "\0" in name:
        raise UsageError(f"invalid host name {name[:80]!r}", hint=f"at most {_MAX_HOSTNAME} bytes")
    return name


def parse_volume(text: str, directory: str) -> dict[str, Any]:
    """A mount for config.json from SOURCE:DESTINATION[:ro|rw].

    Args:
        directory: that a relative source is relative to, absolute.

    Raises:
        UsageError: not of that form, or the source does not exist.
    """
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0] or (parts[2:] and parts[2] not in ("ro", "rw")):
        raise UsageError(f"invalid volume {text[:200]!r}", hint="expected SOURCE:DESTINATION[:ro]")
    source, destination = os.path.join(directory, parts[0]), parts[1]
    names = [name for name in destination.split("/") if name]
    if not destination.startswith("/") or not names or ".." in names or "\0" in text:
        raise UsageError(
            f"invalid volume {text[:200]!r}",
            hint="the destination must be an absolute path below / without `..`",
        )
    if not os.path.exists(source):
        raise UsageError(
            f"the source of the volume {text[:200]!r} does not exist",
            path=source,
            hint="make it first",
        )
    options = ["rbind", "rprivate"]
    if parts[2:] == ["ro"]:
        # ro alone would leave mounts below the source writable (mount_setattr(2)).
        options += ["ro", "rro"]
    return {
        "destination": "/" + "/".join(names),
        "type": "bind",
        "source": os.path.normpath(source),
        "options": options,
    }


def merge_env(
    base: tuple[str, ...], additions: tuple[str, ...], caller: Mapping[str, str]
) -> list[str]:
    """Environment from the image's and what is added; of one name, the last value.

    Args:
        additions: NAME=VALUE, or NAME for the caller's value; a name that the caller
            has not removes it.

    Raises:
        UsageError: no name, or a NUL.
    """
    values: dict[str, str] = {}
    for word in base:
        name, equals, value = word.partition("=")
        if name and equals:
            values[name] = value
    for word in additions:
        name, equals, value = word.partition("=")
        if not name or "\0" in word:
            raise UsageError(
                f"invalid environment variable {word[:80]!r}", hint="NAME=VALUE or NAME"
            )
        if equals:
            values[name] = value
        elif name in caller:
            values[name] = caller[name]
        else:
            values.pop(name, None)
    return [f"{name}={value}" for name, value in values.items()]
