"""`python -m lab NAME [COMMAND...]`: runs a command in a lab, or pytest on paths, or a shell.

What `make lab` and `make lab-shell` call; see docs/labs.md.
"""

import signal
import sys
from collections.abc import Callable

from .boot import Lab, Missing
from .page import Page
from .qemu import Qemu
from .uml import Uml

LABS: dict[str, Callable[[], Lab]] = {
    "uml": Uml,
    "qemu": Qemu,
    "qemu:hybrid": lambda: Qemu("hybrid"),
    "qemu:v1": lambda: Qemu("v1"),
    "page": Page,
}


def main(name: str = "", *command: str) -> int:
    if name not in LABS:
        print(f"lab: choose one of: {', '.join(LABS)}", file=sys.stderr)
        return 2
    lab = LABS[name]()
    if command and command[0].startswith("tests/"):
        command = (lab.python(), "-m", "pytest", "-p", "no:cacheprovider", *command)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # folders are removed
    try:
        return lab.shell(list(command) or ["sh", "-i"])
    except Missing as missing:
        print(f"lab: {missing}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
