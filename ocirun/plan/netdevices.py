"""linux.netDevices: interfaces to be moved into the container (config-linux.md, "Network Devices").

Loaded when it is there. Names are checked in `spec.strict_linux`.
"""

from ocirun.errors import InvalidConfig
from ocirun.plan.namespaces import Namespaces, own_namespace
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_POINTER = "/linux/netDevices"


def compile_net_devices(plan: Plan, spec: "dict[str, Any]", spaces: Namespaces) -> None:
    """Append the parent's steps. Raises InvalidConfig without a network namespace."""
    devices = spec["linux"]["netDevices"]
    if not spaces.private("network"):
        raise InvalidConfig(
            "there is no network namespace to move the devices to",
            pointer=_POINTER,
            hint='add {"type": "network"} to linux.namespaces',
        )
    own_namespace(plan, spaces, "network", "the network devices", _POINTER)
    moves = [
        (f"{_POINTER}/{token(name)}", name, device.get("name") or name)
        for name, device in devices.items()
    ]
    plan.parent += [Step("network-device-check", *facts) for facts in moves]
    plan.parent += [Step("network-device", *facts) for facts in moves]
