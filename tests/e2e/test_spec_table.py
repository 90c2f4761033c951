"""The table of cases (lib/cases.py): a changed config, and what the probe sees then."""

import pytest
from lib import cases, properties
from lib.bundle import Bundle
from lib.cases import CASES, Case
from lib.probe import differs, witness
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


def test_names_of_rows_are_their_own() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
