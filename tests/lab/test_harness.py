"""The labs' own harness: how the report of a lab is read, and that no marked test is left out."""

import re
from pathlib import Path

import pytest

from .boot import CHECKOUT, script
from .selection import ALL_LABS, BY_HAND, Inner, check, files, read

REPORT = """<testsuites><testsuite>
<testcase classname="tests.e2e.test_x" name="good"/>
<testcase classname="tests.e2e.test_x" name="bad"><failure>words</failure></testcase>
<testcase classname="tests.e2e.test_x" name="bad"><error>left</error></testcase>
<testcase classname="tests.e2e.test_x" name="off"><skipped message="needs it"/></testcase>
</testsuite></testsuites>"""


def test_report() -> None:
    inner = read(REPORT)["tests/e2e/test_x.py"]
    assert inner == Inner(["good"], {"off": "needs it"}, {"bad": "words\n\nleft"})


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        (Inner(["a"], {}, {"b": "its words"}), "its words"),
        (Inner([], {"a": "needs it"}, {}), "needs it"),
        (None, "nothing of f.py"),
    ],
)
def test_what_fails(inner: Inner | None, words: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=words):
        check({"f.py": inner} if inner else {}, "f.py")


def test_no_marked_file_is_left_out() -> None:
    marked = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "tests").rglob("test_*.py")
        if re.search(r"^(@|pytestmark).*mark\.lab\(", path.read_text(), re.MULTILINE)
    }
    assert marked
    assert marked <= {*BY_HAND, *(file for lab in ALL_LABS for file in files(lab))}


def test_selected_tests_are_there() -> None:
    for test in {test for lab in ALL_LABS for test in lab}:
        file, _, name = test.partition("::")
        text = Path(CHECKOUT, file).read_text()
        assert not name or f"def {name.partition('[')[0]}(" in text


def test_script() -> None:
    lines = script(["a b", "c"], {"NAME": "it's"}, captured=True).splitlines()
    assert lines[0] == "export NAME='it'\"'\"'s'"
    assert lines[-1] == "'a b' c >/run/lab/output 2>&1"
