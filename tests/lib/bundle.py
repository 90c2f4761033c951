"""Bundle: a folder with a rootfs and a config.json that a test edits.

The config starts as what `runc spec` writes (base-config.json), without a
terminal. A test changes it by JSON pointer (`set`, `add`, `drop`) or freely in
`config`; `write` is called by the runtime driver before it uses the bundle.
"""

import json
from pathlib import Path
from typing import Any

BASE = Path(__file__).with_name("base-config.json").read_text()


class Bundle:
    """A bundle of one test. `id` is the container id that goes with it."""

    def __init__(self, path: Path, rootfs: Path, container_id: str) -> None:
        self.path = path
        self.rootfs = rootfs
        self.id = container_id
        self.config: dict[str, Any] = json.loads(BASE)
        self.config["linux"]["cgroupsPath"] = f"/ocirun-test/{container_id}"

    def _parent(self, pointer: str) -> tuple[Any, str]:
        *parents, last = pointer.lstrip("/").split("/")
        node: Any = self.config
        for name in parents:
            node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
        return node, last

    def set(self, pointer: str, value: Any) -> "Bundle":
        """Sets the property at a JSON pointer; missing objects on the way are made."""
        node, last = self._parent(pointer)
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
        return self

    def add(self, pointer: str, *values: Any) -> "Bundle":
        """Appends to the array at a JSON pointer, which is made if it is missing."""
        node, last = self._parent(pointer)
        node.setdefault(last, []).extend(values)
        return self

    def drop(self, pointer: str) -> "Bundle":
        """Removes the property at a JSON pointer."""
        node, last = self._parent(pointer)
        del node[int(last) if isinstance(node, list) else last]
        return self

    def args(self, *argv: str) -> "Bundle":
        """Sets process.args."""
        return self.set("/process/args", list(argv))

    def sh(self, script: str) -> "Bundle":
        """Lets the container run a shell script."""
        return self.args("/bin/sh", "-c", script)

    def sleeper(self) -> "Bundle":
        """Lets the container wait for a signal that ends it (SIGTERM, too)."""
        return self.sh("trap 'exit 0' TERM; sleep 1000 & wait")

    def mount(self, destination: str, type: str, source: str, *options: str) -> "Bundle":
        """Appends a mount."""
        mount = {"destination": destination, "type": type, "source": source}
        return self.add("/mounts", {**mount, "options": list(options)} if options else mount)

    def drop_mount(self, destination: str) -> "Bundle":
        """Removes the mount with that destination."""
        mounts = self.config["mounts"]
        mounts.remove(next(m for m in mounts if m["destination"] == destination))
        return self

    def namespace(self, type: str, path: str | None = None) -> "Bundle":
        """Asks for a namespace, new or, with a path, an existing one."""
        self.drop_namespace(type)
        return self.add("/linux/namespaces", {"type": type, **({"path": path} if path else {})})

    def drop_namespace(self, type: str) -> "Bundle":
        """The container shares the caller's namespace of that type."""
        spaces = self.config["linux"]["namespaces"]
        spaces[:] = [n for n in spaces if n["type"] != type]
        return self

    def user_namespace(self, first: int = 100000, count: int = 65536) -> "Bundle":
        """Adds a new user namespace with ids 0..count-1 mapped from `first` up.

        The rootfs stays root's own: nothing in it belongs to the namespace.
        """
        mapping = [{"containerID": 0, "hostID": first, "size": count}]
        self.namespace("user")
        self.set("/linux/uidMappings", mapping)
        return self.set("/linux/gidMappings", mapping)

    def line_of(self, text: str) -> int:
        """Number of the first line of the written config.json that contains the text."""
        lines = (self.path / "config.json").read_text().splitlines()
        return next(n for n, line in enumerate(lines, 1) if text in line)

    def write(self) -> Path:
        """Writes config.json and returns the bundle's folder."""
        (self.path / "config.json").write_text(json.dumps(self.config, indent=1))
        return self.path
