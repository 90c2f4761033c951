"""The steps that make init the container's process: session, limits, user, capabilities."""

import _socket
import posix
from fcntl import ioctl

from ocirun.executor.paths import ENOENT, EPERM, S_IFMT, find
from ocirun.linux.clone import CLONE_NEWCGROUP, unshare
from ocirun.linux.ffi import SyscallError
from ocirun.linux.process import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS,
    capset,
    join_session_keyring,
    personality,
    prctl,
    prlimit,
    setdomainname,
    sethostname,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.executor.child import Child

EACCES, EINVAL, EROFS, ENOSYS = 13, 22, 30, 38
_S_IFREG = 0o100000
_SIOCSIFFLAGS = 0x8914
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_PASSWD_LIMIT = 1 << 20


def become_root(child: "Child", uid: int, gid: int) -> None:
    """Be root in the user namespace: until then the ids are the overflow ids.

    Where root is not mapped, another id has its capabilities until it sets its own.
    """
    try:
        posix.setgroups([])
    except OSError as error:
        if error.errno != EPERM:  # setgroups is "deny" (user_namespaces(7))
            raise SyscallError("setgroups", error.errno) from None
    posix.setresgid(gid, gid, gid)
    posix.setresuid(uid, uid, uid)


def undumpable(child: "Child") -> None:
    """Until the execve nobody in the container may trace init or look at its descriptors."""
    prctl(PR_SET_DUMPABLE, 0, call="prctl(PR_SET_DUMPABLE)")


def session(child: "Child") -> None:
    """A session of its own: no way to the caller's terminal (TIOCSTI)."""
    posix.setsid()


def keyring(child: "Child", name: bytes) -> None:
    """A session keyring of its own (session-keyring(7))."""
    join_session_keyring(name)


def unshare_cgroup(child: "Child") -> None:
    """A cgroup namespace whose root is the container's cgroup: after joining it."""
    unshare(CLONE_NEWCGROUP)


def hostname(child: "Child", name: bytes) -> None:
    """sethostname(2)."""
    sethostname(name)


def domainname(child: "Child", name: bytes) -> None:
    """setdomainname(2)."""
    setdomainname(name)


def loopback(child: "Child") -> None:
    """Bring up "lo" in a new network namespace, as every runtime does (netdevice(7))."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    request = b"lo".ljust(16, b"\0") + (_IFF_UP | _IFF_RUNNING).to_bytes(2, "little") + bytes(22)
    try:
        ioctl(sock.fileno(), _SIOCSIFFLAGS, request)
    finally:
        sock.close()


def rlimit(child: "Child", resource: int, soft: int, hard: int) -> None:
    """prlimit(2) of this process."""
    prlimit(resource, soft, hard)


def no_new_privileges(child: "Child") -> None:
    """prctl(2), PR_SET_NO_NEW_PRIVS."""
    prctl(PR_SET_NO_NEW_PRIVS, 1, call="prctl(PR_SET_NO_NEW_PRIVS)")


def set_personality(child: "Child", name: str, domain: int) -> None:
    """personality(2)."""
    personality(domain)


def bounding(child: "Child", mask: int) -> None:
    """Leave only the capabilities of `mask` in the bounding set."""
    for number in range(64):
        if mask >> number & 1:
            continue
        try:
            prctl(PR_CAPBSET_DROP, number, call="prctl(PR_CAPBSET_DROP)")
        except SyscallError as error:
            if error.errno == EINVAL:  # past the last capability of this kernel
                return
            raise


def user(child: "Child", uid: int, gid: int, groups: tuple[int, ...]) -> None:
    """Become the user; the capabilities stay until `capabilities`."""
    prctl(PR_SET_KEEPCAPS, 1, call="prctl(PR_SET_KEEPCAPS)")
    _own_stdio(uid)
    try:
        posix.setgroups(groups)
    except OSError as error:
        if error.errno != EPERM or groups:
            raise SyscallError("setgroups", error.errno) from None
    posix.setresgid(gid, gid, gid)
    posix.setresuid(uid, uid, uid)
    if posix.getresuid() != (uid, uid, uid) or posix.getresgid() != (gid, gid, gid):
        raise SyscallError("getresuid", EPERM)


def _own_stdio(uid: int) -> None:
    """Give the standard streams to the user, who may open /dev/stdout again, as runc does."""
    null = posix.makedev(1, 3)
    for fd in range(3):
        try:
            stream = posix.fstat(fd)
            if stream.st_uid != uid and stream.st_rdev != null:
                posix.fchown(fd, uid, stream.st_gid)
        except OSError as error:
            if error.errno not in (EINVAL, EPERM, EROFS, EACCES, 9):  # EBADF: closed by the caller
                raise SyscallError("fchown", error.errno) from None


def capabilities(
    child: "Child", effective: int, permitted: int, inheritable: int, ambient: int
) -> None:
    """Set exactly these sets (capabilities(7))."""
    capset(effective, permitted, inheritable)
    prctl(PR_SET_KEEPCAPS, 0, call="prctl(PR_SET_KEEPCAPS)")
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, call="prctl(PR_CAP_AMBIENT)")
    for number in range(64):
        if ambient >> number & 1:
            call = "prctl(PR_CAP_AMBIENT_RAISE)"
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, call=call)


def umask(child: "Child", mask: int) -> None:
    """umask(2)."""
    posix.umask(mask)


def cwd_early(child: "Child", path: bytes) -> None:
    """Enter the working directory with all privileges, if that is allowed."""
    try:
        posix.chdir(path)
    except OSError as error:
        if error.errno not in (EACCES, EPERM):
            raise SyscallError("chdir", error.errno) from None
        child.entered = False


def cwd(child: "Child", path: bytes) -> None:
    """Enter it as the user if still to be done, and see that it is inside (CVE-2024-21626)."""
    if not child.entered:
        posix.chdir(path)
    # The kernel's answer is "(unreachable)/..." outside the root; libc makes ENOENT of it.
    try:
        inside = posix.getcwdb().startswith(b"/")
    except OSError as error:
        raise SyscallError("getcwd", error.errno) from None
    if not inside:
        raise SyscallError("getcwd", ENOENT)


def home(child: "Child", uid: int) -> None:
    """HOME from the image's /etc/passwd, "/" if it has no line for the user, as runc does.

    The file is the image's: opened inside the root, only if it is a regular
    file, and read up to a limit.
    """
    child.env[b"HOME"] = b"/"
    try:
        fd = find(child.root, b"/etc/passwd", posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY)
    except OSError:
        return
    try:
        if posix.fstat(fd).st_mode & S_IFMT != _S_IFREG:
            return
        text = posix.read(fd, _PASSWD_LIMIT)
    finally:
        posix.close(fd)
    wanted = b"%d" % uid
    for line in text.split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 6 and fields[2] == wanted:
            child.env[b"HOME"] = fields[5] or b"/"
            return


STEPS: "dict[str, Callable[..., None]]" = {
    "become-root": become_root,
    "undumpable": undumpable,
    "session": session,
    "keyring": keyring,
    "unshare-cgroup": unshare_cgroup,
    "hostname": hostname,
    "domainname": domainname,
    "loopback": loopback,
    "rlimit": rlimit,
    "no-new-privileges": no_new_privileges,
    "bounding": bounding,
    "user": user,
    "capabilities": capabilities,
    "umask": umask,
    "cwd-early": cwd_early,
    "cwd": cwd,
    "home": home,
    "personality": set_personality,
}
