"""positions: every value is found where it stands."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_mutants import unhurried

from ocirun.spec.positions import Index, locate

names = st.text(max_size=4) | st.sampled_from(["a", "a/b", "m~n", "~1", "", '"', "\\", "{", "ü,:"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)
spaces = st.text(" \t\n\r", max_size=3)


def offset(text, line, column):
    lines = text.split("\n")
    return sum(len(before) + 1 for before in lines[: line - 1]) + column - 1


def pointers(value, pointer=""):
    yield pointer, value
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from pointers(item, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")


def written(value, space, ascii_only):
    """`value` as JSON with the white space that `space` draws around every token."""
    s = space
    if isinstance(value, dict):
        inner = ",".join(
            f"{s()}{json.dumps(k, ensure_ascii=ascii_only)}{s()}:{written(v, s, ascii_only)}"
            for k, v in value.items()
        )
        return f"{s()}{{{inner}{s()}}}{s()}"
    if isinstance(value, list):
        return f"{s()}[{','.join(written(v, s, ascii_only) for v in value)}{s()}]{s()}"
    return f"{s()}{json.dumps(value, ensure_ascii=ascii_only)}{s()}"


@unhurried()
@given(st.data(), values, st.booleans())
def test_what_stands_at_the_place_is_the_value(data, value, ascii_only):
    text = written(value, lambda: data.draw(spaces), ascii_only)
    index = Index(text)
    assert json.loads(text) == value
    assert not index.duplicates
    decoder = json.JSONDecoder()
    everything = dict(pointers(value))
    assert index.values.keys() == everything.keys()
    for pointer, expected in everything.items():
        found, _ = decoder.raw_decode(text, offset(text, *index.locate(pointer)))
        assert found == expected


TEXT = """{
  "ociVersion": "1.3.0",
  "ü": {"a/b": [10, {"m~n": true}], "": null},
    "process": {
        "args": ["sh", "-c"]
    }
}
"""


@pytest.mark.parametrize(
    ("pointer", "place"),
    [
        ("", (1, 1)),
        ("/ociVersion", (2, 17)),
        ("/ü", (3, 8)),
        ("/ü/a~1b", (3, 16)),
        ("/ü/a~1b/0", (3, 17)),
        ("/ü/a~1b/1", (3, 21)),
        ("/ü/a~1b/1/m~0n", (3, 29)),
        ("/ü/", (3, 41)),
        ("/process/args/1", (5, 24)),
        # missing: the name of the nearest ancestor, or its value where it has no name
        ("/process/cwd", (4, 5)),
        ("/process/args/2", (5, 9)),
        ("/process/user/uid", (4, 5)),
        ("/ü/a~1b/1/x", (3, 21)),
        ("/hostname", (1, 1)),
        ("/process/args/0/x", (5, 18)),
    ],
)
def test_places(pointer, place):
    assert locate(TEXT, pointer) == place


def test_duplicate_names_are_found_and_the_last_counts():
    text = '{"a": {"x": 1}, "b": [0],\n "a": {"y": 2}, "b": 3, "c": {"a": 1}}'
    index = Index(text)
    second = text.index("\n")
    assert index.duplicates == [("/a", second + 2), ("/b", second + 17)]
    assert index.locate("/a") == (2, 7)
    assert index.locate("/a/y") == (2, 13)
    assert index.locate("/a/x") == (2, 2)
    assert index.locate("/b/0") == (2, 17)


@pytest.mark.parametrize("text", ["", "]", "{", "{]", '{"a"', '{"a":', '{"a\\', "[,,", "}{", "x"])
@pytest.mark.parametrize("pointer", ["", "/a", "/a/0", "/0"])
def test_what_is_not_json_has_places_too(text, pointer):
    line, column = locate(text, pointer)
    assert (line, column) >= (1, 1)


def test_a_deep_document_needs_no_deep_stack():
    assert Index("[" * 3000 + "]" * 3000).locate("/0" * 2999) == (1, 3000)
