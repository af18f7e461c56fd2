"""The grammar check against Python's json, and the columns it names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.publisher.json_syntax import first_fault

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return False
    return True


@settings(deadline=None, max_examples=200)
@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_accepts_everything_json_can_write(value: object, ascii_only: bool, indent: int) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    try:
        line = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, written unescaped
        return
    assert first_fault(line) is None


@settings(deadline=None, max_examples=200)
@given(JSON, st.data())
def test_agrees_with_json_on_damaged_documents(value: object, data: st.DataObject) -> None:
    text = json.dumps(value)
    position = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 3))
    filling = data.draw(st.text('{}[]",:\\ue01-.Ntx \x01', max_size=3))
    damaged = text[:position] + filling + text[position + length :]
    assert (first_fault(damaged.encode()) is None) == _is_json(damaged)


@settings(deadline=None, max_examples=200)
@given(st.text('{}[]",:\\u0e1-.Ntruefalsnl \t\x00é', max_size=12))
def test_agrees_with_json_on_noise(text: str) -> None:
    assert (first_fault(text.encode()) is None) == _is_json(text)


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        (b"", 1, "but the line ends"),
        (b"nul", 1, "found 'nul'"),
        (b'{"a":1', 7, "expected ',' or '}', but the line ends"),
        (b'{"a":1,}', 8, "expected a name in double quotes, found '}'"),
        (b'{"a" 1}', 6, "expected ':', found '1'"),
        (b"{'a':1}", 2, "expected a name in double quotes"),
        (b'{"a":[1,2,,3]}', 11, "expected a JSON value, found ','"),
        (b'{"a":NaN}', 6, "found 'NaN'"),
        (b'{"a":01}', 6, "found '01'"),
        (b'{"a":1} {"b":2}', 9, "after the end of the JSON value"),
        (b'{"a":"x', 6, "no closing quote"),
        (b'{"a":"\\q"}', 7, "no escape that JSON knows"),
        (b'{"a":"\x01"}', 7, "control character"),
        ('{"é":"ü",x}'.encode(), 10, "expected a name"),
        (b'{"a":"\xff"}', 7, "byte 0xff is not UTF-8"),
        ('{"é":"'.encode() + b"\xc3", 7, "byte 0xc3 is not UTF-8"),
        (b"[" * 100_000, 100_001, "but the line ends"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 49_999, 300_001, "but the line ends"),
    ],
)
def test_names_the_column_and_what_was_expected(line: bytes, column: int, words: str) -> None:
    fault = first_fault(line)
    assert fault is not None
    assert fault[0] == column
    assert words in fault[1]


@pytest.mark.parametrize(
    "line",
    [
        b"1e999",
        b'"\\ud800"',
        b"[" * 100_000 + b"]" * 100_000,
        b" { } ",
        b"-0.0e-0",
        b"123456789012345678901234567890",
    ],
)
def test_what_is_json_but_hard_to_decode_is_json(line: bytes) -> None:
    assert first_fault(line) is None
