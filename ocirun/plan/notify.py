"""The folder with the socket for sd_notify(3) in a container, as runc mounts it. Pure.

Loaded only if the caller has NOTIFY_SOCKET.
"""

from ocirun.linux.mount import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
)
from ocirun.plan.step import Step
from ocirun.plan.values import encode

INSIDE = b"/run/notify"
NAME = "notify.sock"
VARIABLE = b"NOTIFY_SOCKET=" + INSIDE + b"/" + NAME.encode()
_ATTRIBUTES = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC


def mount_of(folder: str) -> Step:
    """The step that shows the folder in the container."""
    source = encode(folder, "")
    return Step("bind", "", INSIDE, source, False, _ATTRIBUTES, 0, 0, 0, (), False, ())
