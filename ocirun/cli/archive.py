"""Modules out of one file: the launcher that `make install` writes loads ocirun this way.

Finding, opening and reading 60 files costs a third of a command's time. The
installer compiles the package into one file, this module's own code first
(tools/archive.py), and the launcher executes that code and calls `use`. What is
not in the file, and everything if there is none, is imported as usual.

    code of this module | 8 bytes: length of the index | index | code of the others

The index is {name: (is a package, offset, length, path of the source, needs)};
offsets count from its end. `needs` are the modules that importing this one has
loaded, in order: they are made here, without the import system's ceremony, which
costs more than executing them. Index and code are in marshal's form. First comes
what every command needs; the rest is read when the first of it is needed.
"""

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
else:
    ModuleType = type(sys)


def use(data: bytes, start: int, path: str) -> None:
    """Import ocirun's modules from an archive from now on.

    Args:
        data: the beginning of the file, with the index.
        start: where the length of the index stands.
        path: the file.
    """
    begin = start + 8
    base = begin + int.from_bytes(data[start:begin], "little")
    index = marshal.loads(data[begin:base])  # noqa: S302, the installer wrote it
    modules = sys.modules

    def read_all() -> None:
        nonlocal data
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        data = posix.read(fd, posix.fstat(fd).st_size)
        posix.close(fd)

    def execute(module: "ModuleType", name: str) -> None:
        _, offset, length, _, needs = index[name]
        for need in needs:
            if need not in modules:
                make(need)
        first = base + offset
        if first + length > len(data):
            read_all()
        exec(marshal.loads(data[first : first + length]), module.__dict__)  # noqa: S102, S302

    def make(name: str) -> None:
        parent, _, last = name.rpartition(".")
        if parent and parent not in modules:
            make(parent)
        module = modules[name] = ModuleType(name)
        module.__file__ = source = index[name][3]
        if index[name][0]:
            module.__path__ = [source.rpartition("/")[0]]
        execute(module, name)
        if parent:
            setattr(modules[parent], last, module)

    class Archive:
        """The finder and loader in one (PEP 451)."""

        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
            if name not in index:
                return None
            source = index[name][3]
            spec = ModuleSpec(name, Archive, origin=source)  # type: ignore[arg-type]
            spec.has_location = True
            if index[name][0]:
                spec.submodule_search_locations = [source.rpartition("/")[0]]
            return spec

        @staticmethod
        def create_module(spec: ModuleSpec) -> None:
            return None

        @staticmethod
        def exec_module(module: "ModuleType") -> None:
            execute(module, module.__name__)

    sys.meta_path.insert(0, Archive)
