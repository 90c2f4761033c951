"""New limits for cgroups in use: all of them, or, as far as the kernel allows, none.

What to write was decided by `update`. Before a file is written, what it holds is
noted; if a later step fails, it is written back.
"""

from ocirun.cgroups.compile import CgroupPlan
from ocirun.cgroups.files import CallFailed, read, write
from ocirun.cgroups.perform import apply
from ocirun.errors import StepFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.cgroups.properties import Property
    from ocirun.plan.step import Step


def change(plan: CgroupPlan, scope: "list[str] | None", former: "Callable[[], CgroupPlan]") -> None:
    """Do the steps of an update.

    Args:
        plan: of `compile_update`.
        scope: name of the container's scope and address of the bus, if systemd has made it.
        former: returns the plan of the limits that the container has had.

    Raises StepFailed; its hint says what has not been taken back.
    """
    told: list[Property] = []
    if scope is not None:
        told = tell(plan, scope)
    done: list[tuple[str, str]] = []
    left: list[str] = []
    try:
        for step in plan.steps:
            held = _content(step)
            apply(CgroupPlan((step,), (), plan.paths))
            if held is not None:
                done.append(held)
            elif step.op != "cgroup-check-usage":
                left.append(str(step.args[0]))
    except StepFailed as error:
        left += _take_back(done)
        if scope is not None and told:
            left += _tell_former(told, scope, former())
        words = "nothing has changed"
        if left:
            words = "changed all the same: " + ", ".join(dict.fromkeys(left))
        error.hint = f"{error.hint}; {words}" if error.hint else words
        raise


def tell(plan: CgroupPlan, scope: list[str]) -> "list[Property]":
    """Tell systemd those of the limits that it knows: it writes the files again as it pleases.

    Returns the properties. Raises StepFailed; then none of them has changed.
    """
    from ocirun.cgroups.properties import from_rules, from_settings

    found = from_settings(plan.steps) + (from_rules(plan.rules) if plan.rules else [])
    properties = list({one[0]: one for one in found}.values())
    if properties:
        from ocirun.cgroups.scopes import set_properties

        set_properties(scope[0], scope[1], properties)
    return properties


def _tell_former(told: "list[Property]", scope: list[str], former: CgroupPlan) -> list[str]:
    """Tell systemd what held before. Returns what it does not take back, in words."""
    from ocirun.cgroups.properties import from_rules, from_settings, without_limit
    from ocirun.cgroups.scopes import set_properties

    before = from_settings(former.steps) + from_rules(former.rules)
    known = {one[0]: one for one in before}
    try:
        properties = [known.get(one[0]) or without_limit(one) for one in told]
        set_properties(scope[0], scope[1], properties)
        if any(one[0] == "DeviceAllow" for one in told) and "devices" in former.paths:
            # Told of devices, it has written its own rules, which let more through.
            apply(CgroupPlan(_of_devices(former), (), former.paths))
    except StepFailed:
        return [f"properties of {scope[0]}"]
    return []


def _of_devices(plan: CgroupPlan) -> "tuple[Step, ...]":
    """The steps for device rules of v1."""
    directory = plan.paths["devices"] + "/devices."
    return tuple(
        step
        for step in plan.steps
        if step.op == "cgroup-write" and str(step.args[0]).startswith(directory)
    )


def _content(step: "Step") -> tuple[str, str] | None:
    """(file, what it holds), which the step is about to change; None if that is no single value."""
    if step.op != "cgroup-write":
        return None
    for file in map(str, step.args[::2]):
        try:
            text = read(file).decode().rstrip("\n")
        except CallFailed:  # it is not there, or cannot be read
            continue
        return None if "\n" in text else (file, text or "\n")
    return None


def _take_back(done: list[tuple[str, str]]) -> list[str]:
    """Write back what was there, the last first. Returns the files that do not take it."""
    left = []
    while done:
        file, value = done.pop()
        try:
            write(file, value)
        except CallFailed:
            left.append(file)
    return left
