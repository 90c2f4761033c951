"""What makes a config.json invalid although its schema is fine: named checks.

Belongs here: rules that the specification states in words (MUST), and values
with which create could only fail, decidable from the document alone. They run
on documents that the schema has accepted. Does not belong here: types (the
schema), what is merely suspicious (`suspicious`, cold), what depends on the
host or on what ocirun can do (`ocirun.plan`). Rules of rarely used properties
of `linux` are in `strict_linux`, those of scheduling in `strict_schedule`, which are loaded when
one of them is there.

A problem is (JSON pointer, message, hint). docs/validation.md lists all rules.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Config = dict[str, Any]
    Problem = tuple[str, str, str]

NO_ID = 0xFFFFFFFF
"""(uid_t)-1: to the kernel it means "leave it as it is" (setresuid(2))."""

NGROUPS_MAX = 65536
"""setgroups(2)"""

_RLIMITS = (
    *("AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE"),
    *("NPROC", "RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK"),
)

_COMMON = frozenset(("namespaces", "resources", "maskedPaths", "readonlyPaths", "cgroupsPath"))
"""Properties of linux that need no more than this module (resources: with devices alone)."""

_SCHEDULE = frozenset(("scheduler", "ioPriority", "execCPUAffinity"))

ABSOLUTE = "write the path from /"


def check(config: "Config") -> "list[Problem]":
    """Every problem of `config`, which the schema has accepted; in no fixed order."""
    found: list[Problem] = []
    kinds = namespaces(config)
    for rule in _RULES:
        rule(config, kinds, found)
    linux = config.get("linux", {})
    limits = linux.get("resources", {}).keys() - {"devices"}
    if limits or "user" in kinds or not _COMMON.issuperset(linux):
        from ocirun.spec import strict_linux

        strict_linux.check(config, kinds, found)
    if "memoryPolicy" in linux or not _SCHEDULE.isdisjoint(config.get("process", ())):
        from ocirun.spec import strict_schedule

        strict_schedule.check(config, found)
    return found


def namespaces(config: "Config") -> "dict[str, str]":
    """The container's namespaces: type -> path, "" for a new one."""
    listed = config.get("linux", {}).get("namespaces", ())
    return {entry["type"]: entry.get("path", "") for entry in listed}


def token(name: object) -> str:
    """`name` as a token of a JSON pointer (RFC 6901)."""
    return str(name).replace("~", "~0").replace("/", "~1")


def version(text: str) -> "tuple[int, int, int] | None":
    """(major, minor, patch) of a SemVer 2.0.0 version; None when it is none."""
    core, plus, build = text.partition("+")
    core, dash, pre = core.partition("-")
    if (plus and not _identifiers(build)) or (dash and not _identifiers(pre, numbers=True)):
        return None
    parts = core.split(".")
    if len(parts) != 3 or not all(map(_number, parts)):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2])


def _identifiers(text: str, numbers: bool = False) -> bool:
    for part in text.split("."):
        if not part.isascii() or not part.replace("-", "a").isalnum():
            return False
        if numbers and part.isdigit() and not _number(part):
            return False
    return True


def _number(text: str) -> bool:
    # The length keeps int() within CPython's limit of digits.
    return text.isascii() and text.isdigit() and len(text) < 20 and (text == "0" or text[0] != "0")


