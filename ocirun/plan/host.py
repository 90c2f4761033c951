"""What a plan needs to know about the machine, read once.

The only module of this folder that looks at the system. A plan compiled from
the same spec and the same `Host` is always the same.
"""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cgroups import Layout
    from ocirun.cgroups.systemd import Manager

ALL_CAPABILITIES = (1 << 41) - 1


class Host:
    """Facts about the machine and the caller.

    Attributes:
        layout: cgroup hierarchies; None when they are unknown.
        euid, egid: effective ids of the caller.
        capabilities: bit mask of the capabilities that the caller can hand on.
        resctrl_root: where resctrl is mounted, "" for nowhere; None: to be found out.
        manager: the systemd that makes the cgroups; None if ocirun makes them itself.
        security_modules: names of the active security modules; None: to be found out.
        managed: containers get cgroups.
        rootless: the caller is not root, or root of a user namespace only.
    """

    def __init__(
        self,
        layout: "Layout | None" = None,
        euid: int = 0,
        capabilities: int = ALL_CAPABILITIES,
        security_modules: frozenset[str] | None = None,
        resctrl_root: str | None = None,
        *,
        egid: int = 0,
        managed: bool = True,
        rootless: bool = False,
        manager: "Manager | None" = None,
    ) -> None:
        self.layout = layout
        self.manager = manager
        self.euid = euid
        self.egid = egid
        self.managed = managed
        self.rootless = rootless
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

    def has(self, capability: int) -> bool:
        """The caller has the capability of that number, in its own user namespace."""
        return bool(self.capabilities >> capability & 1)

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

    def may_write(self, path: str, missing: bool = False) -> bool:
        """The caller may write to the file; `missing` is the answer if there is none."""
        try:
            posix.stat(path)
        except OSError:
            return missing
        return posix.access(path, posix.W_OK, effective_ids=True)

    def may_make(self, cgroup: str, own: str, version: int) -> bool:
        """The caller may make this cgroup, and move from its `own` one there.

        That takes a directory to make it in; on v2 also the right to write to cgroup.procs of
        the lowest cgroup above both (cgroup-v2.rst, "Delegation Containment").
        """
        above = _there(cgroup)
        if above == cgroup:
            made = self.may_write(cgroup + "/cgroup.procs")
        else:
            made = posix.access(above, posix.W_OK | posix.X_OK, effective_ids=True)
        if not made or version == 1:
            return made
        while not (own + "/").startswith(above + "/"):
            above = above.rpartition("/")[0]
        return self.may_write(above + "/cgroup.procs")

    def controllers(self, cgroup: str) -> tuple[str, ...]:
        """The v2 controllers that a cgroup, which need not be there yet, can have."""
        above = _there(cgroup)
        try:
            return tuple(_read(above + "/cgroup.controllers").decode().split())
        except OSError:
            return ()


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


def _there(path: str) -> str:
    """The path, or the lowest directory above it that exists."""
    while path:
        try:
            posix.stat(path)
            return path
        except OSError:
            path = path.rpartition("/")[0]
    return "/"


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
