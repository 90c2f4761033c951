"""The table of cases: a change of the base config -> what the probe must then report.

Belongs here: rows that the probe can judge by what it sees of itself, one or more for
every property that such a row can show. Does not belong here: what takes more than one
container or a look from outside (the other modules of tests/e2e), what must be refused
(`refusals`), configs that no row runs (`samples`).

A patch maps JSON pointers to values; "-" as the last token appends; ABSENT removes.
The base is base-config.json, whose process is the probe.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

from .probe import Has, Not

ABSENT = object()
Patch = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        name: id of the test.
        patch: what is changed in the base config.
        expect: what the report must hold (`probe.differs`).
        look: paths that the probe looks at; then `expect` may speak of "paths".
        mark: the properties that the row shows; () = all that the patch sets.
        only: the runtimes that have it; () = all.
    """

    name: str
    patch: Patch
    expect: dict[str, Any] = field(default_factory=dict)
    look: tuple[str, ...] = ()
    mark: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


def mount(kind: str, *options: str, at: str = "/mnt", source: str = "") -> Patch:
    """A patch that appends a mount."""
    entry = {"destination": at, "type": kind, "source": source or kind, "options": list(options)}
    return {"/mounts/-": entry}


def shown(at: str = "/mnt", **wanted: Any) -> dict[str, Any]:
    """What the probe must see of a mount."""
    return {"mounts": {at: wanted}}


def device(path: str, kind: str, **more: int) -> Patch:
    """A patch that appends a device."""
    return {"/linux/devices/-": {"path": path, "type": kind, **more}}


def limit(kind: str, soft: int, hard: int) -> Patch:
    """A patch that appends a limit."""
    return {"/process/rlimits/-": {"type": kind, "soft": soft, "hard": hard}}


USER_NAMESPACE: Patch = {
    "/linux/namespaces/-": {"type": "user"},
    "/linux/uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
    "/linux/gidMappings": [{"containerID": 0, "hostID": 200000, "size": 65536}],
}
NO_CHANGE: Patch = {"/process/cwd": "/"}

PROCESS = [
    Case("uid", {"/process/user/uid": 1234}, {"uids": [1234] * 4}),
    Case("gid", {"/process/user/gid": 5678}, {"gids": [5678] * 4}),
    Case("umask", {"/process/user/umask": 0o27}, {"umask": 0o27}),
    Case("umask-default", {"/process/user": {"uid": 1, "gid": 1}}, {"umask": 0o22}, mark=("/process/user",)),
    Case("additional-gids", {"/process/user/additionalGids": [10, 20]}, {"groups": [10, 20]}),
    Case("args", {"/process/args": ["/bin/probe", "a b", "", "ü"]}, {"argv": ["/bin/probe", "a b", "", "\xc3\xbc"]}),
    Case("args-by-path", {"/process/args": ["probe"]}, {"argv": ["probe"]}),
    Case("env", {"/process/env": ["PATH=/bin", "HOME=/x", "A=b=c", "EMPTY="]},
         {"env": ["PATH=/bin", "HOME=/x", "A=b=c", "EMPTY="]}),
    Case("cwd", {"/process/cwd": "/usr"}, {"cwd": "/usr"}),
    Case("cwd-made", {"/process/cwd": "/made/for/it", "/root/readonly": False}, {"cwd": "/made/for/it"},
         mark=("/process/cwd",)),
    Case("no-new-privileges", {"/process/noNewPrivileges": True}, {"no_new_privs": 1}),
    Case("new-privileges", {"/process/noNewPrivileges": False}, {"no_new_privs": 0}),
    Case("oom-score", {"/process/oomScoreAdj": 777}, {"oom_score_adj": "777\n"}),
    Case("terminal-no", {"/process/terminal": False}, {"tty": [0, 0, 0], "controlling_tty": 0}),
    Case("rlimit-nofile", {"/process/rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]},
         {"rlimits": {"RLIMIT_NOFILE": [100, 200]}}),
    Case("rlimit-core", limit("RLIMIT_CORE", 5, 10), {"rlimits": {"RLIMIT_CORE": [5, 10]}}),
    Case("rlimit-unlimited", limit("RLIMIT_CPU", 2**64 - 1, 2**64 - 1), {"rlimits": {"RLIMIT_CPU": [-1, -1]}}),
    Case("capabilities-bounding", {"/process/capabilities": {"bounding": ["CAP_KILL"]}, "/process/user/uid": 7},
         {"cap_bounding": [5], "cap_effective": []}, mark=("/process/capabilities/bounding",)),
    Case("capabilities-inheritable", {"/process/capabilities/inheritable": ["CAP_KILL"], "/process/user/uid": 7},
         {"cap_inheritable": [5]}, mark=("/process/capabilities/inheritable",)),
    Case("capabilities-ambient",
         {"/process/capabilities": {n: ["CAP_KILL"] for n in ("bounding", "permitted", "inheritable", "ambient")},
          "/process/user/uid": 7},
         {"cap_ambient": [5], "cap_permitted": [5], "cap_effective": [5]},
         mark=("/process/capabilities/ambient", "/process/capabilities/permitted")),
    Case("personality", {"/linux/personality": {"domain": "LINUX32"}}, {"personality": 8}),
    Case("session-leader", NO_CHANGE, {"sid": 1, "pid": 1, "pgid": 1}, mark=("/process",)),
    Case("nothing-blocked", NO_CHANGE, {"signals_blocked": [], "signals_ignored": []}, mark=("/process",)),
    Case("scheduler-default", NO_CHANGE, {"scheduler": lambda seen: seen[:4] == [0, 0, 0, 0]}, mark=("/process",)),
]  # fmt: skip

ROOT = [
    Case("root-readonly", {"/root/readonly": True},
         {"mounts": {"/": {"flags": Has("ro")}}, "paths": {"/home": {"write": 30}}}, look=("/home",)),
    Case("root-writable", {"/root/readonly": False},
         {"mounts": {"/": {"flags": Has("rw")}}, "paths": {"/home": {"write": 0}}}, look=("/home",)),
    Case("root-path", {"/root/path": "./rootfs"}, {"paths": {"/bin/probe": {"read": 0}}}, look=("/bin/probe",)),
    Case("hostname", {"/hostname": "some-name"}, {"hostname": "some-name"}),
    Case("hostname-of-64-bytes", {"/hostname": "n" * 64}, {"hostname": "n" * 64}),
    Case("domainname", {"/domainname": "example.org"}, {"domainname": "example.org"}),
    Case("masked-file", {"/linux/maskedPaths/-": "/proc/version"},
         {"paths": {"/proc/version": {"type": "c", "content": ""}}}, look=("/proc/version",)),
    Case("masked-folder", {"/linux/maskedPaths/-": "/etc"}, {"paths": {"/etc": {"entries": 0, "write": 30}}}, look=("/etc",)),
    Case("masked-nothing", {"/linux/maskedPaths/-": "/not/there"}, {"paths": {"/not/there": {"missing": 2}}},
         look=("/not/there",)),
    Case("readonly-path", {"/linux/readonlyPaths/-": "/var", "/root/readonly": False},
         {"paths": {"/var": {"write": 30}, "/usr": {"write": 0}}}, look=("/var", "/usr"), mark=("/linux/readonlyPaths",)),
    Case("sysctl", {"/linux/sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4242"}},
         {"paths": {"/proc/sys/net/ipv4/ip_forward": {"content": "1\n"}, "/proc/sys/kernel/msgmax": {"content": "4242\n"}}},
         look=("/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax")),
]  # fmt: skip

