"""Labels of security modules: process.apparmorProfile, process.selinuxLabel, linux.mountLabel.

Loaded when one of them is there. A label that the kernel would know nothing of is refused, also
"unconfined", as runc does: who asks for a profile must not go without it.
"""

from ocirun.errors import Unsupported
from ocirun.plan.host import Host
from ocirun.plan.step import Plan, Step
from ocirun.plan.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def compile_labels(plan: Plan, process: "dict[str, Any]", host: Host) -> None:
    """Append the steps that choose the labels of the next execve. Raises Unsupported."""
    for name, module, title, prefix in (
        ("apparmorProfile", "apparmor", "AppArmor", b"exec "),
        ("selinuxLabel", "selinux", "SELinux", b""),
    ):
        label, pointer = process.get(name), f"/process/{name}"
        if not label:
            continue
        if not host.has_security_module(module):
            raise Unsupported(
                f"process.{name} is set, and {title} is not enabled on this machine",
                pointer=pointer,
                hint="remove the property, or boot a kernel with the module: the active ones are "
                "in /sys/kernel/security/lsm",
            )
        words = prefix + encode(label, pointer)
        plan.child.append(Step("security-label", pointer, module, words))


def check_mount_label(label: str, host: Host) -> bytes:
    """linux.mountLabel (config-linux.md, "Mount Label"). Raises Unsupported."""
    if not host.has_security_module("selinux"):
        raise Unsupported(
            "linux.mountLabel is set, and SELinux is not enabled on this machine",
            pointer="/linux/mountLabel",
            hint="remove the property, or boot a kernel with the module: the active ones are "
            "in /sys/kernel/security/lsm",
        )
    return encode(label, "/linux/mountLabel")
