"""ocirun: an OCI container runtime that explains itself.

The public names are loaded when they are first used, so that `import ocirun`
costs next to nothing.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.api import Container, ContainerInfo, Runtime
    from ocirun.errors import OcirunError

__all__ = ["Container", "ContainerInfo", "OcirunError", "Runtime", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("Container", "ContainerInfo", "Runtime"):
        from ocirun import api

        return getattr(api, name)
    if name == "OcirunError":
        from ocirun.errors import OcirunError

        return OcirunError
    raise AttributeError(f"module 'ocirun' has no attribute {name!r}")