FLAGS = ("nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow", "ro")
MOUNTS = [
    *(Case(f"mount-{word}", mount("tmpfs", word), shown(type="tmpfs", flags=Has(word))) for word in FLAGS),
    *(Case(f"mount-{word}", mount("tmpfs", "relatime", word),
           shown(flags=Has("rw", without=(*FLAGS, "relatime") if word == "strictatime" else FLAGS)))
      for word in ("suid", "dev", "exec", "diratime", "rw", "strictatime", "defaults")),
    *(Case(f"mount-{word}", mount("tmpfs", word), shown(super=Has(word))) for word in ("sync", "dirsync")),
    Case("mount-data", mount("tmpfs", "size=64k", "mode=700", "nr_inodes=99"),
         {**shown(super=Has("size=64k", "nr_inodes=99", "mode=700")), "paths": {"/mnt": {"mode": 0o700}}}, look=("/mnt",)),
    Case("mount-source", mount("tmpfs", source="a-name"), shown(source="a-name")),
    Case("mount-without-source", {"/mounts/-": {"destination": "/mnt", "type": "tmpfs"}}, shown(type="tmpfs")),
    Case("mount-destination-made", mount("tmpfs", at="/dev/deep/er"), shown("/dev/deep/er", type="tmpfs")),
    Case("mount-copy-up", mount("tmpfs", "tmpcopyup", at="/etc"),
         {**shown("/etc", type="tmpfs"), "paths": {"/etc/passwd": {"content": Has("root:x:0:0")}}}, look=("/etc/passwd",)),
    Case("mount-bind", mount("bind", "bind", "ro", source="/etc"), shown(flags=Has("ro"))),
    Case("mount-bind-of-a-file", mount("bind", "bind", at="/etc/group", source="/proc/self/status"),
         {"paths": {"/etc/group": {"content": Has("Name:")}}}, look=("/etc/group",)),
    Case("mount-bind-relative", mount("bind", "bind", source="rootfs/etc"),
         {"paths": {"/mnt/passwd": {"content": Has("guest")}}}, look=("/mnt/passwd",)),
    Case("mount-rbind", mount("bind", "rbind", "rro", source="/sys"), shown(flags=Has("ro")), only=("ocirun", "runc")),
    Case("mount-remount", mount("tmpfs", "remount", "noexec", "nosuid", at="/dev/shm"), shown("/dev/shm", flags=Has("noexec"))),
    *(Case(f"mount-{word}", mount("tmpfs", word), shown(peers=peers))
      for word, peers in (("shared", ["shared"]), ("rshared", ["shared"]), ("private", []), ("rprivate", []),
                          ("slave", []), ("unbindable", ["unbindable"]))),
    Case("mount-proc", NO_CHANGE, shown("/proc", type="proc"), mark=("/mounts",)),
    Case("mount-cgroup", NO_CHANGE, shown("/sys/fs/cgroup", flags=Has("nodev", "noexec", "nosuid")), mark=("/mounts",)),
]  # fmt: skip

