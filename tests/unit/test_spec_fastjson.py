"""fastjson: the same values as the json package, and exact places for errors."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_mutants import unhurried

from ocirun.errors import InvalidJSON
from ocirun.spec import fastjson

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@unhurried()
@given(values, st.sampled_from([None, 1]), st.booleans())
def test_loads_agrees_with_json(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert fastjson.loads(f" \n{text}\t".encode()) == value


@unhurried()
@given(st.lists(st.sampled_from(["\\ud800", "\\uDC00", "\\\\", "\\ude00", "u", "\\uD9ff"])))
def test_every_string_that_is_read_can_be_encoded(parts):
    text = '["' + "".join(parts) + '"]'
    expected = json.loads(text)
    try:
        expected[0].encode()
    except UnicodeEncodeError:
        with pytest.raises(InvalidJSON, match="half of a surrogate pair"):
            fastjson.loads(text.encode())
    else:
        assert fastjson.loads(text.encode()) == expected


@unhurried()
@given(values)
def test_dumps_is_compact_ascii_json(value):
    text = fastjson.dumps(value)
    assert text == json.dumps(value, separators=(",", ":"))
    assert text.isascii()


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.0", 1), ("-0.0", 0), ("1e3", 1000), ("1.5", 1.5), ("[2.0,2]", [2, 2])],
)
def test_an_integral_number_is_an_int(text, value):
    loaded = fastjson.loads(text.encode())
    assert loaded == value
    assert repr(loaded) == repr(value)


def test_the_last_of_duplicate_keys_counts():
    assert fastjson.loads(b'{"a": 1, "b": 2, "a": 3}') == {"a": 3, "b": 2}


def test_a_surrogate_pair_is_one_character():
    assert fastjson.loads(b'"\\ud83d\\ude00 \\\\ud83d"') == "\U0001f600 \\ud83d"


BAD = [
    (b"", 1, 1, "the document is empty"),
    (b" \n ", 2, 2, "the document is empty"),
    (b"{]", 1, 2, "property name"),
    (b"{\n  ]", 2, 3, "property name"),
    (b'{"a": 1,\n "b": tru}', 2, 7, "value is missing"),
    (b'{"a": 1\n "b": 2}', 2, 2, "',' or the end"),
    (b'{"a" 1}', 1, 6, "':' is expected"),
    (b"[1,", 1, 4, "value is missing"),
    (b'["\xc3\xbc\xc3\xbc", x]', 1, 8, "value is missing"),
    (b'"abc', 1, 1, "no end"),
    (b'"a\nb"', 1, 3, "control character"),
    (b'"\\q"', 1, 2, "escape sequence"),
    (b'"\\u12"', 1, 3, "hexadecimal"),
    (b"{} {}", 1, 4, "after the end"),
    (b"{}\n\n}", 3, 1, "after the end"),
    (b'{"a":\n NaN}', 2, 2, "NaN is not JSON"),
    (b'["NaN", -Infinity]', 1, 9, "-Infinity is not JSON"),
    (b"[1, 1e400]", 1, 5, "out of range"),
    (b"[1, " + b"9" * 5000 + b"]", 1, 5, "out of range"),
    (b"[" * 5000 + b"]" * 5000, 1, 5000, "too deep"),
    (b'["x", "a\\ud800b"]', 1, 9, "surrogate"),
    (b'["\\udc00"]', 1, 3, "surrogate"),
    (b'["\\ud800\\ud800\\udc00"]', 1, 3, "surrogate"),
    (b'["\\ud800 \\udc00"]', 1, 3, "surrogate"),
    (b'{"\\uD800": 1}', 1, 3, "surrogate"),
    (b"\xef\xbb\xbf{}", 1, 1, "byte order mark"),
    (b'{"a":\n"\xff"}', 2, 2, "not UTF-8"),
    (b"\xff\xfe{\x00}\x00", 1, 1, "not UTF-8"),
]


@pytest.mark.parametrize(
    ("data", "line", "column", "words"), BAD, ids=[repr(b[0][:20]) for b in BAD]
)
def test_what_is_not_json_is_refused_at_its_place(data, line, column, words):
    with pytest.raises(InvalidJSON) as caught:
        fastjson.loads(data, "/b/config.json")
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert words in error.message
    assert error.path == "/b/config.json"


def test_a_document_is_bounded():
    with pytest.raises(InvalidJSON, match="larger than 16 MiB"):
        fastjson.loads(b'"' + b"a" * fastjson.MAX_SIZE + b'"')


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_dumps_refuses_what_json_cannot_hold(value):
    with pytest.raises((ValueError, TypeError)):
        fastjson.dumps([value])


@pytest.mark.parametrize("data", [b"{]", b'{"a": NaN}', b"[" * 5000, b'"\\ud800"'])
def test_errors_are_the_same_when_json_was_never_imported(data):
    # CPython's scanner behaves otherwise in a process that has not imported json.decoder.
    program = (
        "import sys\n"
        "from ocirun.errors import InvalidJSON\n"
        "from ocirun.spec import fastjson\n"
        "assert 'json' not in sys.modules\n"
        f"try: fastjson.loads({data!r})\n"
        "except InvalidJSON as e: print(e.line, e.column, e.message)\n"
    )
    run = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True
    )
    with pytest.raises(InvalidJSON) as caught:
        fastjson.loads(data)
    error = caught.value
    assert run.stdout == f"{error.line} {error.column} {error.message}\n"
