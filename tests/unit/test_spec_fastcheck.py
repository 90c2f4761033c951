"""fastcheck answers as jsonschema does, and is what the generator writes."""

import subprocess
import sys
from pathlib import Path

import pytest
import spec_mutants
from hypothesis import given
from hypothesis import strategies as st
from spec_mutants import unhurried

from ocirun.spec import schema
from ocirun.spec.default import default_spec
from ocirun.spec.fastcheck import check_config

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "tools" / "gen_fastcheck.py"

VALIDATOR = schema.validator("config")
COMPLETE = spec_mutants.complete_config()


def test_the_committed_file_is_current():
    run = subprocess.run([sys.executable, GENERATOR, "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_check_for_staleness_can_fail(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(GENERATOR.parent))
    import gen_fastcheck

    stale = tmp_path / "fastcheck.py"
    stale.write_text(gen_fastcheck.generate() + "\n")
    monkeypatch.setattr(gen_fastcheck, "TARGET", stale)
    monkeypatch.setattr(sys, "argv", ["gen_fastcheck.py", "--check"])
    with pytest.raises(SystemExit, match="stale"):
        gen_fastcheck.main()


@pytest.mark.parametrize(
    "sub",
    [
        {"type": "string", "format": "uri"},
        {"type": "object", "additionalProperties": False},
        {"type": "integer", "multipleOf": 2},
        {"anyOf": [{"type": "string"}]},
        {"type": "object", "minProperties": 1},
    ],
)
def test_the_generator_refuses_what_it_cannot_translate(sub, monkeypatch):
    monkeypatch.syspath_prepend(str(GENERATOR.parent))
    import gen_fastcheck

    with pytest.raises((SystemExit, KeyError)):
        gen_fastcheck.show(gen_fastcheck.expression(sub))


@pytest.mark.parametrize("document", [default_spec(), default_spec(rootless=True), COMPLETE])
def test_a_valid_document_is_valid_to_both(document):
    assert check_config(document)
    assert VALIDATOR.is_valid(document)


def test_both_agree_on_mutants():
    compared = valid = 0
    sources = [(4, COMPLETE), (9, default_spec()), (9, default_spec(rootless=True))]
    for stride, document in sources:
        for index, (what, mutant) in enumerate(spec_mutants.mutants(document)):
            if index % stride == 0:
                verdict = VALIDATOR.is_valid(mutant)
                assert check_config(mutant) is verdict, what
                compared += 1
                valid += verdict
    assert compared > 2000
    assert 200 < valid < compared - 200


@unhurried(300)
@given(st.data())
def test_both_agree_whatever_the_value(data):
    strange = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )
    path = data.draw(st.sampled_from([*spec_mutants.places(COMPLETE)]))
    mutant = spec_mutants.put(COMPLETE, path, data.draw(strange))
    assert check_config(mutant) is VALIDATOR.is_valid(mutant)


PATTERNS = [
    (("process", "rlimits", 0, "type"), "RLIMT_A\n b"),
    (("process", "execCPUAffinity", "initial"), "09, -x\n٣"),
    (("linux", "resources", "hugepageLimits", 0, "pageSize"), "019KMGB\n٣"),
    (("linux", "intelRdt", "memBwSchema"), "MB:0=\n"),
]


@pytest.mark.parametrize(("path", "alphabet"), PATTERNS)
def test_both_agree_on_patterns(path, alphabet):
    start = COMPLETE
    for token in path:
        start = start[token]
    edits = st.text(alphabet, max_size=3)

    @unhurried(200)
    @given(edits, st.integers(0, len(start)), st.integers(0, len(start)), edits)
    def agree(before, first, last, after):
        mutant = spec_mutants.put(COMPLETE, path, before + start[first:last] + after)
        assert check_config(mutant) is VALIDATOR.is_valid(mutant)

    agree()
