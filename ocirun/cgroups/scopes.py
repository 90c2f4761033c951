"""systemd asked for the scope of a container, and to stop it.

What to ask for was decided by `systemd`. A scope needs a process at its birth:
init exists by then, waits for the parent, and is moved into the scope by systemd.
That is the slow way into a cgroup (see `perform.Doors`), and the only one that
systemd knows. Source: org.freedesktop.systemd1(5).
"""

import posix

from ocirun.cgroups.bus import Bus, BusError
from ocirun.cgroups.files import CallFailed, read
from ocirun.cgroups.mounts import own_paths
from ocirun.cgroups.perform import refuse_used
from ocirun.errors import StepFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ocirun.cgroups.compile import CgroupPlan
    from ocirun.cgroups.properties import Property
    from ocirun.plan.step import Step

SECONDS = 30.0
_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_JOBS = f"type='signal',sender='{_NAME}',path='{_PATH}',interface='{_MANAGER}',member='JobRemoved'"

# The end of an error's D-Bus name -> what to do about it.
_UNKNOWN_PROPERTY = "this version of systemd does not know the property: remove it"
_DENIED = "this user may not manage units of this systemd: ocirun needs root, or a user's session"
_HINTS = {
    "UnitExists": "another container or service has this unit: stop that, or choose another "
    "/linux/cgroupsPath",
    "AccessDenied": _DENIED,
    "InteractiveAuthorizationRequired": _DENIED,
    "ServiceUnknown": "systemd is not on this bus: leave out --systemd-cgroup",
    "PropertyReadOnly": _UNKNOWN_PROPERTY,
    "UnknownProperty": _UNKNOWN_PROPERTY,
    "InvalidArgs": "systemd does not take this value",
    "ENXIO": "a property has the wrong type: see the annotations org.systemd.property.*",
    "": "is systemd running? A user's needs a session: XDG_RUNTIME_DIR or DBUS_SESSION_BUS_ADDRESS",
}


def start(plan: "CgroupPlan", pid: int) -> None:
    """Have systemd make the plan's scope around process `pid`. Returns when it is there.

    Raises StepFailed; then there is no scope, or it ends with the process.
    """
    step = plan.scope
    assert step is not None
    unit, _, address, properties, own = step.args
    refuse_used(plan)
    try:
        with Bus(str(address), SECONDS) as bus:
            _start(bus, str(unit), properties, pid)
    except BusError as error:
        raise _failure(step, error) from None
    _check_place(step, str(own), pid)


def _start(bus: Bus, unit: str, properties: "Any", pid: int) -> None:
    version = _version(bus)
    asked = [("PIDs", ("au", [pid]))]
    asked += [(one[0], _variant(one[1], one[2])) for one in properties if one[3] <= version]
    bus.subscribe(_JOBS)
    _call(bus, "Subscribe")
    arguments: tuple[Any, ...] = ("ssa(sv)a(sa(sv))", unit, "replace", asked, [])
    try:
        job = _call(bus, "StartTransientUnit", *arguments)[0]
    except BusError as error:
        if error.name != f"{_NAME}.UnitExists":
            raise
        # A failed unit of that name, maybe, which nobody has cleared away.
        _reset(bus, unit)
        job = _call(bus, "StartTransientUnit", *arguments)[0]
    _finish(bus, unit, job)


def set_properties(unit: str, address: str, properties: "list[Property]") -> None:
    """Set properties of a scope, all or none, until its end.

    Args:
        unit, address: of the scope and of the bus.
        properties: what a systemd that is too old for it is not told.

    Raises StepFailed.
    """
    try:
        with Bus(address, SECONDS) as bus:
            version = _version(bus)
            asked = [(one[0], _variant(one[1], one[2])) for one in properties if one[3] <= version]
            if any(name == "DeviceAllow" for name, _ in asked):
                asked.insert(0, ("DeviceAllow", ("a(ss)", [])))  # else it adds to what it has
            _call(bus, "SetUnitProperties", "sba(sv)", unit, True, asked)
    except BusError as error:
        raise StepFailed(
            f"systemd does not change {unit}: {_text(error)}",
            step=f"tell systemd the limits of {unit}",
            pointer=_asked_by(properties, error),
            syscall=f'SetUnitProperties("{unit}", true, ...)' if error.name else "",
            errno=error.errno,
            hint=_HINTS.get(error.name.rpartition(".")[2], ""),
        ) from None


