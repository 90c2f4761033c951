"""Spec: a config.json that is built, and changed, without writing JSON.

Belongs here: names for what is set most often, with the places in the document
that they mean. Everything else is reached with `Spec.replace`. Does not belong here:
the rules for what is valid (schema/, `ocirun.spec`), running it (`runtime`).
"""

from collections.abc import Iterable, Mapping
from posix import fspath
from typing import TYPE_CHECKING, Any

from ocirun.errors import BundleError, InvalidConfig
from ocirun.plan.rootfs import OVERLAY
from ocirun.plan.security import NUMBERS
from ocirun.spec.default import default_spec
from ocirun.spec.load import CONFIG, check_spec, load_config

if TYPE_CHECKING:
    import os
    from typing import Self

    Path = str | os.PathLike[str]

PERIOD = 100_000
"""The period of the CPU limit, in microseconds: the kernel's own default (cpu.max)."""

SHORTEST_QUOTA = 1000
"""The kernel refuses quotas below 1 ms in each period (sched-bwc.rst)."""


class Spec:
    """A valid config.json. It does not change: each `with_...` returns another one.

        spec = Spec.default(args=["/bin/true"], rootfs="/images/busybox")
        spec = spec.with_memory(64 << 20).with_env(LANG="C.UTF-8")

    The constructor and every method that returns a Spec raise InvalidConfig when the
    result is not valid: its `pointer` names the property, `findings` holds every
    error (`ocirun validate` has the same), and the original is as it was. What JSON
    can't hold raises TypeError or ValueError. OCI runtime-spec 1.3, config.md.

    Args:
        value: the document. A copy of it is kept.
    """

    __slots__ = ("_config",)

    def __init__(self, value: Mapping[str, Any]) -> None:
        try:
            self._config = check_spec(dict(value))
        except InvalidConfig as error:
            raise _in_words(error) from None

    @classmethod
    def default(
        cls, args: Iterable[str] = ("sh",), rootfs: "Path" = "rootfs", terminal: bool = False
    ) -> "Self":
        """What `ocirun spec` writes, with another command (config.md, "Process").

        Args:
            args: the command and its arguments.
            rootfs: root file system; a relative path is relative to the bundle, so
                a Spec that runs without one needs an absolute path.
            terminal: the command gets a terminal.
        """
        config: dict[str, Any] = default_spec()
        config["process"].update(args=_list(args), terminal=terminal)
        if not terminal:
            config["process"]["env"].remove("TERM=xterm")
        config["root"]["path"] = fspath(rootfs)
        return cls(config)

    @classmethod
    def load(cls, bundle: "Path") -> "Self":
        """The config.json of the directory `bundle` (bundle.md).

        Its relative paths (root.path, sources of bind mounts, layers of an overlay)
        become absolute, so that they mean the same wherever the Spec is used.
        Raises BundleError, InvalidJSON, InvalidConfig.
        """
        from ocirun.runtime.settings import absolute

        directory = absolute(fspath(bundle))
        config = load_config(directory)
        _anchor(config, directory)
        return cls(config)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Self":
        """The document `value` itself."""
        return cls(value)

    def with_args(self, *args: str) -> "Self":
        """Run another command (config.md, "Process", args)."""
        return self._with("process", args=list(args))

    def with_env(self, variables: Mapping[str, str] = {}, /, **more: str) -> "Self":
        """Set environment variables; the others stay (config.md, "Process", env)."""
        config = self.to_dict()
        env: list[str] = _inside(config, "process").setdefault("env", [])
        for name, value in {**variables, **more}.items():
            if not isinstance(value, str):
                message = f"the value of {name} is no string but {type(value).__name__}"
                raise _refused("/process/env", message, "write it as a string")
            if not name or "=" in name:
                raise _refused("/process/env", f"{name!r} is no name of a variable")
            same = [at for at, entry in enumerate(env) if entry.startswith(f"{name}=")]
            at = same[0] if same else len(env)
            env[at:] = [
                f"{name}={value}",
                *(entry for entry in env[at:] if not entry.startswith(f"{name}=")),
            ]
        return self.__class__(config)

    def with_cwd(self, path: "Path") -> "Self":
        """Set the working directory, absolute in the container (config.md, "Process", cwd)."""
        return self._with("process", cwd=fspath(path))

    def with_user(
        self, uid: int, gid: int | None = None, additional_gids: Iterable[int] = ()
    ) -> "Self":
        """Run as another user (config.md, "POSIX process user").

        Args:
            uid: user id in the container.
            gid: group id; the same number as `uid` when not given.
            additional_gids: all further groups; none when not given.
        """
        groups = list(additional_gids)
        return self._with(
            "process",
            "user",
            uid=uid,
            gid=uid if gid is None else gid,
            additionalGids=groups or None,
        )

    def with_hostname(self, name: str) -> "Self":
        """Set the host's name, at most 64 bytes (config.md, "Hostname")."""
        return self._with(hostname=name)

    def with_memory(self, limit: int, swap: int | None = None) -> "Self":
        """Limit the memory, in bytes (config-linux.md, "Memory").

        Args:
            limit: bytes of memory; -1 for no limit.
            swap: bytes of memory and swap together, -1 for no limit; the kernel's
                default when not given.
        """
        return self._with("linux", "resources", "memory", limit=limit, swap=swap)

    def with_cpus(self, cpus: float) -> "Self":
        """Limit the processor time (config-linux.md, "CPU", quota and period).

        Args:
            cpus: number of processors' worth, such as 0.5; at least 0.01. It
                becomes a quota in each period of 100 ms.
        """
        if not SHORTEST_QUOTA / PERIOD <= cpus < 1 << 32:  # excludes NaN as well
            pointer = "/linux/resources/cpu/quota"
            raise _refused(pointer, f"{cpus} processors", "at least 0.01 is possible")
        quota = round(cpus * PERIOD)
        return self._with("linux", "resources", "cpu", quota=quota, period=PERIOD)

    def with_pids(self, limit: int) -> "Self":
        """Limit the number of tasks: processes and threads (config-linux.md, "PIDs")."""
        return self._with("linux", "resources", "pids", limit=limit)

    def with_mount(
        self,
        source: "Path",
        destination: "Path",
        options: Iterable[str] = ("rbind",),
        type: str = "bind",
    ) -> "Self":
        """Mount something after, and where they meet over, the mounts so far.

        config.md, "Mounts".

        Args:
            source: what to mount. Of a bind mount a file or directory of the host; a
                relative path is relative to the bundle.
            destination: absolute path in the container; made if it is not there.
            options: as for mount(8), and the specification's own ("Linux mount options").
            type: of the file system; "bind" for bind mounts.
        """
        mount = {"destination": fspath(destination), "type": type, "source": fspath(source)}
        config = self.to_dict()
        config.setdefault("mounts", []).append({**mount, "options": _list(options)})
        return self.__class__(config)

    def with_bind(self, source: "Path", destination: "Path", readonly: bool = False) -> "Self":
        """Show a file or directory of the host in the container, with what is mounted below.

        `readonly` covers the mount itself; of what is mounted below it, see "rro" in
        config.md, "Linux mount options".
        """
        return self.with_mount(source, destination, ["rbind", "ro" if readonly else "rw"])

    def with_tmpfs(self, destination: "Path", size: int | None = None) -> "Self":
        """Mount an empty file system in memory, mode 1777 (config.md, "Mounts"; tmpfs(5)).

        Args:
            destination: absolute path in the container.
            size: bytes; half of the memory when not given.
        """
        options = ["nosuid", "nodev", "mode=1777"]
        if size is not None:
            options.append(f"size={size}")
        return self.with_mount("tmpfs", destination, options, "tmpfs")

    def with_readonly_root(self, readonly: bool = True) -> "Self":
        """Make the root file system read-only, or not (config.md, "Root", readonly)."""
        return self._with("root", readonly=readonly)

    def with_capabilities(self, *names: str) -> "Self":
        """Grant these capabilities and no others (config.md, "Linux Process", capabilities).

        As in what `runc spec` writes, they become the bounding, effective and
        permitted sets; the inheritable and ambient sets are empty. So the command of
        a user other than root has none after its execve(2), but for those in its
        file (capabilities(7)); `replace` sets the other two sets where it needs them.

        Args:
            names: such as "CAP_NET_RAW".
        """
        for index, name in enumerate(names):
            if name not in NUMBERS:
                near = f"CAP_{name}".upper()
                hint = f"write {near}" if near in NUMBERS else "see capabilities(7)"
                pointer = f"/process/capabilities/bounding/{index}"
                raise _refused(pointer, f"{name!r} is no capability of Linux", hint)
        sets = {kind: list(names) for kind in ("bounding", "effective", "permitted")}
        return self._with("process", capabilities=sets)

    def with_rlimit(self, name: str, soft: int, hard: int | None = None) -> "Self":
        """Set a resource limit (config.md, "POSIX process", rlimits; getrlimit(2)).

        Args:
            name: such as "RLIMIT_NOFILE".
            soft: the limit, in the unit of the resource.
            hard: what `soft` may be raised to; the same when not given.
        """
        entry = {"type": name, "hard": soft if hard is None else hard, "soft": soft}
        config = self.to_dict()
        _put(_inside(config, "process").setdefault("rlimits", []), entry)
        return self.__class__(config)

    def with_overlay(self) -> "Self":
        """Have what the container writes go to memory and be gone with it.

        The root file system becomes the lower layer of an overlay, and is never
        changed; several containers can share it. ocirun's own: the annotations
        run.ocirun.overlay.lowerdir and .upperdir; the overlay is mounted on root.path, in
        the container's own mount namespace. The root is made writable.
        A spec that has an overlay already keeps its lower layers.
        """
        config = self.to_dict()
        root, notes = _inside(config, "root"), _inside(config, "annotations")
        if OVERLAY + "lowerdir" not in notes:
            lower = root.get("path", "")
            if ":" in lower:
                hint = "a colon separates layers; use another path, or a link"
                raise _refused("/root/path", f"{lower} cannot be a layer of an overlay", hint)
            notes[OVERLAY + "lowerdir"] = lower
        notes.pop(OVERLAY + "workdir", None)
        notes[OVERLAY + "upperdir"] = "tmpfs"
        root["readonly"] = False
        return self.__class__(config)

    def with_annotations(self, annotations: Mapping[str, str]) -> "Self":
        """Set annotations; the others stay (config.md, "Annotations")."""
        return self._with("annotations", **annotations)

    def with_namespace(self, type: str, path: "Path" = "") -> "Self":
        """Use a namespace of this type (config-linux.md, "Namespaces").

        Args:
            type: pid, network, mount, ipc, uts, user, cgroup or time.
            path: of the namespace to join, such as /run/netns/blue; "" for a new one.
        """
        entry = {"type": type}
        if where := fspath(path):
            entry["path"] = where
        config = self.to_dict()
        _put(_inside(config, "linux").setdefault("namespaces", []), entry)
        return self.__class__(config)

    def without_namespace(self, type: str) -> "Self":
        """Share the host's namespace of this type (config-linux.md, "Namespaces")."""
        config = self.to_dict()
        listed: list[Any] = _inside(config, "linux").get("namespaces", [])
        listed[:] = [entry for entry in listed if entry["type"] != type]
        return self.__class__(config)

    def with_host_network(self) -> "Self":
        """Share the host's network, loopback and abstract sockets included."""
        return self.without_namespace("network")

    def replace(self, pointer: str, value: Any) -> "Self":
        """Set any property.

        Args:
            pointer: JSON pointer (RFC 6901) of the property, such as
                "/process/oomScoreAdj". Objects on the way to it are made; of a list
                the entry must be there, or "-" for one more.
            value: what JSON can hold.
        """
        if not pointer:
            return self.__class__(value)
        if pointer[0] != "/":
            raise _refused(pointer, "a JSON pointer begins with a slash")
        config = self.to_dict()
        *way, last = (part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/"))
        where: Any = config
        for token in way:
            if isinstance(where, dict):
                where = where.setdefault(token, {})
            else:
                where = where[_index(where, token, pointer)]
        if isinstance(where, dict):
            where[last] = value
        elif isinstance(where, list) and last == "-":
            where.append(value)
        else:
            where[_index(where, last, pointer)] = value
        return self.__class__(config)

    def to_dict(self) -> dict[str, Any]:
        """The document, as a copy of one's own."""
        copy: dict[str, Any] = _copy(self._config)
        return copy

    def to_json(self) -> str:
        """The text of config.json, indented."""
        import json

        return json.dumps(self._config, indent=2, ensure_ascii=False) + "\n"

    def save(self, bundle: "Path") -> None:
        """Write config.json into the directory `bundle`, whole or not at all (bundle.md).

        One that is there is replaced. Raises BundleError.
        """
        import os

        path = f"{fspath(bundle)}/{CONFIG}"
        aside = f"{path}.{os.getpid()}-{os.urandom(4).hex()}"
        try:
            try:
                with open(aside, "x", encoding="utf-8") as file:
                    file.write(self.to_json())
                os.rename(aside, path)
            except BaseException:
                if os.path.lexists(aside):
                    os.unlink(aside)
                raise
        except OSError as error:
            number = error.errno or 0
            raise BundleError(f"cannot write {path}", errno=number, path=path) from None

    def __eq__(self, other: object) -> bool:
        return self._config == other._config if isinstance(other, Spec) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a dict

    def __repr__(self) -> str:
        args = self._config.get("process", {}).get("args")
        return f"<{type(self).__name__} {args!r} in {self._config['root']['path']!r}>"

    def _with(self, *way: str, **properties: Any) -> "Self":
        """Another Spec, with these properties of the object at `way`; None removes one."""
        config = self.to_dict()
        where = _inside(config, *way)
        for name, value in properties.items():
            where.pop(name, None) if value is None else where.update({name: value})
        return self.__class__(config)


def _inside(config: dict[str, Any], *way: str) -> dict[str, Any]:
    """The object at `way`, made if it is not there."""
    for name in way:
        config = config.setdefault(name, {})
    return config


def _put(entries: list[dict[str, Any]], entry: dict[str, Any]) -> None:
    """Put `entry` in the place of the one of its type, or at the end."""
    for index, other in enumerate(entries):
        if other["type"] == entry["type"]:
            entries[index] = entry
            return
    entries.append(entry)


def _list(values: Iterable[str]) -> Any:
    """A list; a string remains one, for the schema to refuse."""
    return values if isinstance(values, str) else list(values)


def _copy(value: Any) -> Any:
    if type(value) is dict:
        return {name: _copy(item) for name, item in value.items()}
    if type(value) is list:
        return [_copy(item) for item in value]
    return value


def _index(where: Any, token: str, pointer: str) -> int:
    if not isinstance(where, list):
        raise _refused(pointer, f'"{token}" would be inside of something that holds nothing')
    if not token.isdecimal() or not token.isascii() or int(token) >= len(where):
        message = f'the list has {len(where)} entries, and none is "{token}"'
        raise _refused(pointer, message, '"-" adds one at the end')
    return int(token)


def _anchor(config: dict[str, Any], directory: str) -> None:
    """Make the relative paths of a bundle in `directory` absolute."""
    from ocirun.plan.values import join

    root = config["root"]
    root["path"] = join(directory, root["path"])
    for mount in config.get("mounts", ()):
        binds = {"bind", "rbind"}
        if mount.get("source") and not binds.isdisjoint(
            (mount.get("type"), *mount.get("options", ()))
        ):
            mount["source"] = join(directory, mount["source"])
    notes = config.get("annotations", {})
    for name in ("lowerdir", "upperdir", "workdir"):
        value = notes.get(OVERLAY + name)
        if value and (name, value) != ("upperdir", "tmpfs"):
            layers = value.split(":") if name == "lowerdir" else [value]
            if ":" in directory and not all(layer.startswith("/") for layer in layers):
                pointer = f"/annotations/{OVERLAY}{name}"
                raise _refused(pointer, f"{directory} holds a colon, which separates layers")
            notes[OVERLAY + name] = ":".join(join(directory, layer) for layer in layers)


def _in_words(error: InvalidConfig) -> InvalidConfig:
    """The same error, whose message is the first finding."""
    from ocirun.spec.validate import Finding

    first, *others = error.findings
    assert isinstance(first, Finding)
    message = f"{first.pointer or '/'}: {first.message}"
    if first.expected:
        message += f", expected {first.expected}"
    if others:
        message += f" (and {len(others)} more)"
    return InvalidConfig(message, error.findings, pointer=first.pointer, hint=first.hint)


def _refused(pointer: str, message: str, hint: str = "") -> InvalidConfig:
    """The error for what the schema cannot refuse."""
    from ocirun.spec.validate import Finding

    finding = Finding("error", pointer, 0, 0, message, hint=hint)
    return InvalidConfig(f"{pointer}: {message}", (finding,), pointer=pointer, hint=hint)
