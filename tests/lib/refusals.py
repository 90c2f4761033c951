"""The table of what is refused: a change of the base config -> the words and the place of the error.

Belongs here: values out of range, of a wrong type, or that contradict each other. Does not
belong here: absurd sizes (test_absurd.py). Of all runtimes a row wants that they fail and leave
nothing; of ocirun also the words, and the property that it names.
"""

from dataclasses import dataclass
from typing import Any

from .cases import ABSENT, USER_NAMESPACE, Patch, device, limit, mount


@dataclass(frozen=True)
class Refusal:
    """One row.

    Attributes:
        name: id of the test.
        patch: what is changed in the base config (see `cases`).
        at: JSON pointer that the message of ocirun names.
        words: what it says besides.
        mark: the properties of which the row shows that they are refused; () = `at`.
        only: the runtimes that refuse it; () = all, but for the known differences.
    """

    name: str
    patch: Patch
    at: str
    words: tuple[str, ...] = ()
    mark: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


def _value(name: str, at: str, value: Any, *words: str) -> Refusal:
    """A row that sets the one property that the message is about."""
    return Refusal(name, {at: value}, at, words)


OURS = ("ocirun",)

TYPES = [
    _value("uid-string", "/process/user/uid", "0", "integer"),
    _value("uid-negative", "/process/user/uid", -1, "0 to 4294967295"),
    _value("uid-none", "/process/user/uid", 2**32 - 1),
    _value("gid-too-large", "/process/user/gid", 2**32, "0 to 4294967295"),
    _value("gids-number", "/process/user/additionalGids", 7, "list"),
    _value("umask-too-large", "/process/user/umask", 0o1000, "0777"),
    _value("args-string", "/process/args", "sh", "list"),
    _value("args-none", "/process/args", []),
    Refusal("args-of-numbers", {"/process/args": ["a", 1]}, "/process/args/1", ("string",), ("/process/args",)),
    Refusal("args-nul", {"/process/args": ["a\0b"]}, "/process/args/0", ("NUL",), ("/process/args",)),
    Refusal("env-without-value", {"/process/env": ["PATH"]}, "/process/env/0", ("=",), ("/process/env",)),
    _value("cwd-relative", "/process/cwd", "tmp", "not absolute"),
    _value("terminal-string", "/process/terminal", "yes", "boolean|true or false"),
    _value("oom-score-range", "/process/oomScoreAdj", 1001, "-1000 to 1000"),
    _value("oom-score-string", "/process/oomScoreAdj", "7", "integer"),
    Refusal("rlimit-unknown", limit("RLIMIT_NONE", 1, 1), "/process/rlimits/1/type", ("RLIMIT_NONE",)),
    Refusal("rlimit-soft-above-hard", limit("RLIMIT_CORE", 2, 1), "/process/rlimits/1/soft", ("hard",)),
    Refusal("rlimit-negative", limit("RLIMIT_CORE", -1, 1), "/process/rlimits/1/soft", ("0 to",)),
    Refusal("rlimit-twice", limit("RLIMIT_NOFILE", 1, 1), "/process/rlimits/1/type", ("twice|already",)),
    _value("capabilities-array", "/process/capabilities", ["CAP_KILL"], "object"),
    _value("console-size", "/process/consoleSize", {"height": -1, "width": 1}),
    _value("root-path-number", "/root/path", 7, "string"),
    _value("root-path-empty", "/root/path", ""),
    Refusal("root-missing", {"/root": ABSENT}, "/root", mark=("/root/path",)),
    _value("hostname-too-long", "/hostname", "n" * 65, "64"),
    _value("domainname-too-long", "/domainname", "n" * 65, "64"),
    _value("version-missing", "/ociVersion", ABSENT, "missing"),
    _value("version-2", "/ociVersion", "2.0.0"),
    _value("version-nonsense", "/ociVersion", "new"),
    Refusal("hook-relative", {"/hooks/createRuntime": [{"path": "true"}]}, "/hooks/createRuntime/0/path", ("absolute",)),
    Refusal("hook-timeout-0", {"/hooks/createRuntime": [{"path": "/bin/true", "timeout": 0}]},
            "/hooks/createRuntime/0/timeout"),
    _value("annotations-numbers", "/annotations", {"a": 1}),
]  # fmt: skip
MOUNTS = [
    Refusal("mount-without-destination", {"/mounts/-": {"type": "tmpfs"}}, "/mounts/7/destination", ("missing",)),
    Refusal("mount-without-type", {"/mounts/-": {"destination": "/mnt"}}, "/mounts/7", ("type",), ("/mounts/*/type",)),
    Refusal("mount-type-unknown", mount("nofs"), "/mounts/7", ("nofs",), ("/mounts/*/type",)),
    Refusal("mount-option-unknown", mount("tmpfs", "nonsense"), "/mounts/7", ("nonsense",), ("/mounts/*/options",)),
    Refusal("mount-bind-without-source", {"/mounts/-": {"destination": "/mnt", "options": ["bind"]}}, "/mounts/7/source",
            ("source",)),
    Refusal("mount-source-missing", mount("bind", "bind", source="/not/there"), "/mounts/7", ("no such file",),
            ("/mounts/*/source",)),
    Refusal("mount-inside-proc", mount("tmpfs", at="/proc/fs"), "/mounts/7/destination", ("/proc",)),
    Refusal("mount-on-proc", mount("tmpfs", at="/proc"), "/mounts/7/type", ("procfs",)),
]  # fmt: skip
LINUX = [
    Refusal("namespace-unknown", {"/linux/namespaces/-": {"type": "moon"}}, "/linux/namespaces/5/type", ("time",)),
    Refusal("namespace-twice", {"/linux/namespaces/-": {"type": "pid"}}, "/linux/namespaces/5"),
    Refusal("namespace-path-relative", {"/linux/namespaces/1/path": "ns"}, "/linux/namespaces/1/path", ("absolute",)),
    Refusal("namespace-path-missing", {"/linux/namespaces/1/path": "/not/there"}, "/linux/namespaces/1/path",
            ("no such file",)),
    Refusal("mappings-missing", {"/linux/namespaces/-": {"type": "user"}}, "/linux", ("uidMappings",),
            ("/linux/uidMappings",)),
    Refusal("mappings-without-namespace", {"/linux/uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]},
            "/linux/uidMappings", mark=("/linux/uidMappings",)),
    Refusal("mapping-size-0", {**USER_NAMESPACE, "/linux/uidMappings/0/size": 0}, "/linux/uidMappings/0/size"),
    Refusal("user-not-mapped", {**USER_NAMESPACE, "/process/user/uid": 70000}, "/process/user/uid", ("mapped",)),
    Refusal("offsets-without-namespace", {"/linux/timeOffsets": {"monotonic": {"secs": 1}}}, "/linux/timeOffsets", ("time",)),
    Refusal("offset-of-a-second", {"/linux/namespaces/-": {"type": "time"},
                                   "/linux/timeOffsets": {"boottime": {"nanosecs": 10**9}}},
            "/linux/timeOffsets/boottime/nanosecs"),
    Refusal("device-without-path", {"/linux/devices/-": {"type": "c"}}, "/linux/devices/0/path", ("missing",)),
    Refusal("device-type", device("/dev/x", "x"), "/linux/devices/0/type"),
    Refusal("device-without-number", device("/dev/x", "c"), "/linux/devices/0/major"),
    Refusal("device-mode", device("/dev/x", "c", major=1, minor=3, fileMode=2**16), "/linux/devices/0/fileMode"),
    Refusal("propagation", {"/linux/rootfsPropagation": "sideways"}, "/linux/rootfsPropagation"),
    Refusal("sysctl-of-the-host", {"/linux/sysctl": {"kernel.panic": "1"}}, "/linux/sysctl/kernel.panic"),
    Refusal("sysctl-number", {"/linux/sysctl": {"net.ipv4.ip_forward": 1}}, "/linux/sysctl/net.ipv4.ip_forward", ("string",)),
    Refusal("masked-relative", {"/linux/maskedPaths/-": "proc"}, "/linux/maskedPaths/10", ("absolute",)),
    Refusal("personality-domain", {"/linux/personality": {"domain": "WINDOWS"}}, "/linux/personality/domain", ("LINUX32",)),
    Refusal("personality-flags", {"/linux/personality": {"domain": "LINUX", "flags": ["X"]}}, "/linux/personality/flags"),
    Refusal("mount-label", {"/linux/mountLabel": "system_u:object_r:container_file_t:s0"}, "/linux/mountLabel"),
    Refusal("cgroups-path-above", {"/linux/cgroupsPath": "/a/../b"}, "/linux/cgroupsPath", ("..",)),
    Refusal("device-rule-access", {"/linux/resources/devices": [{"allow": True, "access": "q"}]},
            "/linux/resources/devices/0/access"),
    Refusal("memory-string", {"/linux/resources/memory": {"limit": "512M"}}, "/linux/resources/memory/limit", ("integer",)),
    Refusal("swappiness", {"/linux/resources/memory": {"swappiness": 101}}, "/linux/resources/memory/swappiness", ("100",)),
    Refusal("huge-page-size", {"/linux/resources/hugepageLimits": [{"pageSize": "2", "limit": 1}]},
            "/linux/resources/hugepageLimits/0/pageSize"),
]  # fmt: skip
MANY = [
    Refusal("many-wrong-mounts", {"/mounts": [{"destination": i} for i in range(10**4)]}, "/mounts/0/destination", only=OURS),
]  # fmt: skip
REFUSALS = [*TYPES, *MOUNTS, *LINUX, *MANY]