def _oci_version(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    text = config["ociVersion"]
    parsed = version(text)
    if parsed is None:
        found.append(("/ociVersion", f'"{text}" is not a SemVer version', 'write "1.3.0"'))
    elif parsed[0] > 1:
        hint = "versions 1.x are supported"
        found.append(("/ociVersion", f"version {text} is not compatible with 1.x", hint))


def _root(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    if "root" not in config:
        found.append(("/root", "missing: Linux containers need it", 'add "root": {"path": ...}'))
    elif not config["root"]["path"]:
        found.append(("/root/path", "the path is empty", 'the usual name is "rootfs"'))


def _process(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    process = config.get("process")
    if process is None:  # allowed until start (runtime.md#start)
        return
    args = process.get("args")
    if not args:
        message = "missing" if args is None else "the list is empty"
        found.append(("/process/args", message, 'name a program, such as ["sh"]'))
    elif not args[0]:
        found.append(("/process/args/0", "the program's name is empty", ""))
    if process["cwd"][:1] != "/":
        found.append(("/process/cwd", f'"{process["cwd"]}" is not absolute', ABSOLUTE))
    environment(process.get("env", ()), "/process/env", found)
    adjust = process.get("oomScoreAdj", 0)
    if not -1000 <= adjust <= 1000:
        found.append(("/process/oomScoreAdj", f"{adjust} is not in -1000 to 1000", ""))
    if process.get("terminal"):
        for side, size in process.get("consoleSize", {}).items():
            if side in ("height", "width") and size > 0xFFFF:
                pointer = f"/process/consoleSize/{side}"
                found.append((pointer, f"{size} is more than a terminal can have (65535)", ""))
    _user(process.get("user", {}), found)
    _rlimits(process.get("rlimits", ()), found)


def environment(env: "list[str] | tuple[()]", pointer: str, found: "list[Problem]") -> None:
    """Check the entries of an environment: NAME=value."""
    for index, entry in enumerate(env):
        if "=" not in entry:
            found.append((f"{pointer}/{index}", f'"{entry}" has no "="', "write NAME=value"))
        elif entry[0] == "=":
            found.append((f"{pointer}/{index}", f'"{entry}" has no name', "write NAME=value"))


def _user(user: "Config", found: "list[Problem]") -> None:
    for name in ("uid", "gid"):
        if user.get(name) == NO_ID:
            found.append((f"/process/user/{name}", f"{NO_ID} means no id to the kernel", ""))
    groups = user.get("additionalGids", ())
    if len(groups) > NGROUPS_MAX:
        message = f"{len(groups)} groups, the kernel takes {NGROUPS_MAX}"
        found.append(("/process/user/additionalGids", message, ""))
    for index, gid in enumerate(groups[:NGROUPS_MAX]):
        if gid == NO_ID:
            pointer = f"/process/user/additionalGids/{index}"
            found.append((pointer, f"{NO_ID} means no id to the kernel", ""))
    if user.get("umask", 0) > 0o777:
        hint = "umask is a decimal number: 18 is 0022"
        found.append(("/process/user/umask", f"{user['umask']} is more than 511 (0777)", hint))


def _rlimits(rlimits: "list[Config] | tuple[()]", found: "list[Problem]") -> None:
    seen = set()
    for index, limit in enumerate(rlimits):
        kind, pointer = limit["type"], f"/process/rlimits/{index}"
        if kind[7:] not in _RLIMITS:
            found.append((f"{pointer}/type", f"{kind} is no resource of Linux", "see getrlimit(2)"))
        if kind in seen:
            found.append((f"{pointer}/type", f"{kind} is limited twice", "remove one entry"))
        seen.add(kind)
        if limit["soft"] > limit["hard"]:
            message = f"the soft limit {limit['soft']} is above the hard limit {limit['hard']}"
            found.append((f"{pointer}/soft", message, ""))


def _mounts(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    for index, mount in enumerate(config.get("mounts", ())):
        if not mount["destination"]:
            found.append((f"/mounts/{index}/destination", "the path is empty", ABSOLUTE))
        options, kind = mount.get("options", ()), mount.get("type", "")
        if "remount" not in options:
            if "bind" in options or "rbind" in options or kind in ("bind", "rbind"):
                if not mount.get("source"):
                    hint = "name what to bind, absolute or relative to the bundle"
                    pointer = f"/mounts/{index}/source"
                    found.append((pointer, "missing: a bind mount needs it", hint))
            elif not kind:
                hint = 'for a bind mount add "bind" or "rbind" to its options'
                found.append((f"/mounts/{index}/type", "missing: the mount needs it", hint))
        if "uidMappings" in mount or "gidMappings" in mount:
            from ocirun.spec.strict_linux import mount_mappings

            mount_mappings(mount, f"/mounts/{index}", found)
        idmap = "idmap" in options or "ridmap" in options
        if idmap and "uidMappings" not in mount and "user" not in kinds:
            message = "an id-mapped mount without mappings and without a user namespace"
            hint = "add uidMappings and gidMappings to the mount"
            found.append((f"/mounts/{index}/options", message, hint))


def _hooks(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    for point, hooks in config.get("hooks", {}).items():
        if point not in HOOKS:
            continue
        for index, hook in enumerate(hooks):
            pointer = f"/hooks/{point}/{index}"
            if hook["path"][:1] != "/":
                found.append((f"{pointer}/path", f'"{hook["path"]}" is not absolute', ABSOLUTE))
            environment(hook.get("env", ()), f"{pointer}/env", found)


HOOKS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)


def _annotations(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    if "" in config.get("annotations", ()):
        found.append(("/annotations/", "the key is empty", "keys look like com.example.key"))


def _namespaces(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    listed = config.get("linux", {}).get("namespaces", ())
    if len(listed) != len(kinds):
        seen = set()
        for index, entry in enumerate(listed):
            if entry["type"] in seen:
                pointer = f"/linux/namespaces/{index}"
                found.append((pointer, f"a second {entry['type']} namespace", "remove one entry"))
            seen.add(entry["type"])
    for index, entry in enumerate(listed):
        path = entry.get("path", "")
        if path and path[0] != "/":
            pointer = f"/linux/namespaces/{index}/path"
            found.append((pointer, f'"{path}" is not absolute', ABSOLUTE))
    for name in ("hostname", "domainname"):
        if config.get(name):
            if "uts" not in kinds:
                hint = 'add {"type": "uts"} to linux.namespaces'
                found.append((f"/{name}", "there is no UTS namespace to set it in", hint))
            if len(config[name].encode()) > 64:
                found.append((f"/{name}", "longer than 64 bytes (uname(2))", ""))


def _cgroup(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    linux = config.get("linux", {})
    if ".." in linux.get("cgroupsPath", "").split("/"):
        found.append(("/linux/cgroupsPath", '".." leads out of the hierarchy', ""))
    for index, rule in enumerate(linux.get("resources", {}).get("devices", ())):
        pointer = f"/linux/resources/devices/{index}"
        kind, access = rule.get("type", "a"), rule.get("access", "")
        if kind not in ("a", "b", "c"):
            found.append((f"{pointer}/type", f'"{kind}" is neither "a", "b" nor "c"', ""))
        if access.strip("rwm"):
            hint = "write r, w and m, in any combination"
            found.append((f"{pointer}/access", f'"{access}" has other letters than rwm', hint))


def _paths(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    for name in ("maskedPaths", "readonlyPaths"):
        paths = config.get("linux", {}).get(name, ())
        for index, path in enumerate(paths):
            if path[:1] != "/":
                pointer = f"/linux/{name}/{index}"
                found.append((pointer, f'"{path}" is not absolute', ABSOLUTE))
        if paths and "mount" not in kinds:
            hint = 'add {"type": "mount"} to linux.namespaces'
            found.append((f"/linux/{name}", "there is no mount namespace to do it in", hint))


def _nul(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    # The kernel would see a shorter string than whoever checked it. repr() is a fast
    # sieve; it also lets the text \\x00 through.
    stack: list[tuple[str, Any]] = [("", config)] if "\\x00" in repr(config) else []
    while stack:
        pointer, value = stack.pop()
        if type(value) is dict:
            for name, item in value.items():
                inner = f"{pointer}/{token(name)}"
                if "\0" in name:
                    found.append((inner, "the name holds a NUL character", ""))
                stack.append((inner, item))
        elif type(value) is list:
            stack.extend((f"{pointer}/{index}", item) for index, item in enumerate(value))
        elif type(value) is str and "\0" in value:
            found.append((pointer, "the string holds a NUL character", ""))


_RULES = (
    _oci_version,
    _root,
    _process,
    _mounts,
    _hooks,
    _annotations,
    _namespaces,
    _cgroup,
    _paths,
    _nul,
)
