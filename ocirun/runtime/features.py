"""features: what this version can do (features.md, features-linux.md).

Every list is taken from the table that the planner itself reads, so that the
document cannot promise what the code does not do. Cold.
"""

from ocirun import __version__
from ocirun.linux.schedule import MPOL_FLAGS, MPOL_MODES
from ocirun.plan.namespaces import KINDS
from ocirun.plan.options import all_options
from ocirun.plan.seccomp import ACTIONS, ARCHITECTURES, FLAGS, NEW_LISTENER, OPERATORS
from ocirun.plan.security import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HOOKS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
SPEC_VERSION = "1.3.0"


def features() -> "dict[str, Any]":
    """The features document (OCI runtime-spec, features.md)."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(HOOKS),
        "mountOptions": all_options(),
        "linux": {
            "namespaces": sorted(KINDS),
            "capabilities": list(NUMBERS),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": True,
                "rdma": True,
            },
            "seccomp": _seccomp(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {"modes": list(MPOL_MODES), "flags": list(MPOL_FLAGS)},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"org.ocirun.version": __version__},
        "potentiallyUnsafeConfigAnnotations": ["run.ocirun.overlay.", "org.systemd.property."],
    }


def _seccomp() -> "dict[str, Any]":
    """Enabled means that libseccomp can be loaded; what the kernel can, the flags say."""
    from ocirun.errors import OcirunError
    from ocirun.linux.seccomp import knows_flags
    from ocirun.seccomp.compiler import load_binding

    try:
        load_binding()
    except OcirunError:
        return {"enabled": False}
    # Some flags the kernel takes with a listener only.
    supported = [
        name
        for name, flag in FLAGS.items()
        if knows_flags(flag) or knows_flags(flag | NEW_LISTENER)
    ]
    return {
        "enabled": True,
        "actions": list(ACTIONS),
        "operators": list(OPERATORS),
        "archs": list(ARCHITECTURES),
        "knownFlags": list(FLAGS),
        "supportedFlags": supported,
    }
