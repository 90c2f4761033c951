"""Pack the modules that the hot commands load into one file (ocirun/cli/archive.py reads it).

Usage: python -I -X no_debug_ranges tools/archive.py SITE-PACKAGES TARGET

Prints what the launcher must know of the file, as JSON. Run by tools/install.py,
with the interpreter that is to read the file.
"""

import importlib
import json
import marshal
import sys
from pathlib import Path

HOT = (
    "ocirun.cli.entry",
    "ocirun.cli.hot",
    "ocirun.runtime.create",
    "ocirun.runtime.delete",
    "ocirun.runtime.kill",
    "ocirun.runtime.run",
    "ocirun.runtime.start",
    "ocirun.runtime.state",
    "ocirun.cgroups.devicebpf",
    "ocirun.cgroups.resources",
    "ocirun.cgroups.tree",
    "ocirun.executor.hooks",
    "ocirun.linux.bpf",
    "ocirun.spec.strict_linux",
)
"""Where the hot commands begin, and what they load for some containers only."""


def main() -> None:
    """Write the archive."""
    site, target = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.insert(0, str(site))
    for name in HOT:
        importlib.import_module(name)
    modules = {
        name: module.__spec__
        for name, module in sorted(sys.modules.items())
        if name.partition(".")[0] == "ocirun" and module.__spec__
    }
    index: dict[str, tuple[bool, int, int, str]] = {}
    blob = bytearray()
    for name, spec in modules.items():
        code = marshal.dumps(compiled(spec.origin))
        package = spec.submodule_search_locations is not None
        index[name] = (package, len(blob), len(code), spec.origin)
        blob += code
    loader = marshal.dumps(compiled(str(site / "ocirun" / "cli" / "archive.py")))
    words = marshal.dumps(index)
    data = loader + len(words).to_bytes(8, "little") + words + blob
    target.write_bytes(data)
    print(json.dumps({"version": sys.hexversion >> 16, "size": len(data), "start": len(loader)}))


def compiled(path: str) -> object:
    """Compile a module, without its docstrings."""
    return compile(Path(path).read_bytes(), path, "exec", dont_inherit=True, optimize=2)


if __name__ == "__main__":
    main()