def _variant(signature: str, value: "Any") -> "tuple[str, Any]":
    """A value as jeepney takes it: arrays are lists, but for those of bytes."""
    if signature[0] == "a" and not isinstance(value, bytes):
        value = [_variant(signature[1:], one)[1] for one in value]
    return signature, value


def _finish(bus: Bus, unit: str, job: str) -> None:
    """Wait for the end of a job. Raises BusError if it is not done then."""
    path = result = ""
    while path != job:
        _, path, _, result = bus.signal("JobRemoved")
    if result != "done":
        _reset(bus, unit)
        raise BusError("", f"the job ended as {result!r}, not as 'done'")


def _check_place(step: "Step", own: str, pid: int) -> None:
    """See that the scope is where the plan takes its cgroup to be."""
    try:
        found = own_paths(read(f"/proc/{pid}/cgroup"))
    except CallFailed:  # init has died, and `finish` finds out why
        return
    if own not in (found.get(""), found.get("name=systemd")):
        raise StepFailed(
            f"systemd has not put the process into {own}",
            step=_words(step),
            pointer=step.pointer,
            path=found.get("name=systemd") or found.get("", ""),
            hint="is its cgroup not where /proc/1/cgroup, or the usual place of user@.service, "
            "suggests? Leave out --systemd-cgroup",
        )


def stop(
    unit: str, address: str, paths: dict[str, str], note: "Callable[[str], None] | None" = None
) -> None:
    """Stop a scope whose processes have ended; one that is gone already is fine.

    A scope ends by itself, too, once its cgroup is empty: if systemd cannot be
    reached that is noted, and no error.

    Args:
        unit, address: of the scope and of the bus.
        paths: the container's cgroups.
        note: takes a line for whoever debugs.
    """
    directory = paths.get("name=systemd") or paths.get("")
    if not directory or not _exists(directory):
        return
    try:
        with Bus(address, SECONDS) as bus:
            bus.subscribe(_JOBS)
            _call(bus, "Subscribe")
            _finish(bus, unit, _call(bus, "StopUnit", "ss", unit, "replace")[0])
            _reset(bus, unit)
    except BusError as error:
        if error.name != f"{_NAME}.NoSuchUnit" and note is not None:
            note(f"cannot stop {unit}: {_text(error)}")


def _exists(directory: str) -> bool:
    try:
        posix.stat(directory)
        return True
    except OSError:
        return False


def _call(bus: Bus, method: str, signature: str = "", *arguments: object) -> "Any":
    return bus.call(_NAME, _PATH, _MANAGER, method, signature, *arguments)


def _version(bus: Bus) -> int:
    """The version of systemd: 252 of "252.38-1~deb12u1"; 0 if it says none."""
    answer = bus.call(_NAME, _PATH, _PROPERTIES, "Get", "ss", _MANAGER, "Version")
    digits = ""
    for one in str(answer[0][1]).removeprefix("v").removeprefix("systemd "):
        if not one.isdigit():
            break
        digits += one
    return int(digits or 0)


def _reset(bus: Bus, unit: str) -> None:
    try:
        _call(bus, "ResetFailedUnit", "s", unit)
    except BusError:  # it has not failed, or is gone
        pass


def _text(error: BusError) -> str:
    return error.words + (f" ({error.name})" if error.name else "")


def _words(step: "Step") -> str:
    from ocirun.cgroups.words import describe

    return describe(step)


def _asked_by(properties: "Iterable[Property]", error: BusError) -> str:
    """The pointer of the property that an error speaks of; "" if it speaks of none."""
    said = error.words.replace(",", " ").split()
    return next((one[4] for one in properties if one[4] and one[0] in said), "")


def _failure(step: "Step", error: BusError) -> StepFailed:
    unit, properties = str(step.args[0]), step.args[3]
    assert isinstance(properties, tuple)
    return StepFailed(
        f"systemd does not make {unit}: {_text(error)}",
        step=_words(step),
        pointer=_asked_by(properties, error) or step.pointer,
        syscall=f'StartTransientUnit("{unit}", "replace", ...)' if error.name else "",
        errno=error.errno,
        hint=_HINTS.get(error.name.rpartition(".")[2], ""),
    )
