"""A contract as an Arrow schema, for the Parquet lake."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dataflows.contracts.enrichment import ENRICHMENT
from dataflows.contracts.shapes import (
    MONEY_PRECISION,
    MONEY_SCALE,
    Array,
    Boolean,
    Integer,
    Map,
    Money,
    Number,
    Object,
    Shape,
    Text,
    Timestamp,
)
from dataflows.contracts.storage import always_stored

if TYPE_CHECKING:
    import pyarrow as pa


def arrow_schema(shape: Object, pii: Mapping[str, str]) -> "pa.Schema":
    """The schema of an enriched event: money decimal128(18, 2), timestamps in microseconds, UTC."""
    import pyarrow as pa  # here, for most flows store nothing and need not load it

    types = {
        "text": pa.string(),
        "json": pa.string(),
        "integer": pa.int64(),
        "timestamp": pa.timestamp("us", "UTC"),
    }
    enrichment = [pa.field(name, types[added.stored_as]) for name, added in ENRICHMENT.items()]
    return pa.schema([*_fields(shape, pii, ""), *enrichment])


def _fields(shape: Object, pii: Mapping[str, str], prefix: str) -> "list[pa.Field]":
    import pyarrow as pa

    return [
        pa.field(
            field.name,
            _type(field.shape, pii, prefix + field.name),
            nullable=not always_stored(field, prefix + field.name, pii),
        )
        for field in shape.fields.values()
    ]


def _type(shape: Shape, pii: Mapping[str, str], path: str) -> "pa.DataType":
    import pyarrow as pa

    match shape:
        case Text():
            return pa.string()
        case Money():
            return pa.decimal128(MONEY_PRECISION, MONEY_SCALE)
        case Timestamp():
            return pa.timestamp("us", "UTC")
        case Integer():
            return pa.int64()
        case Number():
            return pa.float64()
        case Boolean():
            return pa.bool_()
        case Map():
            return pa.map_(pa.string(), _type(shape.values, pii, path))
        case Array():
            return pa.list_(_type(shape.items, pii, path))
        case Object():
            return pa.struct(_fields(shape, pii, path + "."))
