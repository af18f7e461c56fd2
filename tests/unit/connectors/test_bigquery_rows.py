"""Rows are given to BigQuery in the types that their table has now, and told in words for a person
why they cannot be."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError
from google.cloud.bigquery_storage_v1 import types

from dataflows.connectors import bigquery
from dataflows.connectors.bigquery import TableBehind, fitted
from dataflows.connectors.bigquery_client import (
    BigQueryError,
    BigQueryUnavailable,
    connect_writer,
    explained,
)

TABLE = "shop.bronze.t"


def column(name: str, kind: str, mode: str = "NULLABLE", *fields: Any) -> types.TableFieldSchema:
    return types.TableFieldSchema(
        name=name,
        type_=getattr(types.TableFieldSchema.Type, kind),
        mode=getattr(types.TableFieldSchema.Mode, mode),
        fields=fields,
    )


def fit(values: pa.Array, there: types.TableFieldSchema) -> pa.Array:
    schema = types.TableSchema(fields=[there, column("else", "STRING")])
    return fitted(pa.table({there.name: values}), schema, TABLE).column(0)


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        (pa.array([1, None]), "INT64", pa.array([1, None])),
        (pa.array([1, None]), "DOUBLE", pa.array([1.0, None])),
        (pa.array([7]), "NUMERIC", pa.array([Decimal(7)], pa.decimal128(38, 9))),
        (
            pa.array([Decimal("-0.01")], pa.decimal128(18, 2)),
            "NUMERIC",
            pa.array([Decimal("-0.01")], pa.decimal128(38, 9)),
        ),
        (
            pa.array([Decimal("9999999999999999.99")], pa.decimal128(18, 2)),
            "BIGNUMERIC",
            pa.array([Decimal("9999999999999999.99")], pa.decimal256(76, 38)),
        ),
        (pa.array(['{"a":1}']), "JSON", pa.array(['{"a":1}'])),
    ],
)
def test_numbers_become_what_the_table_holds(values: pa.Array, kind: str, wanted: pa.Array) -> None:
    assert fit(values, column("c", kind)).equals(wanted)


def test_what_is_nested_is_fitted_all_the_way_down() -> None:
    item = pa.struct([("price", pa.decimal128(18, 2)), ("count", pa.int64())])
    values = [[{"price": Decimal("1.50"), "count": 2}, None], None, []]
    there = column("c", "STRUCT", "REPEATED", column("price", "NUMERIC"), column("count", "DOUBLE"))
    found = fit(pa.array(values, pa.list_(item)), there)
    wanted = pa.struct([("price", pa.decimal128(38, 9)), ("count", pa.float64())])
    assert found.type.value_type == wanted
    assert found.to_pylist() == [[{"price": Decimal("1.5"), "count": 2.0}, None], None, []]


def test_a_map_becomes_pairs() -> None:
    values = pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64()))
    pair = (column("key", "STRING"), column("value", "DOUBLE"))
    found = fit(values, column("c", "STRUCT", "REPEATED", *pair))
    assert found.to_pylist() == [[{"key": "a", "value": 1.0}], None, []]


def test_a_part_of_a_larger_column_is_fitted_as_that_part() -> None:
    item = pa.list_(pa.struct([("n", pa.int64())]))
    part = pa.array([[{"n": n}] * n for n in range(6)], item).slice(2, 3)
    found = fit(part, column("c", "STRUCT", "REPEATED", column("n", "DOUBLE")))
    assert found.to_pylist() == [[{"n": float(n)}] * n for n in (2, 3, 4)]


def test_a_column_that_the_table_lacks_is_named() -> None:
    schema = types.TableSchema(fields=[column("n", "INT64")])
    with pytest.raises(TableBehind, match=r"shop\.bronze\.t has no column coupon; .*apply"):
        fitted(pa.table({"n": [1], "coupon": ["x"]}), schema, TABLE)


def test_rows_are_cut_into_requests_that_bigquery_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigquery, "MAX_REQUEST_BYTES", 5_000)
    rows = pa.record_batch({"n": range(100), "text": ["x" * 40] * 99 + ["y" * 9_000]})
    parts = list(bigquery._parts(np.arange(100), rows))
    assert len(parts) > 2
    assert [int(place) for places, _ in parts for place in places] == list(range(100))
    assert pa.concat_batches([part for _, part in parts]).equals(rows)
    sizes = [pa.ipc.get_record_batch_size(part) for _, part in parts]
    assert all(size <= 5_000 for size in sizes[:-1])
    assert parts[-1][1].num_rows == 1  # larger than that by itself


@pytest.mark.parametrize(
    ("raised", "kind", "says"),
    [
        (exceptions.NotFound("gone"), BigQueryError, "there is no such table.*schema apply"),
        (exceptions.Forbidden("no"), BigQueryError, r"not allowed \(403 no\); the role"),
        (exceptions.ServiceUnavailable("x"), BigQueryUnavailable, "does not answer .*try again"),
        (exceptions.TooManyRequests("quota"), BigQueryUnavailable, "does not answer .*quota"),
        (
            exceptions.RetryError("patience", exceptions.TooManyRequests("quota")),
            BigQueryUnavailable,
            "429 quota",
        ),
        (exceptions.BadRequest("a\nb"), BigQueryError, "refuses: 400 a; compare"),
        (DefaultCredentialsError("none"), BigQueryError, "no credentials.*gcloud auth"),
    ],
)
def test_what_the_clients_raise_becomes_one_line(
    raised: Exception, kind: type[BigQueryError], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught, explained(TABLE):
        raise raised
    assert "\n" not in str(caught.value)
    assert caught.value.may_pass == (kind is BigQueryUnavailable)


def test_half_an_emulator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9050")
    monkeypatch.delenv("BIGQUERY_STORAGE_EMULATOR_HOST", raising=False)
    with pytest.raises(BigQueryError, match="BIGQUERY_STORAGE_EMULATOR_HOST does not: set it"):
        connect_writer()


def test_without_googles_client_it_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery_storage_v1", None)
    with pytest.raises(BigQueryError, match="pip install google-cloud-bigquery"):
        connect_writer()
