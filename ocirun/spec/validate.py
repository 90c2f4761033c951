"""Every finding on a bundle's config.json at once, each with its place. Cold.

Belongs here: putting together what the schema, the strict rules, the suspicious
rules and the bundle's files say. Does not belong here: the rules themselves
(schema/, `strict`, `suspicious`), showing the report (`ocirun.cli`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from jsonschema import ValidationError

from ocirun.errors import BundleError, InvalidConfig, InvalidJSON
from ocirun.spec import fastjson, schema, strict, suspicious, words
from ocirun.spec.fastcheck import check_config
from ocirun.spec.load import CONFIG, read_config
from ocirun.spec.positions import Index

OK, INVALID, UNREADABLE = 0, 1, 2
"""Values of Report.status: the exit statuses of `ocirun validate`."""


MAX_ERRORS = 1000
"""With more errors by the schema than this, only these are told."""

MAX_INDEXED = 1 << 20
"""Characters of the longest document in which create looks for lines."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with config.json, or suspicious.

    Attributes:
        severity: "error" (create refuses) or "warning" (create does not).
        pointer: JSON pointer (RFC 6901) of the property; it may be missing there.
        line, column: place of its value, or, if it is missing, of the nearest
            property around it; both from 1, 0 if there is no text to point into.
        message: what is wrong.
        expected: what would be right, "" if the message says it.
        hint: what to do, or what the property is for; "" if unknown.
        section: where the OCI runtime-spec describes the property,
            such as "config.md#process"; "" if it does not.
    """

    severity: str
    pointer: str
    line: int
    column: int
    message: str
    expected: str = ""
    hint: str = ""
    section: str = ""


@dataclass(frozen=True)
class Report:
    """What `validate_bundle` found.

    Attributes:
        bundle: the bundle, as it was given.
        path: its config.json, or what took its place.
        findings: all findings, in the order of the text.
        readable: whether config.json could be read at all.
    """

    bundle: str
    path: str
    findings: list[Finding] = field(default_factory=list)
    readable: bool = True

    @property
    def errors(self) -> list[Finding]:
        """The findings for which create refuses the bundle."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that are merely suspicious."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    @property
    def status(self) -> int:
        """Exit status: OK (or warnings alone), INVALID, or UNREADABLE."""
        if not self.readable:
            return UNREADABLE
        return INVALID if self.errors else OK

    def to_json(self) -> str:
        """The report as a JSON object, indented; its members are this class's attributes."""
        content = {
            "bundle": self.bundle,
            "path": self.path,
            "status": self.status,
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(content, indent=2)


def validate_bundle(bundle: str, config: str = "") -> Report:
    """Check the bundle in the directory `bundle`; raises nothing.

    `config` is a file that takes the place of its config.json.

    OCI runtime-spec 1.3, bundle.md and config.md; docs/validation.md.
    """
    path = config or f"{bundle}/{CONFIG}"
    try:
        data = read_config(bundle, config)
    except BundleError as error:
        reason = f": {os.strerror(error.errno).lower()}" if error.errno else ""
        finding = Finding("error", "", 0, 0, error.message + reason, hint=error.hint)
        return Report(bundle, path, [finding], readable=False)
    try:
        value = fastjson.loads(data, path)
    except InvalidJSON as error:
        return Report(bundle, path, [Finding("error", "", error.line, error.column, error.message)])
    index = Index(data.decode())
    errors, mended = _errors(value)
    found = [_finding("error", violation, index) for violation in errors]
    if isinstance(mended, dict):
        warnings = [*suspicious.check(mended), *_duplicates(index)]
        on_disk, absent = _files(mended, bundle)
        found += [_finding("error", (p, m, "", h), index) for p, m, h in on_disk]
        for p, m, h in _unrelated([*warnings, *absent], errors):
            found.append(_finding("warning", (p, m, "", h), index))
    found.sort(key=lambda f: (f.line, f.column, f.severity, f.pointer))
    return Report(bundle, path, found)


def validate_config(value: object) -> list[Finding]:
    """Check a config that comes from no file: errors, then warnings, each by pointer.

    The findings have no lines; files are not looked for.
    """
    errors, mended = _errors(value)
    problems = suspicious.check(mended) if isinstance(mended, dict) else ()
    warnings = [(p, m, "", h) for p, m, h in _unrelated(problems, errors)]
    found = [_finding("error", violation, None) for violation in errors]
    found += [_finding("warning", violation, None) for violation in warnings]
    return sorted(found, key=lambda f: (f.severity, f.pointer))


def refusal(
    value: object, text: str, bundle: str, fits: bool = False, path: str = ""
) -> InvalidConfig | None:
    """The error with which create refuses the config `value`; None if it is valid.

    `fits` says that the schema is known to accept it; `path` is the config's, "" for
    config.json in the bundle.

    `text` is the document that `value` was read from; "" for `bundle` says that
    nobody but ocirun has seen it, so that lines and columns would mean nothing. Of a very
    long document too only the pointers are told, and at most MAX_ERRORS errors of any: create
    does not take seconds to say no.
    """
    errors, _ = _errors(value, fits)
    if not errors:
        return None
    del errors[MAX_ERRORS:]
    index = Index(text) if bundle and len(text) <= MAX_INDEXED else None
    found = [_finding("error", violation, index) for violation in errors]
    found.sort(key=lambda f: (f.line, f.column, f.pointer))
    name = path or (f"{bundle}/{CONFIG}" if bundle else "the container's configuration")
    error = InvalidConfig(f"{name} is invalid", tuple(found), bundle=bundle)
    error.config = path
    return error


def _errors(value: object, fits: bool = False) -> tuple[list[words.Violation], object]:
    """All errors by the schema and the strict rules, and a copy without the schema's.

    With very many errors by the schema, some of them and None: mending takes time.
    """
    violations: dict[str, words.Violation] = {}
    mended: Any = value
    # The fast check first: jsonschema needs seconds for 100,000 mappings without a fault.
    while not (fits or check_config(mended)) and (
        raised := [*islice(schema.validator("config").iter_errors(mended), MAX_ERRORS)]
    ):
        if len(violations) + len(raised) >= MAX_ERRORS:
            more = [v for error in raised for v in words.violations(error)]
            return [*violations.values(), *more], None
        for error in raised:
            for violation in words.violations(error):
                violations.setdefault(violation[0], violation)
            mended = _mend(mended, error)
    errors = [*violations.values()]
    if isinstance(value, dict) and isinstance(mended, dict):
        problems = dict.fromkeys(strict.check(mended))  # each once
        errors += [(p, m, "", h) for p, m, h in _unrelated(problems, violations.values())]
    return errors, mended


def _mend(value: Any, error: ValidationError) -> Any:
    """`value` with the least that makes `error` vanish, so that what else is wrong shows."""
    path = [*error.absolute_path]
    sub = words.subschema(path)
    if error.validator == "required":
        instance: dict[str, Any] = error.instance  # type: ignore[assignment]
        missing = [name for name in sub["required"] if name not in instance]
        added = {name: _plain(schema.child(sub, name) or {}) for name in missing}
        return _put(value, path, {**instance, **added})
    if error.validator == "enum" and (close := words.near(str(error.instance), sub["enum"])):
        return _put(value, path, close)
    return _put(value, path, _plain(sub))


def _put(value: Any, path: list[str | int], inner: object) -> Any:
    if not path:
        return inner
    copy = value.copy()
    copy[path[0]] = _put(value[path[0]], path[1:], inner)
    return copy


def _plain(sub: dict[str, Any]) -> object:
    """Some value that the schema `sub` accepts."""
    sub = schema.resolve(sub)
    if samples := sub.get("examples") or sub.get("enum"):
        return samples[0]
    if "type" not in sub:
        return None
    if sub["type"] == "object":
        return {name: _plain(schema.child(sub, name) or {}) for name in sub.get("required", ())}
    if sub["type"] == "array":
        return [_plain(sub["items"])] * sub.get("minItems", 0)
    plain = {"string": "", "boolean": False, "integer": max(0, sub.get("minimum", 0))}
    return plain[sub["type"]]


def _around(pointer: str) -> list[str]:
    """`pointer` and the pointers of everything around it, but for the whole document."""
    ends = [at for at, char in enumerate(pointer) if char == "/"][1:]
    return [pointer[:end] for end in ends] + [pointer]


def _unrelated(
    problems: Iterable[strict.Problem], errors: Iterable[words.Violation]
) -> list[strict.Problem]:
    """The problems at places of which no error speaks, nor of one inside or around it."""
    wrong = {error[0] for error in errors}
    around = {place for pointer in wrong for place in _around(pointer)}
    return [
        problem
        for problem in problems
        if problem[0] not in around and wrong.isdisjoint(_around(problem[0]))
    ]


def _finding(severity: str, violation: words.Violation, index: Index | None) -> Finding:
    pointer, message, expected, hint = violation
    line, column = index.locate(pointer) if index else (0, 0)
    section = schema.describe(pointer)[1]
    return Finding(severity, pointer, line, column, message, expected, hint, section)


def _duplicates(index: Index) -> list[strict.Problem]:
    hint = "the last one counts; remove the others"
    pointers = dict.fromkeys(pointer for pointer, _ in index.duplicates)
    return [(pointer, "the name occurs more than once", hint) for pointer in pointers]


def _files(
    config: dict[str, Any], bundle: str
) -> tuple[list[strict.Problem], list[strict.Problem]]:
    """What is not there: (errors, warnings)."""
    errors: list[strict.Problem] = []
    warnings: list[strict.Problem] = []
    root = config.get("root", {}).get("path", "")
    if root and "\0" not in root and not os.path.isdir(os.path.join(bundle, root)):
        hint = "make the directory, or run `ocirun image import`"
        message = f"{os.path.join(bundle, root)} is not a directory"
        errors.append(("/root/path", message, hint))
    for pointer, path in suspicious.host_paths(config):
        where = os.path.join(bundle, path)
        if "\0" not in where and not os.path.lexists(where):
            warnings.append((pointer, f"{where} does not exist here", ""))
    return errors, warnings
