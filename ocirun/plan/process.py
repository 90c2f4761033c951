"""The process: identity, limits, environment, what to execute (config.md, "Process")."""

from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.host import ALL_CAPABILITIES, Host
from ocirun.plan.namespaces import Namespaces
from ocirun.plan.security import mask_of
from ocirun.plan.step import Hook, Plan, Step
from ocirun.plan.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# resource.h; the numbers are the same on all architectures that Linux containers run on
# but alpha, mips and sparc.
RLIMITS = {
    name: number
    for number, name in enumerate(
        (
            "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE",
            "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS",
            "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE",
            "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
        )
    )
}  # fmt: skip
_PERSONALITIES = {"LINUX": 0, "LINUX32": 8}  # personality(2)
_SCHEDULE = frozenset(("scheduler", "ioPriority", "execCPUAffinity"))
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_ID = 2**32 - 2  # 2**32-1 means "leave it alone" to setresuid(2)


def compile_process(plan: Plan, spec: "dict[str, Any]", host: Host, spaces: Namespaces) -> None:
    """Append the steps that turn the child into the container's process."""
    process = spec["process"]
    steps = plan.child
    if process.get("apparmorProfile") or process.get("selinuxLabel"):
        from ocirun.plan.labels import compile_labels

        compile_labels(plan, process, host)
    if not _SCHEDULE.isdisjoint(process) or "memoryPolicy" in (spec.get("linux") or ()):
        from ocirun.plan.schedule import compile_schedule

        compile_schedule(plan, spec)
    for index, limit in enumerate(process.get("rlimits") or ()):
        pointer = f"/process/rlimits/{index}"
        if limit["type"] not in RLIMITS:
            raise InvalidConfig(f"unknown limit: {limit['type']}", pointer=pointer + "/type")
        number = RLIMITS[limit["type"]]
        steps.append(Step("rlimit", pointer, number, limit["soft"], limit["hard"]))
    if process.get("oomScoreAdj") is not None:
        plan.oom_score_adj = Step("oom-score-adj", "/process/oomScoreAdj", process["oomScoreAdj"])
    if process.get("noNewPrivileges"):
        steps.append(Step("no-new-privileges", "/process/noNewPrivileges"))
    _personality(plan, spec)
    cwd = encode(process["cwd"], "/process/cwd")
    _environment(plan, process)
    _identity(plan, process, host, spaces, cwd)
    _command(plan)


def _personality(plan: Plan, spec: "dict[str, Any]") -> None:
    wanted = (spec.get("linux") or {}).get("personality")
    if not wanted:
        return
    if wanted.get("flags"):
        raise Unsupported(
            "no flag of a personality is supported", pointer="/linux/personality/flags"
        )
    domain = wanted.get("domain", "LINUX")
    if domain not in _PERSONALITIES:
        raise InvalidConfig(f"unknown domain {domain}", pointer="/linux/personality/domain")
    step = Step("personality", "/linux/personality", domain, _PERSONALITIES[domain])
    plan.child.append(step)


def _identity(
    plan: Plan, process: "dict[str, Any]", host: Host, spaces: Namespaces, cwd: bytes
) -> None:
    steps = plan.child
    sets = process.get("capabilities") or {}
    available = ALL_CAPABILITIES if spaces.private("user") else host.capabilities
    masks = {
        name: mask_of(sets.get(name) or [], available, plan.warnings)
        for name in ("bounding", "effective", "inheritable", "permitted", "ambient")
    }
    steps.append(Step("bounding", "/process/capabilities/bounding", masks["bounding"]))
    user = process.get("user") or {}
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    groups = tuple(user.get("additionalGids") or ())
    for value, pointer in (
        (uid, "/process/user/uid"),
        (gid, "/process/user/gid"),
        *((group, "/process/user/additionalGids") for group in groups),
    ):
        if not 0 <= value <= MAX_ID:
            raise InvalidConfig(f"{value} is not an id", pointer=pointer)
    # The directory first with all privileges, then again as the user: one of the
    # two may be refused, on network file systems the first, elsewhere the second.
    steps.append(Step("cwd-early", "/process/cwd", cwd))
    steps.append(Step("user", "/process/user", uid, gid, groups))
    # The ambient set cannot hold what is not permitted and inheritable (capabilities(7)).
    ambient = masks["ambient"]
    missing = ambient & ~(masks["permitted"] & masks["inheritable"])
    if missing:
        plan.warnings.append("ambient capabilities that are not permitted and inheritable")
    steps.append(
        Step(
            "capabilities", "/process/capabilities",
            masks["effective"], masks["permitted"], masks["inheritable"], ambient & ~missing,
        )
    )  # fmt: skip
    if user.get("umask") is not None:
        steps.append(Step("umask", "/process/user/umask", user["umask"]))
    else:
        steps.append(Step("umask", "", 0o022))
    steps.append(Step("cwd", "/process/cwd", cwd))


def _environment(plan: Plan, process: "dict[str, Any]") -> None:
    args = process.get("args")
    if not args:
        raise InvalidConfig("process.args is empty", pointer="/process/args")
    plan.args = [encode(arg, f"/process/args/{i}") for i, arg in enumerate(args)]
    plan.env = [
        encode(word, f"/process/env/{i}") for i, word in enumerate(process.get("env") or ())
    ]
    if not any(word.startswith(b"HOME=") and len(word) > 5 for word in plan.env):
        uid = (process.get("user") or {}).get("uid", 0)
        plan.child.append(Step("home", "/process/user/uid", uid))


def _command(plan: Plan) -> None:
    path = DEFAULT_PATH.encode()
    for word in plan.env:
        if word.startswith(b"PATH="):
            path = word[5:]
    command = plan.args[0]
    if b"/" in command:
        plan.candidates = [command]
    else:
        # An empty entry of PATH is the working directory (environ(7)).
        plan.candidates = [(folder or b".") + b"/" + command for folder in path.split(b":")]
    plan.child.append(Step("executable", "/process/args/0", tuple(plan.candidates)))


def compile_hooks(plan: Plan, spec: "dict[str, Any]") -> None:
    """Sort the hooks of config.json into the plan (config.md, "POSIX-platform Hooks")."""
    for name, entries in (spec.get("hooks") or {}).items():
        hooks = []
        for index, entry in enumerate(entries or ()):
            pointer = f"/hooks/{name}/{index}"
            path = encode(entry["path"], pointer + "/path")
            args = [
                encode(word, f"{pointer}/args/{i}")
                for i, word in enumerate(entry.get("args") or ())
            ]
            env: dict[bytes, bytes] = {}
            for i, word in enumerate(entry.get("env") or ()):
                key, _, value = encode(word, f"{pointer}/env/{i}").partition(b"=")
                env[key] = value
            hooks.append(Hook(pointer, path, args or [path], env, entry.get("timeout") or 0))
        if hooks:
            plan.hooks[name] = hooks
