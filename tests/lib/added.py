"""What the tests of `mounts add` and `mounts remove` have in common."""

import json
from pathlib import Path
from typing import Any

from . import mountinfo
from .bundle import Bundle
from .runtime import Result, Runtime

Mount = dict[str, Any]


def bind(destination: str, source: Path | str, *options: str) -> Mount:
    words = options or ("rbind",)
    if "bind" not in words and "rbind" not in words:
        words = ("bind", *words)
    return {
        "destination": destination, "type": "bind", "source": str(source), "options": list(words),
    }  # fmt: skip


def tmpfs(destination: str, *options: str) -> Mount:
    return {
        "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options),
    }  # fmt: skip


def call(runtime: Runtime, what: str, bundle: Bundle, *mounts: Any, **more: Any) -> Result:
    path = bundle.path / "mounts.json"
    path.write_text(json.dumps(mounts, indent=1))
    return runtime.call("mounts", what, bundle.id, path, **more)


def add(runtime: Runtime, bundle: Bundle, *mounts: Any) -> Result:
    return call(runtime, "add", bundle, *mounts)


def remove(runtime: Runtime, bundle: Bundle, *places: str) -> Result:
    return call(runtime, "remove", bundle, *({"destination": place} for place in places))


def inside(runtime: Runtime, bundle: Bundle, script: str) -> str:
    return runtime.call("exec", bundle.id, "sh", "-c", script).ok().out


def table(runtime: Runtime, bundle: Bundle) -> str:
    """The mounts that init has: what an added one must have become part of."""
    return Path(f"/proc/{runtime.state(bundle.id)['pid']}/mountinfo").read_text()


def points(runtime: Runtime, bundle: Bundle) -> list[str]:
    return [mount.point for mount in mountinfo.parse(table(runtime, bundle))]
