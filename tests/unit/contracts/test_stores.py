"""Avro, BigQuery and Arrow schemas: they hold every event of every contract, exactly."""

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from contract_folders import CONTRACTS, SCHEMAS, SOURCES

from dataflows.contracts.enrichment import ENRICHMENT
from dataflows.contracts.shapes import Array, Integer, Map, Money, Object, Shape, Timestamp

PAYMENTS = CONTRACTS["transactions"]
PROFILES = CONTRACTS["customer_profiles"]


def stored(value: Any, shape: Shape) -> Any:
    """A JSON value of a contract as a store's client wants it."""
    match shape:
        case _ if value is None:
            return None
        case Money():
            return Decimal(value)
        case Integer():
            return int(value)
        case Timestamp() if isinstance(value, int):
            return datetime.fromtimestamp(value / 1000, UTC)
        case Timestamp():
            return datetime.fromisoformat(value).astimezone(UTC)
        case Object():
            return {
                name: stored(value.get(name), field.shape) for name, field in shape.fields.items()
            }
        case Array():
            return [stored(item, shape.items) for item in value]
    return value


def examples(source: str) -> list[dict[str, Any]]:
    files = sorted((SCHEMAS / source / "examples" / "pass").glob("*.json"))
    return [stored(json.loads(file.read_text()), CONTRACTS[source].shape) for file in files]


@pytest.mark.parametrize("source", SOURCES)
def test_avro_holds_every_example(source: str) -> None:
    schema = fastavro.parse_schema(CONTRACTS[source].avro_schema())
    written = examples(source)
    buffer = io.BytesIO()
    fastavro.writer(buffer, schema, written)
    buffer.seek(0)
    additions = dict.fromkeys(ENRICHMENT)
    assert list(fastavro.reader(buffer)) == [example | additions for example in written]


@pytest.mark.parametrize("source", SOURCES)
def test_arrow_holds_every_example(source: str) -> None:
    schema = CONTRACTS[source].arrow_schema()
    written = examples(source)
    table = pa.Table.from_pylist(written, schema=schema)
    table.validate(full=True)
    names = set(CONTRACTS[source].shape.fields)
    read = [
        {
            name: dict(value) if name == "attributes" and value is not None else value
            for name, value in row.items()
            if name in names
        }
        for row in table.to_pylist()
    ]
    assert read == written


@pytest.mark.parametrize("source", SOURCES)
def test_all_three_have_the_same_columns_in_the_same_order(source: str) -> None:
    contract = CONTRACTS[source]
    names = [*contract.shape.fields, *ENRICHMENT]
    assert [column["name"] for column in contract.bigquery_schema()] == names
    assert [field["name"] for field in contract.avro_schema()["fields"]] == names
    assert contract.arrow_schema().names == names


@pytest.mark.parametrize("source", SOURCES)
def test_they_agree_on_what_is_never_null(source: str) -> None:
    contract = CONTRACTS[source]
    required = {name for name, field in contract.shape.fields.items() if field.required}
    bigquery = {col["name"] for col in contract.bigquery_schema() if col["mode"] == "REQUIRED"}
    avro = {field["name"] for field in contract.avro_schema()["fields"] if "default" not in field}
    arrow = {field.name for field in contract.arrow_schema() if not field.nullable}
    assert bigquery == avro == arrow == required


def columns(source: str) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in CONTRACTS[source].bigquery_schema()}


def test_bigquery_types() -> None:
    payment = columns("transactions")
    assert payment["total_amount"]["type"] == "NUMERIC"
    assert payment["event_timestamp"]["type"] == "TIMESTAMP"
    assert payment["extras"]["type"] == "JSON"
    assert (payment["items"]["type"], payment["items"]["mode"]) == ("RECORD", "REPEATED")
    quantity = {column["name"]: column for column in payment["items"]["fields"]}["quantity"]
    assert (quantity["type"], quantity["mode"]) == ("INTEGER", "REQUIRED")
    attributes = columns("product_catalog")["attributes"]
    assert (attributes["type"], attributes["mode"]) == ("RECORD", "REPEATED")
    assert [column["name"] for column in attributes["fields"]] == ["key", "value"]
    assert columns("product_catalog")["tags"]["mode"] == "REPEATED"
    assert columns("product_catalog")["active"]["type"] == "BOOLEAN"


def test_what_happens_to_personal_data_is_written_beside_it() -> None:
    assert set(PROFILES.pii) == {
        "email",
        "full_name",
        "phone",
        "date_of_birth",
        "address.line1",
        "address.city",
        "address.postal_code",
    }
    profile = columns("customer_profiles")
    assert "keyed hash" in profile["email"]["description"]
    assert "never stored" in profile["date_of_birth"]["description"]
    address = {column["name"]: column for column in profile["address"]["fields"]}
    assert "masked" in address["city"]["description"]
    assert "personal" not in address["country"]["description"]
    fields = {field["name"]: field for field in PROFILES.avro_schema()["fields"]}
    assert "keyed hash" in fields["email"]["doc"]


def test_arrow_types() -> None:
    schema = PAYMENTS.arrow_schema()
    assert schema.field("total_amount").type == pa.decimal128(18, 2)
    assert schema.field("event_timestamp").type == pa.timestamp("us", "UTC")
    assert schema.field("extras").type == pa.string()
    assert schema.field("items").type.value_type.field("amount").type == pa.decimal128(18, 2)


def test_every_shape_has_a_place() -> None:
    kinds = {type(f.shape) for c in CONTRACTS.values() for f in c.shape.fields.values()}
    assert {Map, Array, Object, Money, Timestamp} <= kinds
