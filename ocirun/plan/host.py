"""What a plan needs to know about the machine, read once.

The only module of this folder that looks at the system. A plan compiled from
the same spec and the same `Host` is always the same.
"""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cgroups import Layout

ALL_CAPABILITIES = (1 << 41) - 1


class Host:
    """Facts about the machine and the caller.

    Attributes:
        layout: cgroup hierarchies; None when cgroups are not managed.
        euid: effective user id of the caller.
        capabilities: bit mask of the capabilities that the caller can hand on.
        resctrl_root: where resctrl is mounted, "" for nowhere; None: to be found out.
        security_modules: names of the active security modules; None: to be found out.
    """

    def __init__(
        self,
        layout: "Layout | None" = None,
        euid: int = 0,
        capabilities: int = ALL_CAPABILITIES,
        security_modules: frozenset[str] | None = None,
        resctrl_root: str | None = None,
    ) -> None:
        self.layout = layout
        self.euid = euid
        self.capabilities = capabilities
        self.security_modules = security_modules
        self.resctrl_root = resctrl_root

    def has_security_module(self, name: str) -> bool:
        """Whether "apparmor" or "selinux" is active. Read once, and only when it is asked for."""
        if self.security_modules is None:
            self.security_modules = _security_modules()
        return name in self.security_modules

    def resctrl(self) -> str:
        """Where resctrl is mounted, "" for nowhere. Read once, and only when it is asked for."""
        if self.resctrl_root is None:
            self.resctrl_root = ""
            for line in _read("/proc/self/mountinfo").splitlines():
                mount, _, rest = line.partition(b" - ")
                if rest.startswith(b"resctrl "):
                    self.resctrl_root = mount.split(b" ")[4].decode("utf-8", "surrogateescape")
        return self.resctrl_root

    def mountpoint_of(self, path: str) -> str:
        """The mount point that `path` lies on (proc(5), mountinfo); "/" if none is found."""
        best = "/"
        for line in _read("/proc/self/mountinfo").splitlines():
            point = line.split(b" ")[4].decode("utf-8", "surrogateescape")
            if point.find("\\") >= 0:
                for octal, char in (("\\040", " "), ("\\011", "\t"), ("\\134", "\\")):
                    point = point.replace(octal, char)
            if len(point) >= len(best) and (path + "/").startswith(point.rstrip("/") + "/"):
                best = point
        return best


def _security_modules() -> frozenset[str]:
    """The active ones, as the kernel lists them; without securityfs by their own files."""
    found = set()
    try:
        found.update(_read("/sys/kernel/security/lsm").decode().strip().split(","))
    except OSError:
        pass
    for name, path, wanted in (
        ("apparmor", "/sys/module/apparmor/parameters/enabled", b"Y"),
        ("selinux", "/sys/fs/selinux/enforce", b""),
    ):
        try:
            if _read(path).startswith(wanted):
                found.add(name)
        except OSError:
            pass
    return frozenset(found)


def _read(path: str) -> bytes:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        data = b""
        while chunk := posix.read(fd, 1 << 16):
            data += chunk
        return data
    finally:
        posix.close(fd)


def capabilities() -> int:
    """The bounding set of the caller that is also permitted to it (proc(5), status)."""
    masks = {}
    for line in _read("/proc/self/status").splitlines():
        if line.startswith((b"CapPrm", b"CapBnd")):
            key, _, value = line.partition(b":")
            masks[key] = int(value, 16)
    return masks[b"CapPrm"] & masks[b"CapBnd"]
