"""Modules out of one file: the launcher that `make install` writes loads ocirun this way.

Finding, opening and reading 60 files costs a third of a command's time. The
installer compiles the package into one file, this module's own code first
(tools/install.py), and the launcher executes that code and calls `use`. What is
not in the file, and everything if there is none, is imported as usual.

    code of this module | 8 bytes: length of the index | index | code of the others

The index is {name: (is a package, offset, length, path of the source)}, offsets
counting from its end; index and code are in marshal's form.
"""

import marshal
import sys
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def use(data: bytes, start: int) -> None:
    """Import ocirun's modules from an archive from now on.

    Args:
        data: the whole file.
        start: where the length of the index stands.
    """
    begin = start + 8
    base = begin + int.from_bytes(data[start:begin], "little")
    index = marshal.loads(data[begin:base])  # noqa: S302, the installer wrote it

    class Archive:
        """The finder and loader in one (PEP 451)."""

        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
            if name not in index:
                return None
            package, _, _, source = index[name]
            spec = ModuleSpec(name, Archive, origin=source)  # type: ignore[arg-type]
            spec.has_location = True
            if package:
                spec.submodule_search_locations = [source.rpartition("/")[0]]
            return spec

        @staticmethod
        def create_module(spec: ModuleSpec) -> None:
            return None

        @staticmethod
        def exec_module(module: "ModuleType") -> None:
            _, offset, length, _ = index[module.__name__]
            first = base + offset
            exec(marshal.loads(data[first : first + length]), module.__dict__)  # noqa: S102, S302

    sys.meta_path.insert(0, Archive)
