"""Names that the kernel and the specification define, as data. Cold.

Belongs here: lists against which `suspicious` compares. A unit test compares them
with the tables by which the compiler works.
"""

CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID"),
        *("SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST"),
        *("NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO"),
        *("SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
        *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE"),
        *("AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM"),
        *("BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"),
    )
)
"""capabilities(7), in the order of their numbers."""

_PAIRS = {
    "rw": "ro",
    "suid": "nosuid",
    "dev": "nodev",
    "exec": "noexec",
    "diratime": "nodiratime",
    "symfollow": "nosymfollow",
    "atime": "noatime",
    "relatime": "norelatime",
    "strictatime": "nostrictatime",
}

OPPOSITES = {
    **_PAIRS,
    **{f"r{on}": f"r{off}" for on, off in _PAIRS.items()},
    "async": "sync",
    "lazytime": "nolazytime",
    "mand": "nomand",
    "iversion": "noiversion",
    "loud": "silent",
}
"""Mount options that take each other back (config.md, "Linux mount options")."""

PROPAGATION = ("private", "shared", "slave", "unbindable")

MOUNT_OPTIONS = frozenset(
    [
        *OPPOSITES,
        *OPPOSITES.values(),
        *PROPAGATION,
        *(f"r{name}" for name in PROPAGATION),
        *("bind", "rbind", "remount", "defaults", "dirsync", "tmpcopyup", "idmap", "ridmap"),
    ]
)
"""Mount options that are for the runtime; all others are for the file system."""

_TMPFS = "size nr_blocks nr_inodes mode uid gid huge mpol inode32 inode64 noswap"

FILE_SYSTEM_OPTIONS = {
    "tmpfs": frozenset(_TMPFS.split()),
    "proc": frozenset(["hidepid", "gid", "subset"]),
    "devpts": frozenset(["newinstance", "ptmxmode", "mode", "uid", "gid", "max"]),
    "sysfs": frozenset[str](),
    "mqueue": frozenset[str](),
}
"""Options of the file systems that containers have; proc(5), tmpfs(5), devpts in the
kernel's documentation. Of other file systems no list is kept."""
