"""Which function reads a property of config.json, and which performs what comes of it.

Observed, not declared: configs whose every look-up is noted go through the compiler and
through `create` up to the clone; and a property that is changed changes steps and fields
of the plan, whose executors are found in the tables and the source of `ocirun.executor`.
"""

import ast
import contextlib
import copy
import importlib
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ocirun.cgroups import Layout
from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.compile import compile_plan
from ocirun.plan.host import Host
from ocirun.plan.step import Plan, Step
from ocirun.runtime import create
from ocirun.runtime.settings import Settings
from ocirun.spec import schema
from tests.lib import properties
from tests.lib.properties import Path as Tokens

ROOT = Path(__file__).resolve().parents[1]
_READERS = ("ocirun.plan.", "ocirun.cgroups.", "ocirun.runtime.", "ocirun.executor.")
_EXECUTORS = ("executor", "cgroups", "runtime")
_COLD = ("explain", "features", "words", "failures")
_V1 = ("cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer", "net_cls", "net_prio",
       "perf_event", "hugetlb", "pids", "rdma")  # fmt: skip
LAYOUTS = (
    Layout("v1", {c: f"/sys/fs/cgroup/{c}" for c in _V1}, dict.fromkeys(_V1, "/")),
    Layout("v2", {"": "/sys/fs/cgroup"}, {"": "/own"},
           ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma")),
)  # fmt: skip
_MODULES = frozenset(("apparmor", "selinux"))
ID = "observed-container"

Places = dict[Tokens, set[str]]


class Looked(dict[str, Any]):
    """An object of a config that tells which of its members are looked at."""

    def __init__(self, content: dict[str, Any], path: Tokens, tell: Callable[[Tokens], None]):
        super().__init__({k: noting(v, (*path, k), tell) for k, v in content.items()})
        self._path, self._report = path, tell

    def _tell(self, key: object) -> None:
        self._report((*self._path, str(key)))

    def __getitem__(self, key: str) -> Any:
        self._tell(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As of any dict, noted."""
        self._tell(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._tell(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            self._tell(key)
            yield key

    def items(self) -> Any:
        """As of any dict, noted."""
        return [(key, self[key]) for key in super().__iter__()]

    def values(self) -> Any:
        """As of any dict, noted."""
        return [self[key] for key in super().__iter__()]


def noting(value: Any, path: Tokens, tell: Callable[[Tokens], None]) -> Any:
    """A copy of `value` that calls `tell` with every place in it that is looked at."""
    if isinstance(value, dict):
        return Looked(value, path, tell)
    if isinstance(value, list):
        return [noting(item, (*path, str(i)), tell) for i, item in enumerate(value)]
    return value


class _Reached(Exception):
    """Everything that `create` decides before the clone is decided."""


class _Canned(Settings):
    """Settings of a machine that is the same wherever this runs."""

    def __init__(self, root: str, host: Host) -> None:
        super().__init__(root)
        self._host = host

    def host(self) -> Host:
        return self._host


def host(layout: Layout) -> Host:
    """Facts about a machine that has everything."""
    return Host(layout, security_modules=_MODULES, resctrl_root="/sys/fs/resctrl")


def readers(spec: dict[str, Any], seen: Places) -> None:
    """Add to `seen` the functions that read each property of the config, up to the clone."""

    def tell(path: Tokens) -> None:
        row, place = properties.row_of(path), _caller()
        if row is not None and place:
            seen.setdefault(row, set()).add(place)

    def reached(*_: object) -> None:
        raise _Reached

    bear, create._bear = create._bear, reached  # type: ignore[assignment]
    try:
        with tempfile.TemporaryDirectory() as folder:
            for layout in LAYOUTS:
                for name in ("rootfs", "state"):
                    Path(folder, name).mkdir(exist_ok=True)
                request = create.Request(ID, folder)
                request.spec = noting(copy.deepcopy(spec), (), tell)
                request.foreground = True
                with contextlib.suppress(_Reached, InvalidConfig, Unsupported):
                    create.create(_Canned(f"{folder}/state", host(layout)), request)
    finally:
        create._bear = bear


def _caller() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == "ocirun.spec.fastjson":  # a copy is written, whatever is in it
            return ""
        if module.startswith(_READERS):
            function = frame.f_code.co_qualname.partition(".<locals>")[0]
            return f"{module.removeprefix('ocirun.')}.{function}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""


class Refused(Exception):
    """The compiler says no: (pointer, place in the code)."""


def _compiled(spec: dict[str, Any], layout: Layout) -> Plan:
    try:
        return compile_plan(spec, host(layout), ID, "/bundle")
    except (InvalidConfig, Unsupported) as error:
        trace, place = error.__traceback__, ""
        while trace is not None:
            code, module = trace.tb_frame.f_code, trace.tb_frame.f_globals["__name__"]
            if module.startswith(_READERS):
                place = f"{module.removeprefix('ocirun.')}.{code.co_qualname}"
            trace = trace.tb_next
        raise Refused(error.pointer, place) from None


def executors(spec: dict[str, Any], places: list[Tokens], found: Places, refused: Places) -> None:
    """Add what performs the properties at `places` of the config, or the function that refuses."""
    for layout in LAYOUTS:
        try:
            plan = _compiled(spec, layout)
        except Refused as error:
            pointer, place = error.args
            for path in places:
                row = properties.row_of(path)
                if row and _related(properties.split(pointer), path):
                    refused.setdefault(row, set()).add(place)
            continue
        for path in places:
            row = properties.row_of(path)
            if row is not None:
                found.setdefault(row, set()).update(_effect(spec, path, row, plan, layout))


def _effect(
    spec: dict[str, Any], path: Tokens, row: Tokens, plan: Plan, layout: Layout
) -> set[str]:
    """What performs the change that another value at `path` makes; empty without a change."""
    for other in _variants(spec, path):
        try:
            changed = _difference(plan, _compiled(other, layout), row)
        except (Refused, KeyError, TypeError, ValueError, IndexError, AttributeError):
            continue
        if changed:
            return changed
    return set()


def _related(one: Tokens, other: Tokens) -> bool:
    size = min(len(one), len(other))
    return one[:size] == other[:size]


def _variants(spec: dict[str, Any], path: Tokens) -> Iterator[dict[str, Any]]:
    """The config with another value at the place; then without it, and without what is around."""
    value = _at(spec, path)
    sub: dict[str, Any] | None = schema.document("config")
    for token in path:
        sub = schema.child(sub, token) if sub is not None else None
    choices: list[Any] = list((sub or {}).get("enum", ()))
    if isinstance(value, bool):
        choices.append(not value)
    elif isinstance(value, int):
        choices += [value + 1, value - 1]
    elif isinstance(value, str):
        choices += [value + "x", "x" + value, ""]
    for choice in choices:
        if choice != value:
            yield _put(spec, path, choice)
    for length in range(len(path), 1, -1):
        yield _put(spec, path[:length])


def _at(value: Any, path: Tokens) -> Any:
    for token in path:
        value = value[int(token)] if isinstance(value, list) else value[token]
    return value


def _put(spec: dict[str, Any], path: Tokens, *value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(spec)
    inner = _at(changed, path[:-1])
    key: Any = int(path[-1]) if isinstance(inner, list) else path[-1]
    if value:
        inner[key] = value[0]
    else:
        del inner[key]
    return changed


def _difference(one: Plan, other: Plan, row: Tokens) -> set[str]:
    """The functions that perform what differs between two plans."""
    here, there = _steps(one), _steps(other)
    odd = Counter(_form(step) for _, step in here)
    odd.subtract(Counter(_form(step) for _, step in there))
    steps = [(held, step) for held, step in here + there if odd[_form(step)]]
    near = [(held, step) for held, step in steps if _names(step.pointer, row)]
    found: set[str] = set()
    for attribute, step in near or steps:
        function = tables().get(step.op)
        found.update((function,) if function else users(attribute))
    if found:
        return found
    held = {name for name, _ in here + there}
    for name, value in vars(one).items():
        changed = getattr(other, name)
        if name in held or name in ("cgroup", "warnings", "encoded"):
            continue
        if isinstance(value, dict) and isinstance(changed, dict):
            for key in {*value, *changed}:
                if _plain(value.get(key)) != _plain(changed.get(key)):
                    found.update(users("", str(key)))
        elif _plain(value) != _plain(changed):
            found.update(users(name))
    return found


def _steps(plan: Plan) -> list[tuple[str, Step]]:
    """(the attribute that holds it, step) of all steps of a plan."""
    found = []
    for name, value in vars(plan).items():
        inside = value if isinstance(value, list) else [value]
        found += [(name, step) for step in inside if isinstance(step, Step)]
    if plan.cgroup is not None:
        found += [("steps", step) for step in plan.cgroup.steps]
        found += [("join", step) for step in plan.cgroup.join]
    return found


def _form(step: Step) -> tuple[str, Tokens | None, str]:
    return step.op, _row(step.pointer), repr(step.args)


@cache
def _row(pointer: str) -> Tokens | None:
    return properties.row_of(properties.split(pointer))


def _names(pointer: str, row: Tokens) -> bool:
    found = _row(pointer)
    return found is not None and _related(found, row)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "__slots__"):
        return [_plain(getattr(value, name)) for name in value.__slots__]
    return value


@cache
def tables() -> dict[str, str]:
    """Operation of a step -> the function that performs it, from the executors' own tables."""
    found = {}
    for path in _sources():
        module = importlib.import_module("ocirun." + ".".join(path.with_suffix("").parts))
        for value in vars(module).values():
            if isinstance(value, dict) and value and all(map(callable, value.values())):
                for op, function in value.items():
                    home = function.__module__.removeprefix("ocirun.")
                    found[str(op)] = f"{home}.{function.__qualname__}"
    return found


@cache
def users(attribute: str, word: str = "") -> tuple[str, ...]:
    """The functions that read this attribute of a plan, or that hold this word as a constant."""
    found = []
    for path in _sources():
        module = ".".join(path.with_suffix("").parts)
        tree = ast.parse((ROOT / "ocirun" / path).read_text())
        for name, function in _functions(tree.body):
            if any(_uses(node, attribute, word) for node in ast.walk(function)):
                found.append(f"{module}.{name}")
    return tuple(found)


def _sources() -> list[Path]:
    base = ROOT / "ocirun"
    paths = [path for folder in _EXECUTORS for path in sorted((base / folder).glob("*.py"))]
    return [p.relative_to(base) for p in paths if p.stem not in (*_COLD, "__init__")]


def _functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node


def _uses(node: ast.AST, attribute: str, word: str) -> bool:
    if word:
        return isinstance(node, ast.Constant) and node.value == word
    if not isinstance(node, ast.Attribute) or node.attr != attribute:
        return False
    owner = node.value
    name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
    return name in ("plan", "late", "early") and isinstance(node.ctx, ast.Load)
