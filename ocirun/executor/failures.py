"""From (step, errno, call) to an exception in words. Cold: imported when something has failed."""

import errno as names
import posix

from ocirun.errors import CommandNotFound, HookFailed, OcirunError, StepFailed
from ocirun.executor.hooks import NOT_EXECUTED, describe_status
from ocirun.executor.protocol import (
    CGROUP,
    EXECUTE,
    HOOK,
    INTERNAL,
    JOINING,
    OFFSETS,
    START_HOOK,
    read_failed,
)
from ocirun.plan.describe import describe, main_call
from ocirun.plan.step import Hook, Plan, Step

_READABLE = 1200  # characters
# (operation or "*", errno) -> what helps.
_HINTS = {
    ("rootfs", "EACCES"): "the user that root of the container is mapped to must be able to enter "
    "every directory of the path (chmod o+x), or to read the image",
    ("rootfs", "ENOENT"): "root.path must be a directory, relative to the bundle or absolute",
    ("bind", "ENOENT"): "the source of the bind mount does not exist on the host",
    ("bind", "ENOTDIR"): "a file cannot be mounted on a directory, nor a directory on a file",
    ("bind", "EACCES"): "a folder on the way to the source or to the mount point cannot be entered",
    ("bind", "EINVAL"): "in a user namespace a folder of the host with mounts below it takes rbind",
    ("bind", "EROFS"): "the mount point is missing, and the file system is read-only: "
    "make it in the image",
    ("bind", "EPERM"): "nothing may be mounted inside /proc; and in a user namespace the flags of "
    "the host's mount cannot be taken back",
    ("mount", "EINVAL"): "the file system does not know one of the options",
    ("mount", "ENODEV"): "the kernel does not have this file system: is its module loaded?",
    ("mount", "EROFS"): "the mount point is missing, and the file system is read-only: "
    "make it in the image",
    ("mount", "EPERM"): "the kernel does not allow this mount in a user namespace",
    ("mount", "ELOOP"): "/proc and /sys in the image must not be symbolic links",
    ("unmount", "EINVAL"): "nothing is mounted there; or it came with a mount of the host's into a "
    "user namespace, and is locked (mount_namespaces(7))",
    ("unmount", "ENOENT"): "there is no such place in the container",
    ("unmount", "EBUSY"): "it is one of the container's own: its root, /proc, /sys, /dev, a "
    "device, a masked or a read-only path",
    ("overlay", "EINVAL"): "upper and work directory must be on one file system that overlayfs can "
    "write to, and not inside a lower one; in a user namespace nothing may be mounted below a "
    "lower one",
    ("overlay", "ENOENT"): "lower, upper and work directory must exist",
    ("device", "ENOENT"): "in a user namespace a device is the host's file of that name, and the "
    "host has none",
    ("device", "ENODEV"): "in a user namespace a device is the host's file of that name, and "
    "there it is another one",
    ("device", "EEXIST"): "the image has something else in this place: remove it, or mount a tmpfs "
    "on /dev",
    ("device", "ENOTDIR"): "/dev in the image is not a directory",
    ("console", "ENOENT"): "a terminal needs a devpts on /dev/pts: add it to mounts",
    ("console", "EPERM"): "/dev/pts must be a devpts: add it to mounts",
    ("rlimit", "EPERM"): "raising a hard limit needs CAP_SYS_RESOURCE",
    ("oom-score-adj", "EACCES"): "lowering the score needs CAP_SYS_RESOURCE",
    ("scheduler", "EPERM"): "real-time policies and a negative nice value need CAP_SYS_NICE on the "
    "host; in v1 cgroups a real-time policy also needs linux.resources.cpu.realtimeRuntime, and "
    "SCHED_DEADLINE a process that may run on all CPUs",
    ("scheduler", "EBUSY"): "the CPUs cannot promise that much time: lower the runtime",
    ("scheduler", "EINVAL"): "the kernel has limits for the period: see "
    "/proc/sys/kernel/sched_deadline_period_max_us and _min_us",
    ("scheduler", "ENOTSUP"): "this kernel has no utilization clamping (CONFIG_UCLAMP_TASK)",
    ("io-priority", "EPERM"): "IOPRIO_CLASS_RT needs CAP_SYS_NICE or CAP_SYS_ADMIN on the host",
    ("memory-policy", "EINVAL"): "the nodes must be there and allowed by the cgroup "
    "(/sys/devices/system/node/online), and the kernel must know the mode and its flags",
    ("memory-policy", "ENOSYS"): "this kernel is built without NUMA",
    ("security-label", "ENOENT"): "the kernel has no such profile: load it first",
    ("security-label", "EINVAL"): "the security module does not know this label",
    ("security-label", "EACCES"): "the policy does not allow this change",
    ("network-device-check", "ENODEV"): "the host has no network device of this name: see "
    "/sys/class/net",
    ("network-device", "EINVAL"): "some devices belong to one network namespace, such as lo",
    ("network-device", "EPERM"): "moving a network device needs CAP_NET_ADMIN on the host",
    ("network-device-check", "EPERM"): "moving a network device needs CAP_SYS_ADMIN and "
    "CAP_NET_ADMIN on the host",
    ("resctrl-existing", "ENOENT"): "a closID without schemata names a group that is there: make "
    "it, or add schemata",
    ("resctrl-group", "ENOSPC"): "the processor has no further class of service",
    ("resctrl-monitor", "ENOSPC"): "the processor has no further monitoring id",
    ("resctrl-monitor", "EEXIST"): "it is another container's, or was left behind by one",
    ("resctrl-group", "EINVAL"): "the processor does not have this resource, or not this value",
    ("id-map", "EPERM"): "the ids must belong to the caller, or the caller needs CAP_SETUID and "
    "CAP_SETGID",
    ("id-map", "EINVAL"): "do two of the mappings overlap?",
    ("mount-map", "EPERM"): "the ids must belong to the caller, or the caller needs CAP_SETUID and "
    "CAP_SETGID",
    ("mount-map", "EINVAL"): "do two of the mappings overlap?",
    ("cwd", "ENOENT"): "process.cwd must be a directory in the container",
    ("cwd-early", "ENOTDIR"): "process.cwd must be a directory in the container",
    ("cwd", "EACCES"): "the user may not enter process.cwd",
    ("clone", "EPERM"): "namespaces need CAP_SYS_ADMIN: run as root, or with a user namespace",
    ("clone", "ENOSPC"): "a limit in /proc/sys/user is reached",
    ("clone", "EINVAL"): "the kernel does not have one of these kinds of namespaces",
    ("time", "ERANGE"): "a clock may neither be negative nor reach 2^62 ns, some 146 years",
    ("setns", "EINVAL"): "the file is not a namespace of this kind",
    ("setns", "ENOENT"): "the namespace is gone, or was never there",
    ("sysctl", "ENOENT"): "this kernel has no such parameter; see /proc/sys",
    ("symlink", "EROFS"): "/dev is read-only in the image: mount a tmpfs on it",
    ("seccomp", "EACCES"): "a filter needs CAP_SYS_ADMIN or process.noNewPrivileges",
    ("seccomp", "EBUSY"): "ocirun itself runs under a filter with a listener: there can be one",
    ("seccomp", "EINVAL"): "the kernel does not know one of the flags or actions: see "
    "/proc/sys/kernel/seccomp/actions_avail and `ocirun features`",
    ("seccomp", "ENOSYS"): "the kernel has no filters of system calls (CONFIG_SECCOMP_FILTER)",
    ("drop-privilege", "EPERM"): "linux.seccomp must allow capset, or set process.noNewPrivileges",
    ("*", "EPERM"): "ocirun needs to be root, or a user namespace of its own",
    ("*", "ENOSYS"): "ocirun needs Linux 5.12 or later, and a seccomp profile around it that "
    "lets its system calls through",
    ("*", "ENOSPC"): "the disk is full",
    ("*", "EROFS"): "the file system is read-only",
}


