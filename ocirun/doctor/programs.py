"""What the caller has beside the kernel: privileges, programs, packages, a systemd."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator

from ocirun.criu.service import find_criu
from ocirun.doctor.finding import Finding, attempt, read_file
from ocirun.errors import Unsupported
from ocirun.plan.host import capabilities
from ocirun.plan.security import NUMBERS
from ocirun.state.process import in_user_namespace
from ocirun.state.store import default_root

# What a container of root's needs of the capabilities.
_NEEDED = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
_PACKAGES = {"newuidmap": "uidmap", "newgidmap": "uidmap", "criu": "criu"}
_LAST_LINES = 3


def privileges() -> Iterator[Finding]:
    """Who the caller is, and what it may."""
    euid = os.geteuid()
    inside = " of a user namespace" if in_user_namespace() else ""
    who = f"root{inside}" if euid == 0 else f"user {euid}: containers are rootless"
    yield Finding("caller", "user", True, who)
    if euid == 0:
        mask = capabilities()
        missing = [name for name, number in NUMBERS.items() if not mask >> number & 1]
        vital = [name for name in missing if name in _NEEDED]
        detail = f"missing: {', '.join(missing)}" if missing else "all of them"
        mend = "a caller with them: containers that ask for one are refused" if missing else ""
        yield Finding("caller", "capabilities", not missing, detail, mend, bool(vital))
    root = default_root()
    reason = attempt(lambda: _writable(root))
    mend = "--root with a folder that can be written to" if reason else ""
    yield Finding("caller", "state folder", not reason, reason or root, mend, True)


def _writable(root: str) -> None:
    place = root
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    if not os.access(place, os.W_OK | os.X_OK):
        raise OSError(13, "", place)


def findings() -> Iterator[Finding]:
    """All of the rest."""
    yield from _id_helpers()
    yield _libseccomp()
    yield _systemd()
    yield _criu()


def _id_helpers() -> Iterator[Finding]:
    needed = os.geteuid() != 0
    for kind in ("uid", "gid"):
        program = f"new{kind}map"
        path = shutil.which(program)
        mend = f"apt install {_PACKAGES[program]}" if not path else ""
        yield Finding("programs", program, bool(path), path or "not in $PATH", mend)
        if needed:
            yield _range(kind)


def _range(kind: str) -> Finding:
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    file = f"/etc/sub{kind}"
    lines = [line.split(":") for line in read_file(file).splitlines()]
    own = [line for line in lines if line[0] in (name, str(os.getuid())) and len(line) == 3]
    detail = ", ".join(f"{first}, {count} ids" for _, first, count in own)
    mend = "" if own else f"usermod --add-sub{kind}s 100000-165535 {name}"
    return Finding("programs", file, bool(own), detail or f"no range of {name}'s", mend)


def _libseccomp() -> Finding:
    from ocirun.errors import OcirunError
    from ocirun.seccomp.compiler import load_binding

    try:
        detail = f"libseccomp, by {load_binding().__name__}"
    except OcirunError as error:
        mend = error.hint or "apt install libseccomp2"
        return Finding("programs", "libseccomp", False, error.message, mend)
    return Finding("programs", "libseccomp", True, detail)


def _systemd() -> Finding:
    try:
        import jeepney  # noqa: F401
    except ImportError:
        mend = "pip install jeepney, into ocirun's environment"
        return Finding("programs", "systemd", False, "the package jeepney is missing", mend)
    from ocirun.cgroups.bus import Bus, BusError
    from ocirun.cgroups.systemd import manager

    name = "org.freedesktop.systemd1"
    try:
        with Bus(manager().bus, 5.0) as bus:
            get = ("org.freedesktop.DBus.Properties", "Get", "ss")
            answer = bus.call(name, "/org/freedesktop/systemd1", *get, f"{name}.Manager", "Version")
            return Finding("programs", "systemd", True, f"version {answer[0][1]}, over D-Bus")
    except (BusError, OSError) as error:
        words = getattr(error, "words", "") or str(error)
        user = "a user's session (loginctl enable-linger), " if os.geteuid() else ""
        mend = f"{user}systemd as init and a running D-Bus; not needed without --systemd-cgroup"
        return Finding("programs", "systemd", False, f"does not answer: {words}", mend)


def _criu() -> Finding:
    try:
        path = find_criu()
    except Unsupported:
        mend = f"apt install {_PACKAGES['criu']}"
        return Finding("programs", "CRIU", False, "not in $PATH: no checkpoints", mend)
    try:
        done = subprocess.run(
            [path, "check"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("programs", "CRIU", False, str(error), "criu check")
    said = (done.stderr + done.stdout).strip().splitlines()
    if done.returncode == 0:
        return Finding("programs", "CRIU", True, f"{path}: {said[-1] if said else 'works'}")
    return Finding(
        "programs",
        "CRIU",
        False,
        "; ".join(line.strip() for line in said[-_LAST_LINES:]),
        "a newer CRIU, run as root, that knows this kernel (criu check --all)",
    )