LINUX = [
    *(Case(f"propagation-{word}", {"/linux/rootfsPropagation": word}, {"mounts": {"/": {"peers": peers}}})
      for word, peers in (("private", []), ("shared", ["shared"]), ("unbindable", ["unbindable"]))),
    Case("device-c", device("/dev/c", "c", major=1, minor=3, fileMode=0o640, uid=3, gid=4),
         {"dev": {"c": {"type": "c", "major": 1, "minor": 3, "mode": 0o640, "uid": 3, "gid": 4}}}),
    Case("device-u", device("/dev/u", "u", major=1, minor=5), {"dev": {"u": {"type": "c", "minor": 5}}}),
    Case("device-b", device("/dev/b", "b", major=7, minor=0, fileMode=0o600),
         {"dev": {"b": {"type": "b", "major": 7, "minor": 0, "mode": 0o600}}}),
    # Podman writes st_mode, with the bits of the type.
    Case("device-st-mode", device("/dev/s", "c", major=1, minor=3, fileMode=0o20640),
         {"dev": {"s": {"type": "c", "mode": 0o640}}}),
    Case("device-p", device("/dev/p", "p", fileMode=0o622), {"dev": {"p": {"type": "p", "mode": 0o622}}}),
    Case("device-default-mode", device("/dev/d", "c", major=1, minor=3), {"dev": {"d": {"mode": 0o666}}}),
    Case("device-rules",
         {"/linux/resources/devices": [{"allow": False, "access": "rwm"},
                                       {"allow": True, "type": "b", "major": 7, "minor": 99, "access": "r"}],
          **device("/dev/b", "b", major=7, minor=99, fileMode=0o600)},
         {"paths": {"/dev/b": {"read": Not(1), "write": 1}}}, look=("/dev/b",),
         mark=("/linux/resources/devices/*/*",)),
    Case("default-devices", NO_CHANGE,
         {"dev": {name: {"type": "c", "mode": 0o666} for name in ("null", "zero", "full", "random", "urandom", "tty")}},
         mark=("/linux/devices",)),
    Case("user-namespace", USER_NAMESPACE, {"uids": [0] * 4, "gids": [0] * 4}),
    Case("user-namespace-other-ids", {**USER_NAMESPACE, "/process/user": {"uid": 65535, "gid": 65535}},
         {"uids": [65535] * 4, "gids": [65535] * 4}, mark=("/linux/uidMappings/*/*", "/linux/gidMappings/*/*")),
    Case("time-offsets",
         {"/linux/namespaces/-": {"type": "time"},
          "/linux/timeOffsets": {"monotonic": {"secs": 77, "nanosecs": 5}, "boottime": {"secs": 99, "nanosecs": 7}}},
         {"timens_offsets": lambda s: s.split() == ["monotonic", "77", "5", "boottime", "99", "7"]}),
    Case("cgroups-path", NO_CHANGE, {"cgroup": Has("/ocirun-test/")}, mark=("/linux/cgroupsPath",)),
    Case("cgroup-namespace", {"/linux/namespaces/-": {"type": "cgroup"}}, {"cgroup": Has(":/\n", without=("/ocirun-test/",))}),
]  # fmt: skip

CASES = [*PROCESS, *ROOT, *MOUNTS, *LINUX]


def apply(config: Any, patch: Patch) -> Any:
    """Change the config as the patch says, and return it."""
    for pointer, wanted in patch.items():
        value = wanted if wanted is ABSENT else copy.deepcopy(wanted)
        *parents, last = names = pointer.split("/")[1:]
        node = config
        for name, following in zip(parents, names[1:], strict=True):
            if isinstance(node, list):
                node = node[int(name)]
            else:
                node = node.setdefault(name, [] if following == "-" else {})
        if value is ABSENT:
            node.pop(last, None)
        elif isinstance(node, list):
            node.append(value) if last == "-" else node.__setitem__(int(last), value)
        else:
            node[last] = value
    return config
