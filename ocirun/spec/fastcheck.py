"""The schema of config.json as plain Python: a fast yes or no. Generated.

Do not edit: `python tools/gen_fastcheck.py` writes this file from
schema/config.schema.json, and a unit test compares the two. On a no, jsonschema
with the schema itself makes the diagnosis (`ocirun.spec.validate`).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[object], bool]

_STRING_ONLY = {str}


def _any(x: object) -> bool:
    return True


def _string(x: object) -> bool:
    return type(x) is str


def _boolean(x: object) -> bool:
    return type(x) is bool


def _rlimit(x: object) -> bool:
    return type(x) is str and x[:7] == "RLIMIT_" and x[7:].isalpha() and x.isascii() and x.isupper()


def _cpu_list(x: object) -> bool:
    return type(x) is str and not x.strip("0123456789, -")


def _page_size(x: object) -> bool:
    if type(x) is not str or x[-2:] not in ("KB", "MB", "GB"):
        return False
    return x.isascii() and x[:-2].isdigit() and x[0] != "0"


def _bandwidth(x: object) -> bool:
    return type(x) is str and x[:3] == "MB:" and "\n" not in x


def _strings(x: object) -> bool:
    return type(x) is list and {*map(type, x)} <= _STRING_ONLY


def _integer(low: "int | None", high: "int | None") -> "Check":
    def check(x: object) -> bool:
        # bool is a type of its own here; 1.0 is an integer, as in JSON Schema.
        if type(x) is not int and not (type(x) is float and x.is_integer()):
            return False
        return (low is None or low <= x) and (high is None or x <= high)

    return check


def _one_of(*values: str) -> "Check":
    return lambda x: type(x) is str and x in values


def _items(item: "Check", least: int = 0) -> "Check":
    return lambda x: type(x) is list and len(x) >= least and all(map(item, x))


def _values(value: "Check") -> "Check":
    return lambda x: type(x) is dict and all(map(value, x.values()))


def _object(required: "tuple[str, ...]", properties: "dict[str, Check]") -> "Check":
    known = properties.get

    def check(x: object) -> bool:
        if type(x) is not dict:
            return False
        for name in required:
            if name not in x:
                return False
        for name, value in x.items():
            test = known(name)
            if test is not None and not test(value):
                return False
        return True

    return check


_int32 = _integer(-2147483648, 2147483647)
_int64 = _integer(-9223372036854775808, 9223372036854775807)
_uint16 = _integer(0, 65535)
_uint32 = _integer(0, 4294967295)
_uint64 = _integer(0, 18446744073709551615)
_hook = _object(
    ("path",),
    {"path": _string, "args": _strings, "env": _strings, "timeout": _integer(1, None)},
)
_idMapping = _object(
    ("containerID", "hostID", "size"),
    {"containerID": _uint32, "hostID": _uint32, "size": _uint32},
)
_mount = _object(
    ("destination",),
    {
        "destination": _string,
        "source": _string,
        "options": _strings,
        "type": _string,
        "uidMappings": _items(_idMapping),
        "gidMappings": _items(_idMapping),
    },
)
_device = _object(
    ("type", "path"),
    {
        "type": _one_of("c", "b", "u", "p"),
        "path": _string,
        "major": _int64,
        "minor": _int64,
        "fileMode": _integer(0, 65535),
        "uid": _uint32,
        "gid": _uint32,
    },
)
_deviceRule = _object(
    ("allow",),
    {"allow": _boolean, "type": _string, "major": _int64, "minor": _int64, "access": _string},
)
_blockIOWeight = _object(
    ("major", "minor"),
    {"major": _int64, "minor": _int64, "weight": _uint16, "leafWeight": _uint16},
)
_blockIOThrottle = _object(("major", "minor"), {"major": _int64, "minor": _int64, "rate": _uint64})
_namespaceType = _one_of("mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time")
_seccompAction = _one_of(
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
)
_seccompArch = _one_of(
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
)
_seccompFlag = _one_of(
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)
_seccompOperator = _one_of(
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)
check_config = _object(
    ("ociVersion",),
    {
        "ociVersion": _string,
        "root": _object(("path",), {"path": _string, "readonly": _boolean}),
        "mounts": _items(_mount),
        "process": _object(
            ("cwd",),
            {
                "terminal": _boolean,
                "consoleSize": _object(("height", "width"), {"height": _uint64, "width": _uint64}),
                "cwd": _string,
                "env": _strings,
                "args": _strings,
                "commandLine": _string,
                "user": _object(
                    (),
                    {
                        "uid": _uint32,
                        "gid": _uint32,
                        "umask": _uint32,
                        "additionalGids": _items(_uint32),
                        "username": _string,
                    },
                ),
                "capabilities": _object(
                    (),
                    {
                        "bounding": _strings,
                        "permitted": _strings,
                        "effective": _strings,
                        "inheritable": _strings,
                        "ambient": _strings,
                    },
                ),
                "rlimits": _items(
                    _object(
                        ("type", "soft", "hard"),
                        {"type": _rlimit, "soft": _uint64, "hard": _uint64},
                    ),
                ),
                "noNewPrivileges": _boolean,
                "apparmorProfile": _string,
                "selinuxLabel": _string,
                "oomScoreAdj": _integer(None, None),
                "scheduler": _object(
                    ("policy",),
                    {
                        "policy": _one_of(
                            "SCHED_OTHER",
                            "SCHED_FIFO",
                            "SCHED_RR",
                            "SCHED_BATCH",
                            "SCHED_ISO",
                            "SCHED_IDLE",
                            "SCHED_DEADLINE",
                        ),
                        "nice": _int32,
                        "priority": _int32,
                        "flags": _items(
                            _one_of(
                                "SCHED_FLAG_RESET_ON_FORK",
                                "SCHED_FLAG_RECLAIM",
                                "SCHED_FLAG_DL_OVERRUN",
                                "SCHED_FLAG_KEEP_POLICY",
                                "SCHED_FLAG_KEEP_PARAMS",
                                "SCHED_FLAG_UTIL_CLAMP_MIN",
                                "SCHED_FLAG_UTIL_CLAMP_MAX",
                            ),
                        ),
                        "runtime": _uint64,
                        "deadline": _uint64,
                        "period": _uint64,
                    },
                ),
                "ioPriority": _object(
                    ("class",),
                    {
                        "class": _one_of("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"),
                        "priority": _int32,
                    },
                ),
                "execCPUAffinity": _object((), {"initial": _cpu_list, "final": _cpu_list}),
            },
        ),
        "hostname": _string,
        "domainname": _string,
        "hooks": _object(
            (),
            {
                "prestart": _items(_hook),
                "createRuntime": _items(_hook),
                "createContainer": _items(_hook),
                "startContainer": _items(_hook),
                "poststart": _items(_hook),
                "poststop": _items(_hook),
            },
        ),
        "annotations": _values(_string),
        "linux": _object(
            (),
            {
                "namespaces": _items(_object(("type",), {"type": _namespaceType, "path": _string})),
                "uidMappings": _items(_idMapping),
                "gidMappings": _items(_idMapping),
                "timeOffsets": _object(
                    (),
                    {
                        "monotonic": _object((), {"secs": _int64, "nanosecs": _uint32}),
                        "boottime": _object((), {"secs": _int64, "nanosecs": _uint32}),
                    },
                ),
                "devices": _items(_device),
                "netDevices": _values(_object((), {"name": _string})),
                "cgroupsPath": _string,
                "resources": _object(
                    (),
                    {
                        "devices": _items(_deviceRule),
                        "memory": _object(
                            (),
                            {
                                "limit": _int64,
                                "reservation": _int64,
                                "swap": _int64,
                                "kernel": _int64,
                                "kernelTCP": _int64,
                                "swappiness": _uint64,
                                "disableOOMKiller": _boolean,
                                "useHierarchy": _boolean,
                                "checkBeforeUpdate": _boolean,
                            },
                        ),
                        "cpu": _object(
                            (),
                            {
                                "shares": _uint64,
                                "quota": _int64,
                                "burst": _uint64,
                                "period": _uint64,
                                "realtimeRuntime": _int64,
                                "realtimePeriod": _uint64,
                                "cpus": _string,
                                "mems": _string,
                                "idle": _int64,
                            },
                        ),
                        "pids": _object(("limit",), {"limit": _int64}),
                        "blockIO": _object(
                            (),
                            {
                                "weight": _uint16,
                                "leafWeight": _uint16,
                                "weightDevice": _items(_blockIOWeight),
                                "throttleReadBpsDevice": _items(_blockIOThrottle),
                                "throttleWriteBpsDevice": _items(_blockIOThrottle),
                                "throttleReadIOPSDevice": _items(_blockIOThrottle),
                                "throttleWriteIOPSDevice": _items(_blockIOThrottle),
                            },
                        ),
                        "hugepageLimits": _items(
                            _object(
                                ("pageSize", "limit"),
                                {"pageSize": _page_size, "limit": _uint64},
                            ),
                        ),
                        "network": _object(
                            (),
                            {
                                "classID": _uint32,
                                "priorities": _items(
                                    _object(
                                        ("name", "priority"),
                                        {"name": _string, "priority": _uint32},
                                    ),
                                ),
                            },
                        ),
                        "rdma": _values(
                            _object((), {"hcaHandles": _uint32, "hcaObjects": _uint32}),
                        ),
                        "unified": _values(_string),
                    },
                ),
                "rootfsPropagation": _one_of(
                    "private",
                    "shared",
                    "slave",
                    "unbindable",
                    "rprivate",
                    "rshared",
                    "rslave",
                    "runbindable",
                ),
                "seccomp": _object(
                    ("defaultAction",),
                    {
                        "defaultAction": _seccompAction,
                        "defaultErrnoRet": _uint32,
                        "architectures": _items(_seccompArch),
                        "flags": _items(_seccompFlag),
                        "listenerPath": _string,
                        "listenerMetadata": _string,
                        "syscalls": _items(
                            _object(
                                ("names", "action"),
                                {
                                    "names": _items(_string, 1),
                                    "action": _seccompAction,
                                    "errnoRet": _uint32,
                                    "args": _items(
                                        _object(
                                            ("index", "value", "op"),
                                            {
                                                "index": _uint32,
                                                "value": _uint64,
                                                "valueTwo": _uint64,
                                                "op": _seccompOperator,
                                            },
                                        ),
                                    ),
                                },
                            ),
                        ),
                    },
                ),
                "sysctl": _values(_string),
                "maskedPaths": _strings,
                "readonlyPaths": _strings,
                "mountLabel": _string,
                "intelRdt": _object(
                    (),
                    {
                        "closID": _string,
                        "schemata": _strings,
                        "l3CacheSchema": _string,
                        "memBwSchema": _bandwidth,
                        "enableMonitoring": _boolean,
                        "enableCMT": _any,
                        "enableMBM": _any,
                    },
                ),
                "memoryPolicy": _object(
                    (),
                    {
                        "mode": _one_of(
                            "MPOL_DEFAULT",
                            "MPOL_BIND",
                            "MPOL_INTERLEAVE",
                            "MPOL_WEIGHTED_INTERLEAVE",
                            "MPOL_PREFERRED",
                            "MPOL_PREFERRED_MANY",
                            "MPOL_LOCAL",
                        ),
                        "nodes": _string,
                        "flags": _items(
                            _one_of(
                                "MPOL_F_NUMA_BALANCING",
                                "MPOL_F_RELATIVE_NODES",
                                "MPOL_F_STATIC_NODES",
                            ),
                        ),
                    },
                ),
                "personality": _object(
                    (),
                    {"domain": _one_of("LINUX", "LINUX32"), "flags": _strings},
                ),
            },
        ),
        "solaris": _object((), {}),
        "windows": _object(("layerFolders",), {}),
        "vm": _object(("kernel",), {}),
        "zos": _object((), {}),
        "freebsd": _object(
            (),
            {
                "jail": _object(
                    (),
                    {"host": _one_of("new", "inherit"), "vnet": _one_of("new", "inherit")},
                ),
            },
        ),
    },
)
"""check_config(value) -> bool: whether `value` is a valid config.json by the schema."""
