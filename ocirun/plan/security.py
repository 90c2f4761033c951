"""Capabilities: names, numbers, and the five sets (config.md, "Linux Process")."""

NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
NUMBERS = {"CAP_" + name: number for number, name in enumerate(NAMES)}


def mask_of(names: list[str], available: int, warnings: list[str]) -> int:
    """The bit mask of a list of names.

    What the kernel does not know or the caller cannot hand on is left out with a
    warning, as the specification asks ("Runtimes SHOULD NOT fail").
    """
    mask = 0
    for name in names:
        number = NUMBERS.get(name)
        if number is None:
            warnings.append(f"unknown capability {name}")
        elif available >> number & 1:
            mask |= 1 << number
        else:
            warnings.append(f"{name} cannot be granted: the runtime does not have it")
    return mask
