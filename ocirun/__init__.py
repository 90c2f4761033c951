"""ocirun: an OCI container runtime that explains itself.

The public names are loaded when they are first used, so that `import ocirun`
costs next to nothing.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.errors import ContainerFailed, ContainerTimeout, OcirunError
    from ocirun.library.aio import AsyncContainer, AsyncRuntime
    from ocirun.library.check import validate
    from ocirun.library.completed import CompletedContainer, Usage
    from ocirun.library.container import Container
    from ocirun.library.exec import CompletedExec
    from ocirun.library.runtime import ContainerInfo, Runtime, run
    from ocirun.library.spec import Spec
    from ocirun.library.streams import DEVNULL, PIPE, STDOUT

_HOMES = {
    "AsyncContainer": "library.aio",
    "AsyncRuntime": "library.aio",
    "CompletedContainer": "library.completed",
    "CompletedExec": "library.exec",
    "Container": "library.container",
    "ContainerFailed": "errors",
    "ContainerInfo": "library.runtime",
    "ContainerTimeout": "errors",
    "DEVNULL": "library.streams",
    "OcirunError": "errors",
    "PIPE": "library.streams",
    "Runtime": "library.runtime",
    "STDOUT": "library.streams",
    "Spec": "library.spec",
    "Usage": "library.completed",
    "run": "library.runtime",
    "validate": "library.check",
}

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "AsyncContainer",
    "AsyncRuntime",
    "CompletedContainer",
    "CompletedExec",
    "Container",
    "ContainerFailed",
    "ContainerInfo",
    "ContainerTimeout",
    "OcirunError",
    "Runtime",
    "Spec",
    "Usage",
    "__version__",
    "run",
    "validate",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ocirun' has no attribute {name!r}")
    value = getattr(__import__(f"{__name__}.{home}", None, None, (name,)), name)
    globals()[name] = value
    return value
