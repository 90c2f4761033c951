"""The schema documents themselves: valid, complete, described."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import spec_mutants

from ocirun.spec import schema

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["config", "state", "features"]


def properties(sub, pointer=""):
    """(pointer, subschema) of every property of the schema."""
    for key, value in sub.items():
        if key == "properties":
            for name, inner in value.items():
                yield f"{pointer}/{name}", inner
                yield from properties(inner, f"{pointer}/{name}")
        elif key == "$defs":
            for name, inner in value.items():
                yield from properties(inner, f"#{name}")
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            yield from properties(value, f"{pointer}/*")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_json_schema_2020_12(name):
    jsonschema.Draft202012Validator.check_schema(schema.document(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_property_has_a_description_and_a_section(name):
    found = dict(properties(schema.document(name)))
    assert found
    for pointer, sub in found.items():
        assert sub.get("description", "").endswith("."), pointer
        document, _, anchor = sub.get("x-spec", "").partition("#")
        assert document.endswith(".md"), pointer
        assert anchor == anchor.lower().strip(), pointer
    assert len(found) > {"config": 190, "state": 5, "features": 30}[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_has_a_target_and_every_definition_a_use(name):
    document = schema.document(name)
    text = json.dumps(document)
    for definition in document.get("$defs", ()):
        assert f'"#/$defs/{definition}"' in text, definition
    references = {text[i:].split('"')[2] for i in range(len(text)) if text.startswith('"$ref"', i)}
    assert {r.removeprefix("#/$defs/") for r in references if "#" in r} <= set(
        document.get("$defs", ())
    )


def test_the_complete_document_is_valid():
    assert schema.validator("config").is_valid(spec_mutants.complete_config())


@pytest.mark.parametrize(
    ("pointer", "section"),
    [
        ("/ociVersion", "config.md#specification-version"),
        ("/mounts/3/options/0", "config.md#linux-mount-options"),
        ("/mounts/3", "config.md#mounts"),
        ("/process/user/additionalGids/0", "config.md#posix-platform-user"),
        ("/linux/resources/memory/limit", "config-linux.md#memory"),
        ("/linux/resources/rdma/a~1b/hcaHandles", "config-linux.md#rdma"),
        ("/linux/sysctl/net.ipv4.ip_forward", "config-linux.md#sysctl"),
        ("/linux/uidMappings/0/size", "config-linux.md#user-namespace-mappings"),
        ("/hooks/poststop/1/timeout", "config.md#posix-platform-hooks"),
        ("/root/unknown/deeper", "config.md#root"),
        ("/unknown", ""),
        ("", ""),
    ],
)
def test_describe_finds_the_section(pointer, section):
    description, found = schema.describe(pointer)
    assert found == section
    assert bool(description) == bool(section)


def test_what_ocirun_features_prints_is_a_features_document():
    run = subprocess.run(
        [sys.executable, "-m", "ocirun", "features"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    document = json.loads(run.stdout)
    schema.validator("features").validate(document)
    seccomp, definitions = document["linux"]["seccomp"], schema.document("config")["$defs"]
    assert seccomp["enabled"] is True
    for name, kind in (("actions", "Action"), ("operators", "Operator"), ("archs", "Arch"),
                       ("knownFlags", "Flag")):  # fmt: skip
        assert sorted(seccomp[name]) == sorted(definitions["seccomp" + kind]["enum"])
    assert {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"} <= set(
        seccomp["supportedFlags"]
    )


def test_a_missing_schema_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(schema, "_FOLDERS", (tmp_path,))
    with pytest.raises(FileNotFoundError, match=r"nothing\.schema\.json"):
        schema.document("nothing")


@pytest.mark.parametrize(
    ("value", "good"), [("2MB", True), ("2MB\n", False), ("64kB", False), ("x2MB", False)]
)
def test_a_pattern_ends_where_the_string_ends(value, good):
    limits = {"linux": {"resources": {"hugepageLimits": [{"pageSize": value, "limit": 1}]}}}
    assert schema.validator("config").is_valid({"ociVersion": "1.3.0", **limits}) is good
