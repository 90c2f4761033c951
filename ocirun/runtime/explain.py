"""explain: the plan of a bundle in words, step by step, each with what asked for it. Cold.

Nothing is done and no privilege is needed: the same compiler runs as for `create`,
and what it wrote is printed instead of performed.
"""

from os import environ

from ocirun.errors import InvalidConfig, OcirunError
from ocirun.plan.compile import compile_plan
from ocirun.plan.describe import describe
from ocirun.plan.step import Plan, Step
from ocirun.runtime.settings import Settings, absolute
from ocirun.spec.load import CONFIG, load_config
from ocirun.spec.positions import locate
from ocirun.state.store import NOTIFY

CLONE, PARENT, INIT, START, EXEC = (
    "create: the init process is cloned",
    "create: the parent, meanwhile",
    "create: the init process",
    "start",
    "exec, later",
)


class Explained:
    """One step in words.

    Attributes:
        number: counts from 1 over all phases.
        phase: when and by whom it is done.
        text: what is done.
        pointer: JSON pointer of the property that asked for it; "" = every container.
        line: its line in config.json, from 1; 0 without a pointer.
    """

    def __init__(self, number: int, phase: str, text: str, pointer: str, line: int) -> None:
        self.number = number
        self.phase = phase
        self.text = text
        self.pointer = pointer
        self.line = line


def explain(
    bundle: str, id: str = "example", systemd: bool = False, config: str = ""
) -> list[Explained]:
    """Every step that create and start would do for a bundle, in order.

    With `systemd` they are those of --systemd-cgroup; `config` takes the place of config.json.

    Raises BundleError, InvalidJSON, InvalidConfig, Unsupported, as create does.
    """
    bundle = absolute(bundle)
    config = absolute(config) if config not in ("", CONFIG) else ""
    spec = load_config(bundle, config)
    if not spec.get("process"):
        raise InvalidConfig(f"{config or CONFIG} has no process", bundle=bundle)
    try:
        settings = Settings(systemd_cgroup=systemd)
        notify = f"{settings.store.root}/{id}/{NOTIFY}" if "NOTIFY_SOCKET" in environ else ""
        plan = compile_plan(spec, settings.host(), id, bundle, notify=notify)
    except OcirunError as error:
        error.bundle, error.config = bundle, config
        raise
    with open(config or f"{bundle}/{CONFIG}", encoding="utf-8") as file:
        text = file.read()
    found: list[Explained] = []
    for phase, step in _phases(plan):
        line = locate(text, step.pointer)[0] if step.pointer else 0
        found.append(Explained(len(found) + 1, phase, describe(step), step.pointer, line))
    return found


def _phases(plan: Plan) -> list[tuple[str, Step]]:
    steps = [(CLONE, step) for step in plan.joins]
    if plan.own_time:
        steps.append(
            (
                CLONE,
                Step("time", "/linux/timeOffsets" if plan.time_offsets else "/linux/namespaces"),
            )
        )
    steps.append((CLONE, Step("clone", "/linux/namespaces", plan.unshare)))
    for name, text in (("uid", plan.uid_map), ("gid", plan.gid_map)):
        if text:
            helped = (True,) if name in plan.helpers else ()
            steps.append((PARENT, Step("id-map", f"/linux/{name}Mappings", name, text, *helped)))
    if plan.cgroup is not None:
        if plan.cgroup.scope is not None:
            steps.append((PARENT, plan.cgroup.scope))
        steps += [(PARENT, step) for step in (*plan.cgroup.steps, *plan.cgroup.join)]
    if plan.oom_score_adj is not None:
        steps.append((PARENT, plan.oom_score_adj))
    steps += [(PARENT, step) for step in plan.parent]
    for step in plan.child:
        if step.op == "hooks":
            for name in ("prestart", "createRuntime", "createContainer"):
                steps += _hooks(plan, name, INIT)
        else:
            steps.append((INIT, step))
    steps.append((INIT, Step("wait", "")))
    steps += _hooks(plan, "startContainer", START)
    steps += [(START, step) for step in plan.last]
    steps.append((START, Step("execute", "/process/args", *plan.args)))
    steps += _hooks(plan, "poststart", START)
    return steps + [(EXEC, step) for step in plan.exec]


def _hooks(plan: Plan, name: str, phase: str) -> list[tuple[str, Step]]:
    return [
        (phase, Step("hook", hook.pointer, name, hook.path)) for hook in plan.hooks.get(name, ())
    ]
