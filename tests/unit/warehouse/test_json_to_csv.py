"""JSON documents become CSV, and are the same documents when CSV is read back."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.warehouse.errors import WarehouseError
from services.warehouse.json_to_csv_converter import json_to_csv


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


# Names without an underscore, so that a nested field cannot meet another.
names = st.text("abcäß ", min_size=1, max_size=4)
leaves = st.none() | st.booleans() | st.integers() | st.text()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=6
)
documents = st.lists(st.dictionaries(names, values, max_size=4), max_size=3)


def expected(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat |= expected(value, f"{prefix}{key}_")
        else:
            flat[prefix + key] = value
    return flat


@given(documents)
def test_what_is_read_back_is_what_was_there(documents: list[dict[str, Any]]) -> None:
    rows = read(json_to_csv(json.dumps(documents)))
    flat = [expected(document) for document in documents]
    columns = {column for document in flat for column in document}
    if not columns:
        return
    assert len(rows) == len(documents)
    for row, document in zip(rows, flat, strict=True):
        for column in columns:
            assert _value(row[column], document.get(column)) == document.get(column)


def _value(text: str, model: Any) -> Any:
    """The text of a cell as a value of the same kind."""
    match model:
        case None:
            return None if text == "" else text
        case str():
            return text
        case _:
            return json.loads(text)


def test_quotes_lines_scripts_and_exact_numbers() -> None:
    text = """[{"id": 1, "name": "say \\"hi\\",\\n青い",
        "price": {"amount": 1.10, "of": {"x": 1e400}}, "tags": ["a\\"b", 1.0],
        "more": {"k\\"": [1.50]}}, {"id": 2, "name": ""}]"""
    assert json_to_csv(text, as_json=["more"], renamed={"price_amount": "price"}) == (
        "id,name,price,price_of_x,tags,more\n"
        '1,"say ""hi"",\n青い",1.10,1e400,"[""a\\""b"",1.0]","{""k\\"""":[1.50]}"\n'
        "2,,,,,\n"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[{]", "p.json: not JSON: Expecting property name"),
        ('{"a": 1}', "p.json: must be an array of objects"),
        ("[1]", "p.json: must be an array of objects"),
        ('[{}, {"a": {"b": 1}, "a_b": 2}]', "p.json: object 2 has two fields for the column 'a_b'"),
    ],
)
def test_what_is_no_table_is_refused(text: str, says: str) -> None:
    with pytest.raises(WarehouseError) as raised:
        json_to_csv(text, name="p.json")
    assert str(raised.value).startswith(says)
