"""Pack the modules that the hot commands load into one file (ocirun/cli/archive.py reads it).

Usage: python -I -X no_debug_ranges tools/archive.py SITE-PACKAGES TARGET

Prints what the launcher must know of the file, as JSON. Run by tools/install.py,
with the interpreter that is to read the file.
"""

import importlib
import json
import marshal
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, ModuleType

FIRST = (
    "ocirun.cli.entry",
    "ocirun.cli.hot",
    "ocirun.api",
    "ocirun.runtime.state",
    "ocirun.runtime.start",
    "ocirun.runtime.kill",
    "ocirun.runtime.delete",
    "ocirun.cgroups.tree",
)
"""Where the small commands begin: at the front of the file."""

THEN = (
    "ocirun.runtime.create",
    "ocirun.runtime.run",
    "ocirun.cgroups.devicebpf",
    "ocirun.cgroups.resources",
    "ocirun.executor.confine",
    "ocirun.executor.hooks",
    "ocirun.linux.bpf",
    "ocirun.plan.seccomp",
    "ocirun.seccomp.cache",
    "ocirun.spec.strict_linux",
)
"""Where create and run begin, and what only some containers need."""


class Watch:
    """A finder that notes in which order ocirun's modules are complete."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as usual, and note its name when it has been executed (PEP 451)."""
        spec = PathFinder.find_spec(name, path, target)
        if name.partition(".")[0] == "ocirun" and spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self.order.append(name)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def main() -> None:
    """Write the archive."""
    site, target = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.insert(0, str(site))
    watch = Watch()
    sys.meta_path.insert(0, watch)
    needs: dict[str, tuple[str, ...]] = {}
    front = 0
    for name in FIRST + THEN:
        seen = len(watch.order)
        importlib.import_module(name)
        needs[name] = tuple(other for other in watch.order[seen:] if other != name)
        if name == FIRST[-1]:
            front = len(watch.order)
    index: dict[str, tuple[bool, int, int, str, tuple[str, ...]]] = {}
    blob = bytearray()
    head = 0
    for number, name in enumerate(watch.order):
        if number == front:
            head = len(blob)
        spec = sys.modules[name].__spec__
        if spec is None or spec.origin is None:
            continue
        code = marshal.dumps(compiled(spec.origin))
        package = spec.submodule_search_locations is not None
        index[name] = (package, len(blob), len(code), spec.origin, needs.get(name, ()))
        blob += code
    loader = marshal.dumps(compiled(str(site / "ocirun" / "cli" / "archive.py")))
    words = marshal.dumps(index)
    top = loader + len(words).to_bytes(8, "little") + words
    target.write_bytes(top + blob)
    facts = {"version": sys.hexversion >> 16, "size": len(top) + head, "start": len(loader)}
    print(json.dumps(facts))


def compiled(path: str) -> CodeType:
    """Compile a module, without its docstrings."""
    return compile(Path(path).read_bytes(), path, "exec", dont_inherit=True, optimize=2)


if __name__ == "__main__":
    main()
