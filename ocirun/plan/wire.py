"""A plan as bytes: to send it to the process that executes it, and to keep it.

The form is marshal's, which both ends, the same interpreter, have without an import.
"""

import marshal

from ocirun.cgroups import CgroupPlan
from ocirun.plan.step import Hook, Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLAIN = (
    "id", "bundle", "rootfs", "unshare", "own_time", "time_offsets", "uid_map", "gid_map",
    "helpers", "deny_setgroups",
    "candidates", "args", "env", "terminal", "size", "warnings", "resctrl", "listener",
)  # fmt: skip
"""What is written as it is; the rest consists of steps and hooks."""


def encode(plan: Plan) -> bytes:
    """The bytes of a plan.

    Raises ValueError if a step holds anything but plain values.
    """
    cgroup, score = plan.cgroup, plan.oom_score_adj
    facts: Any = (
        [getattr(plan, name) for name in _PLAIN],
        _steps(() if score is None else (score,)),
        _steps(plan.joins),
        _steps(plan.child),
        _steps(plan.parent),
        _steps(plan.last),
        _steps(plan.exec),
        cgroup
        and (
            _steps(cgroup.steps),
            _steps(cgroup.join),
            cgroup.paths,
            _steps((cgroup.scope,) if cgroup.scope else ()),
        ),
        {
            name: [(h.pointer, h.path, h.args, h.env, h.timeout) for h in wanted]
            for name, wanted in plan.hooks.items()
            if wanted
        },
    )
    return marshal.dumps(facts)


def decode(data: bytes) -> Plan:
    """The plan of these bytes, which `encode` made in a process that is trusted."""
    plain, score, joins, child, parent, last, later, cgroup, hooks = marshal.loads(data)  # noqa: S302
    plan = Plan("", "")
    for name, value in zip(_PLAIN, plain, strict=True):
        setattr(plan, name, value)
    plan.oom_score_adj = _step(score[0]) if score else None
    plan.joins = list(map(_step, joins))
    plan.child = list(map(_step, child))
    plan.parent = list(map(_step, parent))
    plan.last = list(map(_step, last))
    plan.exec = list(map(_step, later))
    if cgroup is not None:
        steps, join, paths, scope = cgroup
        plan.cgroup = CgroupPlan(
            tuple(map(_step, steps)),
            tuple(map(_step, join)),
            paths,
            _step(scope[0]) if scope else None,
        )
    plan.hooks = {name: [Hook(*facts) for facts in wanted] for name, wanted in hooks.items()}
    return plan


def _steps(steps: "tuple[Step, ...] | list[Step]") -> "list[tuple[str, str, tuple[object, ...]]]":
    return [(step.op, step.pointer, step.args) for step in steps]


def _step(facts: tuple[str, str, tuple[object, ...]]) -> Step:
    step = Step.__new__(Step)
    step.op, step.pointer, step.args = facts
    return step
