"""The global options as the commands receive them. On the hot path; no parsing here.

Their names, defaults and help are declared once, in `ocirun.cli.main`.
"""


class Options:
    """What stood before the command.

    Attributes:
        root: folder of the containers' state; "" = the default one.
        log: what receives errors (and debug messages): a file, `file:PATH`, `journald:NAME` or
            `syslog:NAME`; "" = nothing.
        log_format: "text" or "json".
        log_level: the least severe messages that are logged, as in runc.
        debug: log debug messages, and show the traceback of a bug.
        systemd_cgroup: the same as cgroup_manager="systemd".
        cgroup_manager: "cgroupfs", "systemd" or "disabled".
        rootless: "true", "false" or "auto".
        criu: is ignored, as by runc.
    """

    __slots__ = (
        "cgroup_manager",
        "criu",
        "debug",
        "log",
        "log_format",
        "log_level",
        "root",
        "rootless",
        "systemd_cgroup",
    )

    def __init__(
        self,
        root: str = "",
        log: str = "",
        log_format: str = "text",
        log_level: str = "info",
        debug: bool = False,
        systemd_cgroup: bool = False,
        cgroup_manager: str = "cgroupfs",
        rootless: str = "auto",
        criu: str = "",
    ) -> None:
        self.root = root
        self.log = log
        self.log_format = log_format
        self.log_level = log_level
        self.debug = debug or log_level in ("debug", "trace")
        self.systemd_cgroup = systemd_cgroup
        self.cgroup_manager = cgroup_manager
        self.rootless = rootless
        self.criu = criu
