"""A plan as bytes, for a process that executes it elsewhere. On the hot path.

Only what the clone and init read travels: the share of the parent (mappings,
cgroups, words for failures) stays where the plan was compiled. The form is
marshal's, which both ends, the same interpreter, have without an import.
"""

import marshal

from ocirun.plan.step import Hook, Plan, Step


def encode(plan: Plan) -> bytes:
    """The bytes of a plan. Its steps hold plain values only (`plan.step`)."""
    hooks = {
        name: [(h.pointer, h.path, h.args, h.env, h.timeout) for h in wanted]
        for name, wanted in plan.hooks.items()
        if wanted
    }
    return marshal.dumps(
        (
            plan.unshare,
            plan.own_time,
            plan.time_offsets,
            [(step.op, step.args) for step in plan.joins],
            [(step.op, step.args) for step in plan.child],
            plan.candidates,
            plan.args,
            plan.env,
            hooks,
        )
    )


def decode(data: bytes) -> Plan:
    """The plan of these bytes, which `encode` made in a process that is trusted."""
    plan = Plan("", "")
    (
        plan.unshare,
        plan.own_time,
        plan.time_offsets,
        joins,
        child,
        plan.candidates,
        plan.args,
        plan.env,
        hooks,
    ) = marshal.loads(data)  # noqa: S302, the other end of an own socket
    plan.joins = [Step(op, "", *args) for op, args in joins]
    plan.child = [Step(op, "", *args) for op, args in child]
    plan.hooks = {name: [Hook(*facts) for facts in wanted] for name, wanted in hooks.items()}
    return plan
