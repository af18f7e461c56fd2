"""JSON documents as the CSV of a dbt seed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from services.warehouse.errors import WarehouseError


def json_to_csv(
    text: str,
    *,
    name: str = "JSON",
    as_json: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> str:
    """A row for each object of a JSON array, a column for each field that any of them has.

    A nested object gives a column for each of its fields, `outer_inner`; one named in `as_json`,
    and each array, is one column of JSON. Numbers stay as they are written. A field that is null or
    not there is an empty one.

    Args:
        name: of the input, for messages.
        renamed: other names for columns.

    Raises:
        WarehouseError: it is no JSON array of objects, or two fields give the same column.
    """
    try:
        documents = json.loads(text, parse_float=_Written, parse_int=_Written)
    except ValueError as error:
        raise WarehouseError(f"{name}: not JSON: {error}") from None
    if not isinstance(documents, list) or not all(isinstance(d, dict) for d in documents):
        raise WarehouseError(f"{name}: must be an array of objects")
    rows = []
    for number, document in enumerate(documents, 1):
        row: dict[str, str] = {}
        for column, value in _fields(document, "", as_json):
            column = (renamed or {}).get(column, column)
            if column in row:
                raise WarehouseError(
                    f"{name}: object {number} has two fields for the column {column!r}; rename one"
                )
            row[column] = value
        rows.append(row)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [_line(columns), *(_line([row.get(column, "") for column in columns]) for row in rows)]
    return "".join(lines)


def _line(cells: Sequence[str]) -> str:
    """Ends with a line feed. `csv` alone would leave carriage returns in cells unquoted then."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue().removesuffix("\r\n") + "\n"


class _Written(str):
    """A number, as it was written."""


def _fields(
    document: Mapping[str, Any], prefix: str, as_json: Collection[str]
) -> Iterator[tuple[str, str]]:
    for key, value in document.items():
        column = prefix + key
        if isinstance(value, dict) and column not in as_json:
            yield from _fields(value, column + "_", as_json)
        else:
            yield column, _cell(value)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case _:
            return _json(value)


def _json(value: Any) -> str:
    """Compact JSON, numbers as they were written."""
    match value:
        case _Written():
            return value
        case dict():
            pairs = (f"{json.dumps(k, ensure_ascii=False)}:{_json(v)}" for k, v in value.items())
            return "{" + ",".join(pairs) + "}"
        case list():
            return "[" + ",".join(map(_json, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)
