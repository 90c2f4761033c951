"""Our schema documents and the official ones give the same verdicts on Linux.

The official documents are no part of this repository: they are looked for in
`../shared/oci-spec` beside it, or where OCIRUN_OCI_SPEC says.
"""

import json
import os
from pathlib import Path

import pytest
import spec_mutants
from jsonschema import Draft4Validator, Draft6Validator
from jsonschema.validators import extend
from lib import properties
from referencing import Registry
from referencing.jsonschema import DRAFT4

from ocirun.errors import InvalidJSON
from ocirun.runtime.features import features
from ocirun.spec import fastjson, schema
from ocirun.spec.default import default_spec

ROOT = Path(__file__).resolve().parents[2]
OFFICIAL = Path(os.environ.get("OCIRUN_OCI_SPEC") or ROOT.parent / "shared" / "oci-spec")

if not OFFICIAL.is_dir():
    pytest.skip(
        f"the official OCI schema documents are absent: {OFFICIAL} (set OCIRUN_OCI_SPEC)",
        allow_module_level=True,
    )

# Where ours is stricter on purpose; also listed in docs/validation.md.
EMPTY_KEY = {"ociVersion": "1.3.0", "annotations": {"": 7}}
VERSIONS = {"ociVersionMin": "1.0.0", "ociVersionMax": "1.3.0"}
STRICTER = [
    ("config", EMPTY_KEY, "a map's value under an empty key is checked as under any other"),
    ("features", VERSIONS | {"linux": {"intelRdt": {"schemata": 1}}}, "new in 1.3"),
    ("features", VERSIONS | {"linux": {"intelRdt": {"monitoring": 1}}}, "new in 1.3"),
]
# Where it is more lenient on purpose: engines write these, and every runtime takes them.
LENIENT = [
    {"ociVersion": "1.3.0", "linux": {"rootfsPropagation": value}}
    for value in ("rprivate", "rshared", "rslave", "runbindable")
]
OTHER_PLATFORMS = ("solaris", "windows", "vm", "zos", "freebsd")

CASES = sorted(OFFICIAL.glob("cases/*/*/*.json"))
CONFIGS = [p for p in CASES if p.parts[-3] == "config" and p.name != "invalid-json.json"]


def official(name):
    """The official validator of `config`, `state` or `features`."""
    files = {path.name: json.loads(path.read_text()) for path in OFFICIAL.glob("*.json")}
    registry = Registry().with_resources(
        (f"https://official.invalid/{file}", DRAFT4.create_resource(content))
        for file, content in files.items()
    )
    for content in files.values():
        content.pop("$schema", None)  # jsonschema would take its own Draft4Validator for it
    root = {"$ref": f"https://official.invalid/{name}-schema.json"}
    # Two points in which jsonschema differs from the checker that the specification
    # uses: there 1.0 is an integer in any draft, and $ in a pattern is the very end.
    cls = extend(
        Draft4Validator,
        {"pattern": schema.ecma_pattern},
        type_checker=Draft6Validator.TYPE_CHECKER,
    )
    return cls(root, registry=registry)


def without_other_platforms(config):
    return {key: value for key, value in config.items() if key not in OTHER_PLATFORMS}


@pytest.mark.parametrize("path", CASES, ids=["-".join(p.parts[-3:]) for p in CASES])
def test_the_official_cases(path):
    kind, verdict = path.parts[-3], path.parts[-2] == "good"
    try:
        value = fastjson.loads(path.read_bytes())
    except InvalidJSON:
        assert not verdict
        return
    assert schema.validator(kind).is_valid(value) is verdict
    assert official(kind).is_valid(value) is verdict


def test_there_are_cases():
    assert len(CASES) >= 15


def is_ours(kind: str, what: str) -> bool:
    """Where the verdicts differ on purpose (docs/validation.md)."""
    return "intelRdt/" in what if kind == "features" else "/fileMode" in what


@pytest.mark.parametrize(
    ("kind", "stride"),
    [("config", 4), ("state", 1), ("features", 2)],
)
def test_mutants_of_the_complete_document(kind, stride):
    if kind == "config":
        document = without_other_platforms(spec_mutants.complete_config())
        for device in document["linux"]["devices"]:
            device["fileMode"] = 0o640
        document["hooks"] |= {"startContainer": [], "poststart": [], "poststop": []}
    else:
        document = spec_mutants.complete(schema.document(kind), kind)
    theirs, ours = official(kind), schema.validator(kind)
    compared = 0
    for index, (what, mutant) in enumerate(spec_mutants.mutants(document)):
        if index % stride == 0 and not is_ours(kind, what):
            assert ours.is_valid(mutant) is theirs.is_valid(mutant), what
            compared += 1
    assert compared > 100
    if kind == "config":
        assert compared > 1500


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_mutants_of_the_official_cases(path):
    document = without_other_platforms(json.loads(path.read_bytes()))
    theirs, ours = official("config"), schema.validator("config")
    size = sum(1 for _ in spec_mutants.mutants(document))
    stride = 1 + size // 300
    for index, (what, mutant) in enumerate(spec_mutants.mutants(document)):
        if index % stride == 0 and not is_ours("config", what):
            assert ours.is_valid(mutant) is theirs.is_valid(mutant), what


def test_the_properties_are_the_official_ones():
    """So that docs/spec-coverage.md, which has a row for each of ours, has one for each of theirs."""
    files = {path.name: json.loads(path.read_text()) for path in OFFICIAL.glob("*.json")}

    def walk(sub, file, path=()):
        if "$ref" in sub:
            name, _, place = sub["$ref"].partition("#")
            file = name or file
            sub = files[file]
            for token in place.strip("/").split("/"):
                sub = sub[token]
            return walk(sub, file, path)
        found = [p for part in sub.get("allOf", ()) for p in walk(part, file, path)]
        found += [p for part in sub.get("anyOf", ()) for p in walk(part, file, path)]
        for name, inner in sub.get("properties", {}).items():
            found += [(*path, name), *walk(inner, file, (*path, name))]
        inner = [sub.get("items"), sub.get("additionalProperties")]
        inner += sub.get("patternProperties", {}).values()
        for one in inner:
            if isinstance(one, dict):
                found += walk(one, file, (*path, "*"))
        return found

    found = walk(files["config-schema.json"], "config-schema.json")
    theirs = {path for path in found if len(path) == 1 or path[0] not in OTHER_PLATFORMS}
    older = {("linux", "intelRdt", name) for name in ("enableCMT", "enableMBM")}  # until 1.2
    assert theirs | older == set(properties.rows())


@pytest.mark.contract("(a JSON document as in the OCI specification)")
def test_our_features():
    official("features").validate(fastjson.loads(fastjson.dumps(features()).encode()))


@pytest.mark.parametrize("rootless", [False, True])
def test_the_default_spec(rootless):
    assert official("config").is_valid(default_spec(rootless))


@pytest.mark.parametrize("value", LENIENT)
def test_where_ours_is_more_lenient(value):
    assert not official("config").is_valid(value)
    assert schema.validator("config").is_valid(value)


@pytest.mark.parametrize(("kind", "value", "why"), STRICTER)
def test_where_ours_is_stricter(kind, value, why):
    assert official(kind).is_valid(value), why
    assert not schema.validator(kind).is_valid(value), why
