"""A plan as bytes: to send it to the process that executes it, and to keep it. On the hot path.

The form is marshal's, which both ends, the same interpreter, have without an import.
"""

import marshal

from ocirun.cgroups import CgroupPlan
from ocirun.plan.step import Hook, Plan, Step


def encode(plan: Plan) -> bytes:
    """The bytes of a plan.

    Raises ValueError if a step holds anything but plain values.
    """
    cgroup = plan.cgroup
    score = plan.oom_score_adj
    return marshal.dumps(
        (  # type: ignore[arg-type] # `args` are typed as objects
            plan.id,
            plan.bundle,
            plan.rootfs,
            plan.unshare,
            plan.own_time,
            plan.time_offsets,
            plan.uid_map,
            plan.gid_map,
            None if score is None else _facts(score),
            plan.candidates,
            plan.args,
            plan.env,
            plan.terminal,
            plan.size,
            plan.warnings,
            [_facts(step) for step in plan.joins],
            [_facts(step) for step in plan.child],
            None
            if cgroup is None
            else (list(map(_facts, cgroup.steps)), list(map(_facts, cgroup.join)), cgroup.paths),
            {
                name: [(h.pointer, h.path, h.args, h.env, h.timeout) for h in wanted]
                for name, wanted in plan.hooks.items()
                if wanted
            },
        )
    )


def decode(data: bytes) -> Plan:
    """The plan of these bytes, which `encode` made in a process that is trusted."""
    plan = Plan("", "")
    (
        plan.id,
        plan.bundle,
        plan.rootfs,
        plan.unshare,
        plan.own_time,
        plan.time_offsets,
        plan.uid_map,
        plan.gid_map,
        score,
        plan.candidates,
        plan.args,
        plan.env,
        plan.terminal,
        plan.size,
        plan.warnings,
        joins,
        child,
        cgroup,
        hooks,
    ) = marshal.loads(data)  # noqa: S302, the other end of an own socket
    plan.oom_score_adj = None if score is None else _step(score)
    plan.joins = [_step(facts) for facts in joins]
    plan.child = [_step(facts) for facts in child]
    if cgroup is not None:
        steps, join, paths = cgroup
        plan.cgroup = CgroupPlan(tuple(map(_step, steps)), tuple(map(_step, join)), paths)
    plan.hooks = {name: [Hook(*facts) for facts in wanted] for name, wanted in hooks.items()}
    return plan


def _facts(step: Step) -> tuple[str, str, tuple[object, ...]]:
    return step.op, step.pointer, step.args


def _step(facts: tuple[str, str, tuple[object, ...]]) -> Step:
    step = Step.__new__(Step)
    step.op, step.pointer, step.args = facts
    return step
