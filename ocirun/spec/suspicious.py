"""What is suspicious in a valid config.json: named checks behind warnings. Cold.

Belongs here: what has no effect, what is deprecated, what surprises, what the
kernel will probably refuse. None of it makes create fail. Does not belong here:
errors (`strict`). Rules on mounts are in `suspicious_mounts`, rules on the rest
of `linux` in `suspicious_linux`.

The checks run on documents that the schema has accepted. A problem is (JSON
pointer, message, hint), as in `strict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from ocirun.spec import schema, strict, suspicious_linux, suspicious_mounts
from ocirun.spec.default import OCI_VERSION
from ocirun.spec.known import CAPABILITIES
from ocirun.spec.strict import token
from ocirun.spec.words import near

if TYPE_CHECKING:
    from ocirun.spec.strict import Config, Problem

_PLATFORMS = ("solaris", "windows", "vm", "zos", "freebsd")


def check(config: Config) -> list[Problem]:
    """Everything suspicious in `config`, in no fixed order."""
    found = [*_unknown(config, schema.document("config"), "")]
    for rule in (_version, _platforms, _process, _capabilities, _environment):
        found += rule(config)
    kinds = strict.namespaces(config)
    found += suspicious_mounts.check(config, kinds)
    found += suspicious_linux.check(config, kinds)
    return found


def host_paths(config: Config) -> Iterator[tuple[str, str]]:
    """(pointer, path) of everything that must exist outside the container."""
    for point, hooks in config.get("hooks", {}).items():
        if point not in strict.HOOKS or point == "startContainer":
            continue
        for index, hook in enumerate(hooks):
            yield f"/hooks/{point}/{index}/path", hook["path"]
    for index, mount in enumerate(config.get("mounts", ())):
        if suspicious_mounts.is_bind(mount) and mount.get("source"):
            yield f"/mounts/{index}/source", mount["source"]
    for index, namespace in enumerate(config.get("linux", {}).get("namespaces", ())):
        if namespace.get("path"):
            yield f"/linux/namespaces/{index}/path", namespace["path"]


def _unknown(value: object, sub: dict[str, Any], pointer: str) -> Iterator[Problem]:
    """Unknown and deprecated properties, at `pointer` and below."""
    if isinstance(value, list):
        items = schema.resolve(sub["items"])
        for index, item in enumerate(value):
            yield from _unknown(item, items, f"{pointer}/{index}")
    if not isinstance(value, dict):
        return
    free = "additionalProperties" in sub
    for name, item in value.items():
        inner, place = schema.child(sub, name), f"{pointer}/{token(name)}"
        if inner is None:
            if not free:
                yield place, "unknown property, without effect", _meant(name, sub, pointer)
            continue
        if inner.get("deprecated"):
            yield place, "deprecated", inner["description"]
        if inner.get("type"):
            yield from _unknown(item, inner, place)


def _meant(name: str, sub: dict[str, Any], pointer: str) -> str:
    known = sub.get("properties", {})
    if close := near(name, known):
        return f"did you mean {close}?"
    # The right name in the wrong place: known in just one other place.
    places = _places().get(name, [])
    if len(places) == 1 and places[0] != pointer:
        return f"did you mean {places[0]}/{name}?"
    return ""


@cache
def _places() -> dict[str, list[str]]:
    """Name of a property -> pointers of the objects that have it."""
    places: dict[str, list[str]] = {}

    def visit(sub: dict[str, Any], pointer: str) -> None:
        for name, inner in sub.get("properties", {}).items():
            places.setdefault(name, []).append(pointer)
            visit(schema.resolve(inner), f"{pointer}/{name}")
        if isinstance(sub.get("items"), dict):
            visit(schema.resolve(sub["items"]), f"{pointer}/*")

    visit(schema.document("config"), "")
    return places


def _version(config: Config) -> Iterator[Problem]:
    parsed, ours = strict.version(config["ociVersion"]), strict.version(OCI_VERSION)
    if parsed and ours:
        if parsed[0] == 0:
            hint = f'write "{OCI_VERSION}"'
            yield "/ociVersion", "a draft from before version 1.0.0", hint
        elif parsed[:2] > ours[:2]:
            message = f"newer than {OCI_VERSION}, which ocirun follows"
            yield "/ociVersion", message, "what is new in it has no effect"


def _platforms(config: Config) -> Iterator[Problem]:
    for name in _PLATFORMS:
        if name in config:
            yield f"/{name}", "has no effect on Linux", ""
    process = config.get("process", {})
    for pointer, holder, name in (
        ("/process/commandLine", process, "commandLine"),
        ("/process/user/username", process.get("user", {}), "username"),
    ):
        if name in holder:
            yield pointer, "has no effect on Linux", ""


def _process(config: Config) -> Iterator[Problem]:
    process = config.get("process")
    if process is None:
        yield "/process", "missing: the container can be created, not started", ""
        return
    if not process.get("terminal"):
        if "consoleSize" in process:
            yield "/process/consoleSize", "without effect: there is no terminal", ""
    elif not suspicious_mounts.has_devpts(config):
        hint = "mount devpts on /dev/pts, as in `ocirun spec`"
        yield "/process/terminal", "a terminal needs a devpts file system on /dev/pts", hint


def _capabilities(config: Config) -> Iterator[Problem]:
    sets = config.get("process", {}).get("capabilities", {})
    pointer = "/process/capabilities"
    for kind in ("bounding", "permitted", "effective", "inheritable", "ambient"):
        for index, name in enumerate(sets.get(kind, ())):
            if name not in CAPABILITIES:
                close = near(name, CAPABILITIES) or near(f"CAP_{name}", CAPABILITIES)
                hint = f"did you mean {close}?" if close else "see capabilities(7)"
                yield f"{pointer}/{kind}/{index}", f"{name} is no capability of Linux", hint
    # capset(2) refuses effective without permitted; prctl(2), PR_CAP_AMBIENT_RAISE.
    for kind, needed in (("effective", ["permitted"]), ("ambient", ["permitted", "inheritable"])):
        for index, name in enumerate(sets.get(kind, ())):
            lacking = [other for other in needed if name not in sets.get(other, ())]
            if lacking and name in CAPABILITIES:
                message = f"{name} is not {' and not '.join(lacking)}, so it has no effect here"
                yield f"{pointer}/{kind}/{index}", message, f"add it to {' and '.join(lacking)}"


def _environment(config: Config) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, entry in enumerate(config.get("process", {}).get("env", ())):
        name = entry.partition("=")[0]
        if name in first:
            message = f"{name} is set already, in entry {first[name]}; the last one counts"
            yield f"/process/env/{index}", message, ""
        first[name] = index