_USER_NAMESPACE = {
    b"sysfs": "in a user namespace sysfs needs a new network namespace as well; or show the "
    'host\'s: {"destination": "/sys", "type": "none", "source": "/sys", '
    '"options": ["rbind", "ro"]}',
    b"proc": "in a user namespace procfs needs a new pid namespace as well, and that no part of "
    "the caller's own /proc is covered, as it is in most containers",
    b"mqueue": "in a user namespace mqueue needs a new ipc namespace as well",
    b"cgroup2": "in a user namespace the cgroups need a new cgroup namespace as well",
}
"""What a file system wants (user_namespaces(7)), where the kernel says EPERM."""


def _hint(step: Step, name: str) -> str:
    if step.op == "mount" and name == "EPERM" and step.args[1] in _USER_NAMESPACE:
        return _USER_NAMESPACE[step.args[1]]
    if step.op == "clone" and name in ("EPERM", "ENOSPC", "EUSERS"):
        found = _forbidden_by()
        if found:
            return found
    return _HINTS.get((step.op, name)) or _HINTS.get(("*", name), "")


def _forbidden_by() -> str:
    """The setting of this machine that keeps users from making user namespaces; "" if none."""
    for path, value, remedy in (
        ("user/max_user_namespaces", b"0", "sysctl user.max_user_namespaces=10000"),
        ("kernel/unprivileged_userns_clone", b"0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", b"1",
         "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile"),
    ):  # fmt: skip
        try:
            with open(f"/proc/sys/{path}", "rb") as file:
                found = file.read().strip()
        except OSError:
            continue
        if found == value:
            return (
                f"/proc/sys/{path} is {found.decode()}: users may not make user namespaces "
                f"here; root changes that by `{remedy}`"
            )
    return ""


