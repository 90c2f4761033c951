"""What the kernel lets the caller do: namespaces, mounts, clone3, seccomp."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from ocirun.doctor.finding import Finding, attempt, enter_user_namespace, read_file, write_file
from ocirun.linux.clone import CLONE_NEWNS, CLONE_NEWUSER, clone3, unshare
from ocirun.linux.fs import O_PATH, RESOLVE_IN_ROOT, openat2
from ocirun.linux.mount import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_REC,
    OPEN_TREE_CLONE,
    fsconfig_create,
    fsmount,
    fsopen,
    mount,
    mount_idmap,
    mount_setattr,
    move_mount,
    open_tree,
)
from ocirun.linux.process import PR_SET_NO_NEW_PRIVS, prctl
from ocirun.plan.namespaces import KINDS

_NEEDED = ("mount", "pid", "network", "ipc", "uts")
_RANGE = "0 100000 65536"
# Switches that forbid user namespaces: file -> the value that allows them, its name for sysctl.
_SWITCHES = {
    "/proc/sys/user/max_user_namespaces": ("0", "user.max_user_namespaces=15000"),
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "kernel.unprivileged_userns_clone=1"),
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "kernel.apparmor_restrict_unprivileged_userns=0",
    ),
}
_PR_SET_PDEATHSIG = 1
_OLD = "a newer kernel is needed"


def findings() -> Iterator[Finding]:
    """All of them."""
    yield from _namespaces()
    yield from _user_namespaces()
    yield from _mounts()
    yield from _processes()
    yield _modules()


def _namespaces() -> Iterator[Finding]:
    root = os.geteuid() == 0
    for kind, flag in KINDS.items():
        if kind == "user":
            continue
        reason = attempt(lambda flag=flag: unshare(flag), user_namespace=not root)  # type: ignore[misc]
        how = "can be made" if root else "can be made inside a user namespace"
        mend = "" if not reason else _userns_mend() if not root else _kind_mend(kind)
        needed = kind in _NEEDED
        yield Finding("namespaces", kind, not reason, reason or how, mend, needed)


def _kind_mend(kind: str) -> str:
    limit = f"/proc/sys/user/max_{ {'network': 'net', 'mount': 'mnt'}.get(kind, kind) }_namespaces"
    if read_file(limit) == "0":
        return f"sysctl -w user.{Path(limit).name}=15000"
    return f"a kernel with {kind} namespaces, and CAP_SYS_ADMIN"


def _userns_mend() -> str:
    for file, (closed, setting) in _SWITCHES.items():
        if read_file(file) == closed:
            return f"sysctl -w {setting}"
    return "a kernel with user namespaces (CONFIG_USER_NS), outside of a chroot"


def _user_namespaces() -> Iterator[Finding]:
    reason = attempt(enter_user_namespace)
    detail = reason or "made, and its uid_map and gid_map written"
    mend = _userns_mend() if reason else ""
    yield Finding("namespaces", "user", not reason, detail, mend, os.geteuid() != 0)
    if os.geteuid() == 0:
        reason = attempt(_write_range)
        detail = reason or f"uid_map takes a range ({_RANGE})"
        mend = "CAP_SETUID and CAP_SETGID in the user namespace above, and ids mapped there"
        yield Finding(
            "namespaces", "user, ranges of ids", not reason, detail, mend if reason else ""
        )


def _write_range() -> None:
    os.close(_mapped_namespace())


def _mapped_namespace() -> int:
    """A user namespace in which 65536 ids are mapped, as for a container: its descriptor."""
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            unshare(CLONE_NEWUSER)
            os.write(write, b"+")
            signal.pause()
        finally:
            os._exit(1)
    os.close(write)
    try:
        if not os.read(read, 1):
            raise OSError(0, "no user namespace can be made")
        for name in ("uid_map", "gid_map"):
            write_file(f"/proc/{pid}/{name}", _RANGE)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(read)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _mounts() -> Iterator[Finding]:
    root = os.geteuid() == 0
    trials: list[tuple[str, Callable[[], None], bool, str, bool]] = [
        ("mount API", _new_mounts, not root, f"{_OLD} (Linux 5.12)", True),
        ("openat2", _openat2, False, f"{_OLD} (Linux 5.6)", True),
        ("overlay", _overlay, not root, "modprobe overlay", False),
    ]
    if root:
        trials.append(
            ("overlay in a user namespace", _overlay, True, f"{_OLD} (Linux 5.11)", False)
        )
        idmap = "Linux 5.12, and a file system that knows it (tmpfs: Linux 6.3)"
        trials.append(("id-mapped mount of /", lambda: _idmap(b"/"), False, idmap, False))
        trials.append(("id-mapped mount of a tmpfs", lambda: _idmap(b""), False, idmap, False))
    for name, trial, inside, mend, needed in trials:
        reason = attempt(trial, user_namespace=inside)
        yield Finding("mounts", name, not reason, reason or "works", mend if reason else "", needed)


def _private() -> None:
    unshare(CLONE_NEWNS)
    mount(None, b"/", None, MS_REC | MS_PRIVATE)


def _tmpfs() -> int:
    context = fsopen(b"tmpfs")
    fsconfig_create(context)
    return fsmount(context, 0)


def _new_mounts() -> None:
    _private()
    tree = _tmpfs()
    mount_setattr(tree, MOUNT_ATTR_RDONLY, 0, 0, False)
    copy = open_tree(tree, b"", AT_EMPTY_PATH | OPEN_TREE_CLONE)
    target = os.open("/tmp", O_PATH | os.O_CLOEXEC)
    move_mount(copy, target)
    if os.statvfs("/tmp").f_flag & os.ST_RDONLY == 0:
        raise OSError(0, "the mount is not read-only")


def _openat2() -> None:
    os.close(openat2(os.open("/", O_PATH), b"proc/..", O_PATH, RESOLVE_IN_ROOT))


def _overlay() -> None:
    _private()
    target = os.open("/tmp", O_PATH | os.O_CLOEXEC)
    move_mount(_tmpfs(), target)
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"/tmp/{name}")
    Path("/tmp/lower/file").write_text("lower")
    data = b"lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work"
    try:
        mount(b"overlay", b"/tmp/merged", b"overlay", 0, data + b",userxattr")
    except OSError:  # root's overlay does not need it
        mount(b"overlay", b"/tmp/merged", b"overlay", 0, data)
    Path("/tmp/merged/file").write_text("upper")
    if Path("/tmp/lower/file").read_text() != "lower":
        raise OSError(0, "what is written goes to the lower layer")


def _idmap(path: bytes) -> None:
    space = _mapped_namespace()
    _private()
    tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE) if path else _tmpfs()
    mount_idmap(tree, space, False)


def _processes() -> Iterator[Finding]:
    for name, trial, version in (
        ("clone3", _clone3, "5.5"),
        ("pidfd_open", lambda: os.close(os.pidfd_open(os.getpid())), "5.3"),
    ):
        reason = attempt(trial)
        mend = f"{_OLD} (Linux {version}), or one whose seccomp filter allows it" if reason else ""
        yield Finding("processes", name, not reason, reason or "works", mend, True)
    reason = attempt(_seccomp)
    mend = "a kernel with CONFIG_SECCOMP_FILTER" if reason else ""
    yield Finding("processes", "seccomp", not reason, reason or "filters can be loaded", mend)


def _clone3() -> None:
    pid = clone3(0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _seccomp() -> None:
    from ocirun.linux.seccomp import set_mode_filter

    prctl(PR_SET_NO_NEW_PRIVS, 1)
    # BPF_RET | BPF_K, SECCOMP_RET_ALLOW: a filter that allows everything.
    set_mode_filter(b"\x06\0\0\0" + 0x7FFF0000.to_bytes(4, "little"), 0)


def _modules() -> Finding:
    names = [name for name in read_file("/sys/kernel/security/lsm").split(",") if name]
    if read_file("/sys/module/apparmor/parameters/enabled") == "Y" and "apparmor" not in names:
        names.append("apparmor")
    usable = [name for name in names if name in ("apparmor", "selinux")]
    detail = ", ".join(names) or "none is active"
    mend = "" if usable else "boot with security=apparmor, if containers ask for profiles"
    return Finding("processes", "AppArmor or SELinux", bool(usable), detail, mend)
