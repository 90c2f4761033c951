"""The tables of cases: a changed config, and what the probe sees then (lib/cases.py), or how it is
refused (lib/refusals.py).
"""

import pytest
from lib import cases, properties
from lib.bundle import Bundle
from lib.cases import CASES, Case
from lib.probe import differs, witness
from lib.refusals import REFUSALS, Refusal
from lib.runtime import Runtime


def marked(case: Case) -> "pytest.ParameterSet":
    """The row as a parameter that says which properties it covers."""
    pointers = case.mark or sorted(
        properties.pointer(row)
        for pointer, value in case.patch.items()
        for inner in properties.leaves(value)
        if (row := properties.row_of(properties.split(pointer) + inner))
    )
    marks = [pytest.mark.spec(*pointers)]
    if case.only:
        marks.append(pytest.mark.only(*case.only))
    return pytest.param(case, id=case.name, marks=marks)


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_row(runtime: Runtime, bundle: Bundle, case: Case) -> None:
    if case.look:
        bundle.args("/bin/probe", "--look", *case.look)
    cases.apply(bundle.config, case.patch)
    report = witness(runtime.probe(bundle))
    assert not differs(report, case.expect)


def refused(row: Refusal) -> "pytest.ParameterSet":
    """The same for a row of what is refused."""
    place = properties.row_of(properties.split(row.at))
    pointers = row.mark or (() if place is None else (properties.pointer(place),))
    marks = [pytest.mark.spec(*pointers), *([pytest.mark.only(*row.only)] if row.only else [])]
    return pytest.param(row, id=row.name, marks=marks)


@pytest.mark.parametrize("row", [refused(row) for row in REFUSALS])
def test_refusal(runtime: Runtime, bundle: Bundle, row: Refusal) -> None:
    """Refused, and nothing is left: not in the state folder, nor elsewhere (the leak check)."""
    cases.apply(bundle.config, row.patch)
    result = runtime.run(bundle).failed()
    assert runtime.containers() == []
    if runtime.kind == "ocirun":
        result.failed(row.at, *row.words)
        assert "Traceback" not in result.err


def test_names_of_rows_are_their_own() -> None:
    names = [row.name for row in (*CASES, *REFUSALS)]
    assert len(names) == len(set(names))