def _short(words: str) -> str:
    """What a reader can take in, of a value that goes on and on."""
    return words if len(words) <= _READABLE else f"{words[: _READABLE - 200]} ... {words[-200:]}"


def step_failed(step: Step, error: int, call: str, log: str = "") -> StepFailed:
    """The exception for a step and an errno."""
    words = _short(describe(step))
    name = names.errorcode.get(error, "")
    return StepFailed(
        f"cannot {words}",
        step=words,
        pointer=step.pointer,
        syscall=_short(main_call(step, call)),
        errno=error,
        kernel=log,
        hint=_hint(step, name),
    )


def explain(plan: Plan, message: bytes) -> OcirunError:
    """The exception for what init reported."""
    number, error, call, log = read_failed(message)
    if number == INTERNAL:
        return OcirunError(f"internal error in the container's init process: {call or error}")
    if number == EXECUTE:
        filtered = any(step.op == "seccomp" for step in (*plan.child, *plan.last))
        return _not_executed(plan, error, "/process/args/0", filtered)
    if CGROUP <= number < INTERNAL:
        from ocirun.cgroups.perform import failed_to_join

        tasks = [step for step in plan.cgroup.join if step.args[1] == 1] if plan.cgroup else []
        return failed_to_join(tasks[number - CGROUP], error)
    if START_HOOK <= number < JOINING:
        return hook_failed(plan, "startContainer", number - START_HOOK, error, log)
    if HOOK <= number < START_HOOK:
        return hook_failed(plan, "createContainer", number - HOOK, error, log)
    if call == OFFSETS:
        step = Step("time", "/linux/timeOffsets")
    elif number - JOINING == len(plan.joins):
        step = Step("clone", "/linux/namespaces", plan.unshare)
    elif number >= JOINING:
        step = plan.joins[number - JOINING]
    else:
        step = [*plan.child, *plan.last][number]
        if step.op == "ahead":
            step = plan.child[step.args[0]]  # type: ignore[call-overload]
    if step.op == "executable":
        return _not_executed(plan, error, step.pointer, searched=b"/" not in plan.args[0])
    return step_failed(step, error, call, log)


def died(plan: Plan) -> StepFailed:
    """The exception for an init that ended during the set-up without a word."""
    if any(step.op == "seccomp" for step in plan.child):
        return StepFailed(
            "the init process died during set-up, when its seccomp filter was in place",
            pointer="/linux/seccomp",
            hint="with a listener or startContainer hooks init needs some calls under the filter: "
            "read, close, sendto, accept4, recvmsg, close_range, fcntl, rt_sigaction, "
            "rt_sigprocmask and execve; hooks need more",
        )
    return StepFailed(
        "the init process died during set-up",
        hint="was it killed, or is the memory limit too low for the set-up?",
        pointer="/linux/resources/memory/limit" if plan.cgroup else "",
    )


def _not_executed(
    plan: Plan, error: int, pointer: str, filtered: bool = False, searched: bool = False
) -> CommandNotFound:
    command = plan.args[0].decode("utf-8", "replace")
    reason, hint = posix.strerror(error), ""
    reason = reason[:1].lower() + reason[1:]
    name = names.errorcode.get(error, "")
    if name == "ENOENT" and searched:
        reason = "executable file not found in $PATH"
        hint = "PATH is set in process.env; is the command in the image?"
    elif name == "ENOENT":
        reason = "no such file or directory"
        hint = "is the command in the image, and the interpreter or loader that it needs?"
    elif name == "EACCES":
        reason = "permission denied"
        hint = "the file must be executable for process.user, on a mount without noexec"
    elif name == "ELOOP":
        hint = "the command, its #! interpreter or its loader is behind a link of /proc such as "
        hint += "/proc/self/exe, where the runtime itself is (CVE-2019-5736)"
    elif filtered and name in ("EPERM", "ENOSYS"):
        hint = "does linux.seccomp allow execve?"
    elif name == "ENOEXEC":
        hint = "the file is neither a program for this machine nor a script that begins with #!"
    return CommandNotFound(
        f"exec: {command!r}: {reason}",
        step=f"execute {command}",
        pointer=pointer,
        syscall="execve",
        errno=error,
        hint=hint,
    )


def hook_failed(plan: Plan, name: str, index: int, status: int, words: str) -> HookFailed:
    """The exception for a hook that failed."""
    hook: Hook = plan.hooks[name][index]
    path = hook.path.decode("utf-8", "replace")
    end = describe_status(status)
    lines = [line.strip() for line in words.split("\n") if line.strip()]
    if lines:
        end += ": " + lines[-1][:300]
    return HookFailed(
        f"{name} hook {path} {end}",
        step=f"execute {name} hook {path}",
        pointer=hook.pointer,
        errno=status - NOT_EXECUTED if status >= NOT_EXECUTED else 0,
        path=path,
        output=words,
        hint="a hook's path is looked up "
        + ("in the container" if name == "startContainer" else "on the host"),
    )
