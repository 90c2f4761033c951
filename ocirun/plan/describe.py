"""Steps in words, for `ocirun explain` and for errors. Cold: never on the way to a container."""

from ocirun.linux import mount as m
from ocirun.plan.describe_rare import CALLS as RARE_CALLS
from ocirun.plan.describe_rare import WORDS as RARE_WORDS
from ocirun.plan.process import RLIMITS
from ocirun.plan.security import NAMES
from ocirun.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ATTRIBUTES = (
    (m.MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY"),
    (m.MOUNT_ATTR_NOSUID, "MOUNT_ATTR_NOSUID"),
    (m.MOUNT_ATTR_NODEV, "MOUNT_ATTR_NODEV"),
    (m.MOUNT_ATTR_NOEXEC, "MOUNT_ATTR_NOEXEC"),
    (m.MOUNT_ATTR_NOATIME, "MOUNT_ATTR_NOATIME"),
    (m.MOUNT_ATTR_STRICTATIME, "MOUNT_ATTR_STRICTATIME"),
    (m.MOUNT_ATTR_NODIRATIME, "MOUNT_ATTR_NODIRATIME"),
    (m.MOUNT_ATTR_NOSYMFOLLOW, "MOUNT_ATTR_NOSYMFOLLOW"),
)
_PROPAGATION = (
    (m.MS_PRIVATE, "private"),
    (m.MS_SLAVE, "slave"),
    (m.MS_SHARED, "shared"),
    (m.MS_UNBINDABLE, "unbindable"),
)
_CLONE_FLAGS = (
    (0x10000000, "CLONE_NEWUSER"),
    (0x20000000, "CLONE_NEWPID"),
    (0x20000, "CLONE_NEWNS"),
    (0x40000000, "CLONE_NEWNET"),
    (0x8000000, "CLONE_NEWIPC"),
    (0x4000000, "CLONE_NEWUTS"),
    (0x2000000, "CLONE_NEWCGROUP"),
)
_LONGEST = 1024  # characters of a value that are shown
_DEVICE_TYPES = {0o020000: "character", 0o060000: "block", 0o010000: "fifo"}


def text(value: "bytes | str") -> str:
    """A path or word of a plan, for people."""
    words = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    if len(words) > _LONGEST:
        words = f"{words[: _LONGEST // 2]}... ({len(words)} characters)"
    return words


def attributes(mask: int) -> str:
    """MOUNT_ATTR_* names of a mask."""
    return "|".join(name for bit, name in _ATTRIBUTES if mask & bit)


def clone_flags(mask: int) -> str:
    """CLONE_* names of a mask."""
    return "|".join(name for bit, name in _CLONE_FLAGS if mask & bit) or "0"


def _propagation(flags: int) -> str:
    word = next((name for bit, name in _PROPAGATION if flags & bit), "?")
    return ("r" if flags & m.MS_REC else "") + word


def _plain(attrs: int) -> str:
    words = [name[11:].lower() for bit, name in _ATTRIBUTES if attrs & bit]
    return "".join(
        {"rdonly": "ro"}.get(word, word) + ","
        for word in words
    ).rstrip(",")  # fmt: skip


def _options(attrs: int, extra: "tuple[Any, ...]" = ()) -> str:
    words = [_plain(attrs)] if attrs else []
    for item in extra:
        if isinstance(item, tuple):
            words.append(text(item[0]) + ("" if item[1] is None else "=" + text(item[1])))
        else:
            words.append(text(item))
    return f" ({','.join(words)})" if words else ""


def _mount(a: "tuple[Any, ...]") -> str:
    flags = "".join(", " + _propagation(flag) for flag in a[8])
    return f"mount {text(a[1])} on {text(a[0])}{_options(a[3], (*a[4], *a[5]))}{flags}"


def _bind(a: "tuple[Any, ...]") -> str:
    whole = " and all below it" if a[2] else ""
    flags = "".join(", " + _propagation(flag) for flag in a[7])
    if a[9]:
        flags += ", ids mapped " + _maps(a[9])
    return f"bind {text(a[1])}{whole} on {text(a[0])}{_options(a[3] | a[5])}{flags}"


def _maps(a: "tuple[Any, ...]") -> str:
    whole, uids, gids = a
    below = " in all of it" if whole else ""
    if not uids:
        return "as in the container's user namespace" + below
    first = [":".join(maps.split(b"\n", 1)[0].decode().split()) for maps in (uids, gids)]
    more = ", ..." if uids.count(b"\n") + gids.count(b"\n") > 2 else ""
    return f"(users {first[0]}, groups {first[1]}{more}){below}"


def _overlay(a: "tuple[Any, ...]") -> str:
    lower = ":".join(map(text, a[1]))
    upper = "a throw-away tmpfs" if a[2] == b"tmpfs" else text(a[2])
    over = f", writes go to {upper}" if a[2] else ", read-only"
    return f"mount an overlay of {lower} as the root file system{over}"


def _device(a: "tuple[Any, ...]") -> str:
    if a[6]:
        return f"show the host's device {text(a[0])}"
    kind = _DEVICE_TYPES.get(a[1] & 0o170000, "?")
    return f"make {kind} device {text(a[0])} {a[2]}:{a[3]} mode {a[1] & 0o7777:04o}"


def _capabilities(mask: int) -> str:
    names = ["CAP_" + NAMES[i] for i in range(len(NAMES)) if mask >> i & 1]
    if len(names) == len(NAMES):
        return "all"
    return ", ".join(names) or "none"


def _user(a: "tuple[Any, ...]") -> str:
    groups = f", groups {', '.join(map(str, a[2]))}" if a[2] else ""
    return f"become user {a[0]}, group {a[1]}{groups}"


def _limit(value: int) -> str:
    return "unlimited" if value >= 2**64 - 1 else str(value)


def _rlimit(a: "tuple[Any, ...]") -> str:
    name = next((name for name, number in RLIMITS.items() if number == a[0]), "?")
    return f"limit {name} to {_limit(a[1])}, at most {_limit(a[2])}"


_WORDS: "dict[str, Callable[[tuple[Any, ...]], str]]" = {
    "clone": lambda a: f"make new namespaces ({clone_flags(a[0]) if a else ''})",
    "setns": lambda a: f"join the {a[0]} namespace {text(a[1])}",
    "time": lambda a: "make a new time namespace and set its clocks",
    "id-map": lambda a: (
        f"map the {a[0]}s of the user namespace" + (f" by new{a[0]}map" if a[2:] else "")
    ),
    "mount-map": lambda a: f"map the {a[0]}s of the mount on {text(a[1])}",
    "oom-score-adj": lambda a: f"set the oom score adjustment to {a[0]}",
    "await": lambda a: "wait until the parent has made the cgroups and mappings",
    "become-root": lambda a: (
        ("become root" if a == (0, 0) else f"become user {a[0]}, group {a[1]}")
        + " in the user namespace"
    ),
    "undumpable": lambda a: "keep other processes from tracing this one",
    "session": lambda a: "begin a session",
    "keyring": lambda a: "join a new session keyring",
    "unshare-cgroup": lambda a: "make a new cgroup namespace",
    "hostname": lambda a: f"set the host name to {text(a[0])}",
    "domainname": lambda a: f"set the domain name to {text(a[0])}",
    "loopback": lambda a: "bring up the loopback interface",
    "propagation": lambda a: f"make the mount {text(a[0])} {_propagation(a[1])}",
    "rootfs": lambda a: f"take {text(a[0])} as the root file system",
    "overlay": _overlay,
    "mount": _mount,
    "mount-copy": lambda a: _mount(a) + ", with a copy of what is there",
    "bind": _bind,
    "remount": lambda a: f"change the mount on {text(a[0])}{_options(a[1], (*a[3], *a[4]))}",
    "attributes": lambda a: f"make the mount on {text(a[0])} {_plain(a[1])}",
    "propagate": lambda a: f"make the mount on {text(a[0])} {', '.join(map(_propagation, a[1]))}",
    "cgroup-view": lambda a: f"show the container's cgroups on {text(a[0])}{_options(a[1])}",
    "device": _device,
    "symlink": lambda a: f"link {text(a[1])} to {text(a[0])}",
    "make-directory": lambda a: f"make the directory {text(a[0])} if there is none",
    "console": lambda a: "make a terminal and show it as /dev/console",
    "mask": lambda a: f"mask {text(a[0])}",
    "readonly": lambda a: f"make {text(a[0])} read-only",
    "hooks": lambda a: "run the hooks of the create phase",
    "hook": lambda a: f"run the {a[0]} hook {text(a[1])}",
    "sysctl": lambda a: f"set the kernel parameter {text(a[0])} to {text(a[1])}",
    "personality": lambda a: f"set the execution domain to {a[0]}",
    "root-readonly": lambda a: "make the root file system read-only",
    "pivot": lambda a: "make it the root, and let go of the host's",
    "move-root": lambda a: "move it over the root (no pivot)",
    "chroot": lambda a: "enter the root file system",
    "rlimit": _rlimit,
    "no-new-privileges": lambda a: "give up new privileges by execve",
    "bounding": lambda a: f"bound the capabilities to: {_capabilities(a[0])}",
    "user": _user,
    "capabilities": lambda a: (
        f"set the capabilities: {_capabilities(a[0])}"
        + (f"; ambient: {_capabilities(a[3])}" if a[3] else "")
    ),
    "umask": lambda a: f"set the umask to {a[0]:04o}",
    "cwd-early": lambda a: f"enter the directory {text(a[0])}",
    "cwd": lambda a: f"make sure that {text(a[0])} is inside the container",
    "home": lambda a: f"set HOME as /etc/passwd in the container has it for user {a[0]}",
    "executable": lambda a: f"find the command {text(a[0][0]).rpartition('/')[2]}",
    "execute": lambda a: "execute " + " ".join(map(text, a)),
    "wait": lambda a: "wait for `ocirun start`",
}

# The call that a step is about, with its symbolic arguments, where the report
# has no name or only the bare one.
_CALLS: "dict[str, Callable[[tuple[Any, ...]], str]]" = {
    "clone": lambda a: f"clone3({clone_flags(a[0]) if a else ''})",
    "setns": lambda a: f"setns({text(a[1])})",
    "propagation": lambda a: f'mount("{text(a[0])}", {_flag_names(a[1])})',
    "rootfs": lambda a: f'open_tree("{text(a[0])}", OPEN_TREE_CLONE|AT_RECURSIVE)',
    "device": lambda a: f'mknodat("{text(a[0])}", {a[1]:#o}, {a[2]}:{a[3]})',
    "symlink": lambda a: f'symlinkat("{text(a[0])}", "{text(a[1])}")',
    "become-root": lambda a: f"setresuid({a[0]}, {a[0]}, {a[0]})",
    "session": lambda a: "setsid()",
    "loopback": lambda a: 'ioctl(SIOCSIFFLAGS, "lo", IFF_UP|IFF_RUNNING)',
    "console": lambda a: "openat2(/dev/pts/ptmx)",
    "pivot": lambda a: 'pivot_root(".", ".")',
    "user": lambda a: f"setresuid({a[0]}), setresgid({a[1]}), setgroups({list(a[2])})",
    "sysctl": lambda a: f'openat2("/proc/sys/{text(a[0])}")',
    "umask": lambda a: f"umask({a[0]:#o})",
    "cwd": lambda a: f'chdir("{text(a[0])}")',
    "cwd-early": lambda a: f'chdir("{text(a[0])}")',
    "rlimit": lambda a: f"prlimit({a[0]}, {a[1]}, {a[2]})",
}


def _flag_names(flags: int) -> str:
    words = [f"MS_{name.upper()}" for bit, name in _PROPAGATION if flags & bit]
    return "|".join(words + (["MS_REC"] if flags & m.MS_REC else []))


_WITH_ARGUMENTS: "dict[tuple[str, str], Callable[[tuple[Any, ...]], str]]" = {
    ("bind", "open_tree"): lambda a: (
        f'open_tree("{text(a[1])}", OPEN_TREE_CLONE' + ("|AT_RECURSIVE)" if a[2] else ")")
    ),
    ("bind", "move_mount"): lambda a: f'move_mount("{text(a[1])}" -> "{text(a[0])}")',
    ("bind", "mount_setattr"): lambda a: (
        f"mount_setattr(set {attributes(a[3] | a[5]) or '0'}, "
        f"clear {attributes(a[4] | a[6]) or '0'})"
    ),
    ("mount", "fsopen"): lambda a: f'fsopen("{text(a[1])}")',
    ("mount", "fsmount"): lambda a: f"fsmount({attributes(a[3]) or '0'})",
    ("mount", "move_mount"): lambda a: f'move_mount({text(a[1])} -> "{text(a[0])}")',
    ("mount", "openat2"): lambda a: f'openat2("{text(a[0])}", RESOLVE_IN_ROOT)',
    ("bind", "openat2"): lambda a: f'openat2("{text(a[0])}", RESOLVE_IN_ROOT)',
    ("mask", "openat2"): lambda a: f'openat2("{text(a[0])}", RESOLVE_IN_ROOT)',
    ("readonly", "openat2"): lambda a: f'openat2("{text(a[0])}", RESOLVE_IN_ROOT)',
    ("bind", "fstatfs(PROC_SUPER_MAGIC)"): lambda a: f'fstatfs("{text(a[0])}") = PROC_SUPER_MAGIC',
    ("mount", "fstatfs(PROC_SUPER_MAGIC)"): lambda a: f'fstatfs("{text(a[0])}") = PROC_SUPER_MAGIC',
}


def describe(step: Step) -> str:
    """What a step does, as the end of a sentence that begins with "cannot"."""
    words = _WORDS.get(step.op) or RARE_WORDS.get(step.op)
    if words is None:
        from ocirun.cgroups.words import describe as describe_cgroup

        return describe_cgroup(step)
    return words(step.args)


def main_call(step: Step, call: str) -> str:
    """The system call in a step's failure, with its symbolic arguments."""
    detailed = _WITH_ARGUMENTS.get((step.op, call))
    if detailed is not None:
        return detailed(step.args)
    table = _CALLS if step.op in _CALLS else RARE_CALLS
    if (not call or "(" not in call) and step.op in table:
        own = table[step.op](step.args)
        if not call or own.startswith(call):
            return own
    return call
