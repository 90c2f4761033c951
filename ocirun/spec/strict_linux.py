"""Named checks of the rarely used properties of `linux`; see `strict`.

Belongs here: what `strict.check` leaves out because a plain container does not
have it: id mappings, devices, sysctl, most of resources, seccomp, and so on.
"""

from ocirun.spec.strict import ABSOLUTE, NGROUPS_MAX, NO_ID, token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.spec.strict import Config, Problem

_MAX_MAPPINGS = 340
"""Limit of the kernel for one map (user_namespaces(7))."""

_IPC_SYSCTLS = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni")
) | {"kernel.shm_rmid_forced"}

_MAX_ERRNO = 4094
"""The largest error number that libseccomp takes; the kernel has one more."""

_DEVICE_MAX = {"major": (1 << 12) - 1, "minor": (1 << 20) - 1}


def check(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    """Append every problem of the rare properties of config["linux"] to `found`."""
    linux = config["linux"]
    _user_namespace(config, kinds, found)
    _names_twice(config, found)
    for rule in _RULES:
        rule(linux, kinds, found)


def mappings(entries: "list[Config] | tuple[()]", pointer: str, found: "list[Problem]") -> None:
    """Check an id map as the kernel does: number, sizes, no overlap (user_namespaces(7))."""
    if len(entries) > _MAX_MAPPINGS:
        message = f"{len(entries)} entries, the kernel takes {_MAX_MAPPINGS}"
        found.append((pointer, message, "join neighbouring ranges"))
        return
    for index, entry in enumerate(entries):
        if entry["size"] == 0:
            found.append((f"{pointer}/{index}/size", "an empty range", "remove the entry"))
        for side in ("containerID", "hostID"):
            if entry[side] + entry["size"] > 0xFFFFFFFF:
                message = f"{entry[side]} + {entry['size']} goes beyond the last id"
                found.append((f"{pointer}/{index}/{side}", message, "the last id is 4294967294"))
    for side in ("containerID", "hostID"):
        order = sorted(range(len(entries)), key=lambda i: entries[i][side])
        for place in range(1, len(order)):
            before, after = order[place - 1], order[place]
            if entries[before][side] + entries[before]["size"] > entries[after][side]:
                later = max(before, after)
                message = f"the range overlaps that of entry {min(before, after)}"
                found.append((f"{pointer}/{later}/{side}", message, "each id may be mapped once"))


def mount_mappings(mount: "Config", pointer: str, found: "list[Problem]") -> None:
    """Check the maps of an id-mapped mount (config.md#posix-platform-mounts)."""
    for name, other in (("uidMappings", "gidMappings"), ("gidMappings", "uidMappings")):
        if name in mount:
            mappings(mount[name], f"{pointer}/{name}", found)
        else:
            hint = "an id-mapped mount needs both"
            found.append((f"{pointer}/{name}", f"missing beside {other}", hint))


def _user_namespace(config: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    linux = config["linux"]
    user = config.get("process", {}).get("user", {})
    wanted = {
        "uidMappings": [("/process/user/uid", user.get("uid", 0))],
        "gidMappings": [("/process/user/gid", user.get("gid", 0))],
    }
    for index, gid in enumerate(user.get("additionalGids", ())[:NGROUPS_MAX]):
        wanted["gidMappings"].append((f"/process/user/additionalGids/{index}", gid))
    for name, ids in wanted.items():
        entries = linux.get(name)
        if not entries:
            if kinds.get("user") == "":
                hint = f'add "{name}": [{{"containerID": 0, "hostID": 100000, "size": 65536}}]'
                found.append((f"/linux/{name}", "missing: the user namespace needs it", hint))
            continue
        if "user" not in kinds:
            hint = 'add {"type": "user"} to linux.namespaces'
            found.append((f"/linux/{name}", "there is no user namespace to map", hint))
        mappings(entries, f"/linux/{name}", found)
        # In a namespace that is joined the mappings are those that it has already.
        if "process" not in config or kinds.get("user") != "":
            continue
        for pointer, number in ids:
            if not any(0 <= number - e["containerID"] < e["size"] for e in entries):
                hint = f"add a range with {number} to linux.{name}"
                found.append((pointer, f"{number} is not mapped in the user namespace", hint))


def _time_offsets(linux: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    offsets = linux.get("timeOffsets", {})
    if offsets and kinds.get("time") != "":
        hint = 'add {"type": "time"} to linux.namespaces'
        message = "there is no new time namespace to set them in"
        found.append(("/linux/timeOffsets", message, hint))
    for clock in ("monotonic", "boottime"):
        nanosecs = offsets.get(clock, {}).get("nanosecs", 0)
        if nanosecs > 999_999_999:
            pointer = f"/linux/timeOffsets/{clock}/nanosecs"
            found.append((pointer, f"{nanosecs} is a second or more", "put seconds into secs"))


def _devices(linux: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    for index, device in enumerate(linux.get("devices", ())):
        pointer = f"/linux/devices/{index}"
        if device["path"][:1] != "/":
            found.append((f"{pointer}/path", f'"{device["path"]}" is not absolute', ABSOLUTE))
        for name in ("uid", "gid"):
            if device.get(name) == NO_ID:
                found.append((f"{pointer}/{name}", f"{NO_ID} means no id to the kernel", ""))
        if device["type"] == "p":
            continue
        for name, highest in _DEVICE_MAX.items():
            number = device.get(name)
            if number is None:
                hint = 'only type "p" (FIFO) goes without'
                found.append((f"{pointer}/{name}", "missing: the device needs it", hint))
            elif not 0 <= number <= highest:
                message = f"{number} is not in 0 to {highest}"
                found.append((f"{pointer}/{name}", message, ""))


def _net_devices(linux: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    devices = linux.get("netDevices", {})
    if devices and "network" not in kinds:
        hint = 'add {"type": "network"} to linux.namespaces'
        found.append(("/linux/netDevices", "there is no network namespace to move them to", hint))
    names: dict[str, str] = {}
    for name, device in devices.items():
        pointer = f"/linux/netDevices/{token(name)}"
        inside = device.get("name") or name
        for text, where in {inside: f"{pointer}/name", name: pointer}.items():
            if not _interface(text):
                hint = "1 to 15 bytes without spaces, slashes and colons"
                found.append((where, f'"{text}" is no name for an interface', hint))
        if "%" in inside:  # a template: the kernel finds a free number (dev_alloc_name())
            if not inside.endswith("%d") or inside.count("%") > 1:
                hint = "%d at its end stands for a number"
                found.append((f"{pointer}/name", f'"{inside}" is no template for a name', hint))
            continue
        if inside in names:
            message = f'"{inside}" is also the name of {names[inside]}'
            found.append((f"{pointer}/name", message, ""))
        names[inside] = name


def _interface(name: str) -> bool:
    # dev_valid_name() in the kernel's net/core/dev.c
    if name in ("", ".", "..") or len(name.encode()) > 15:
        return False
    return not any(char in "/:" or char.isspace() for char in name)


def sysctl_path(name: str) -> "list[str] | None":
    """The path below /proc/sys of the parameter `name`; None when it would lead elsewhere.

    As sysctl(8) reads it: the first separator, "." or "/", is the separator, and
    the other stands for itself or, among dots, for a dot.
    """
    slash, dot = name.find("/"), name.find(".")
    if slash >= 0 and (dot < 0 or slash < dot):
        parts = name.split("/")
    else:
        parts = [part.replace("/", ".") for part in name.split(".")]
    return None if "" in parts or "." in parts or ".." in parts else parts


def _sysctl(linux: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    for name in linux.get("sysctl", {}):
        pointer = f"/linux/sysctl/{token(name)}"
        parts = sysctl_path(name)
        if parts is None:
            found.append((pointer, "not a kernel parameter's name", "like net.ipv4.ip_forward"))
            continue
        kind = sysctl_namespace(".".join(parts))
        if kind is None:
            hint = "set it on the host; containers have only net.*, IPC and UTS parameters"
            found.append((pointer, "the parameter belongs to the whole host", hint))
        elif kind not in kinds:
            hint = f'add {{"type": "{kind}"}} to linux.namespaces'
            message = f"there is no {kind} namespace: it would change the host's"
            found.append((pointer, message, hint))


def sysctl_namespace(name: str) -> "str | None":
    """The kind of namespace that has a parameter (its name with dots); None for the host's."""
    if name.startswith("net."):
        return "network"
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        return "ipc"
    return "uts" if name in ("kernel.hostname", "kernel.domainname") else None


def _resources(linux: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    resources, base = linux.get("resources", {}), "/linux/resources"
    swappiness = resources.get("memory", {}).get("swappiness", 0)
    if swappiness > 100:
        found.append((f"{base}/memory/swappiness", f"{swappiness} is not in 0 to 100", ""))
    for name in resources.get("unified", {}):
        if "/" in name or name in ("", ".", ".."):
            pointer = f"{base}/unified/{token(name)}"
            found.append((pointer, "not a file of a cgroup", "like memory.high"))
    for name, limits in resources.get("rdma", {}).items():
        if "hcaHandles" not in limits and "hcaObjects" not in limits:
            pointer = f"{base}/rdma/{token(name)}"
            found.append((pointer, "neither hcaHandles nor hcaObjects is given", ""))
    block = resources.get("blockIO", {})
    for index, entry in enumerate(block.get("weightDevice", ())):
        if "weight" not in entry and "leafWeight" not in entry:
            pointer = f"{base}/blockIO/weightDevice/{index}"
            found.append((pointer, "neither weight nor leafWeight is given", ""))
    for way in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"):
        for index, entry in enumerate(block.get(f"throttle{way}Device", ())):
            if "rate" not in entry:
                pointer = f"{base}/blockIO/throttle{way}Device/{index}/rate"
                found.append((pointer, "missing: the limit itself", ""))


def _seccomp(linux: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    seccomp, base = linux.get("seccomp", {}), "/linux/seccomp"
    if seccomp.get("defaultAction") == "SCMP_ACT_NOTIFY":
        message = "the agent would be asked about the system calls that start it"
        found.append((f"{base}/defaultAction", message, "name system calls instead"))
    _errno(seccomp, "defaultAction", "defaultErrnoRet", base, found)
    _executable(seccomp, found)
    if seccomp.get("listenerMetadata") and not seccomp.get("listenerPath"):
        message = "there is no listenerPath to send it to"
        found.append((f"{base}/listenerMetadata", message, ""))
    for index, rule in enumerate(seccomp.get("syscalls", ())):
        _errno(rule, "action", "errnoRet", f"{base}/syscalls/{index}", found)
        if rule["action"] == "SCMP_ACT_NOTIFY" and not seccomp.get("listenerPath"):
            pointer, hint = f"{base}/syscalls/{index}/action", "give listenerPath"
            found.append((pointer, "there is no agent to ask", hint))
        for place, condition in enumerate(rule.get("args", ())):
            if condition["index"] > 5:
                pointer = f"{base}/syscalls/{index}/args/{place}/index"
                message = f"{condition['index']}: a system call has arguments 0 to 5"
                found.append((pointer, message, ""))


def _executable(seccomp: "Config", found: "list[Problem]") -> None:
    """Under the filter, execve starts the container's command, so something must let it pass."""
    rules = [rule for rule in seccomp.get("syscalls", ()) if "execve" in rule["names"]]
    actions = [rule["action"] for rule in rules]
    if seccomp and all(rule.get("args") for rule in rules):
        actions.append(seccomp["defaultAction"])
    never = ("SCMP_ACT_KILL", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO")
    if actions and all(action.startswith(never) for action in actions):
        message = "execve is not allowed: the container's command cannot be started"
        found.append(("/linux/seccomp", message, "add a rule for execve with SCMP_ACT_ALLOW"))


def _errno(rule: "Config", action: str, name: str, base: str, found: "list[Problem]") -> None:
    if name not in rule:
        return
    if rule[action] not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        found.append((f"{base}/{name}", f"{rule[action]} has no error number", "remove it"))
    elif rule[name] > _MAX_ERRNO:
        message = f"{rule[name]}: error numbers of a filter go up to {_MAX_ERRNO}"
        found.append((f"{base}/{name}", message, ""))


def _intel_rdt(linux: "Config", kinds: "dict[str, str]", found: "list[Problem]") -> None:
    closid = linux.get("intelRdt", {}).get("closID", "")
    if closid in (".", "..") or ("/" in closid and closid != "/"):
        found.append(("/linux/intelRdt/closID", "not the name of a directory", ""))


def _names_twice(config: "Config", found: "list[Problem]") -> None:
    """A name has a property of its own; with both, one would be lost."""
    for name in ("hostname", "domainname"):
        for key in (f"kernel.{name}", f"kernel/{name}"):
            if config.get(name) and key in config["linux"].get("sysctl", ()):
                hint = f"leave one of the two out: /{name} is the usual one"
                pointer = f"/linux/sysctl/{token(key)}"
                found.append((pointer, f"/{name} sets it already", hint))


_RULES = (_time_offsets, _devices, _net_devices, _sysctl, _resources, _seccomp, _intel_rdt)
