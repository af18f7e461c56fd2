"""What a day of a table holds, told by its rows alone: not by files, nor by their order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataflows.flows.load import LINEAGE
from services.archive.errors import ArchiveError

_ROWS_AT_ONCE = 65_536


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The log records that rows come from: `rows` of those between two offsets, both included."""

    topic: str
    partition: int
    first: int
    last: int
    rows: int


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Equal if and only if the rows are: names, types and values, each as often as before."""

    rows: int
    sha256: str
    columns: dict[str, str]  # Arrow's types
    lineage: list[Span]


def read_content(files: Sequence[Path], called: str) -> Content:
    """What Parquet files hold together; a column that some of them lack is null there.

    Raises:
        ArchiveError: they are no Parquet files of one table with lineage; `called` names it.
    """
    try:
        tables = [pq.ParquetFile(file).read() for file in files]
        rows = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ArchiveError(
            f"{called}: its files cannot be read as one table ({reason}); move what is broken out "
            "of it, or put it right"
        ) from error
    missing = [name for name, _ in LINEAGE if name not in rows.column_names]
    if missing:
        raise ArchiveError(
            f"{called}: has no column {missing[0]}, which says what record of the log a row is; "
            "only tables that the load flow wrote can be archived"
        )
    return content_of(rows)


def content_of(rows: pa.Table) -> Content:
    """What rows with lineage hold, in whatever order they and their columns are."""
    rows = rows.select(sorted(rows.column_names))
    columns = {field.name: str(field.type) for field in rows.schema}
    order = pc.sort_indices(rows, [(name, "ascending") for name, _ in LINEAGE])
    digest = hashlib.sha256(msgspec.json.encode(columns))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        for column in rows.take(order.slice(start, _ROWS_AT_ONCE)).columns:
            _digest(digest, column.combine_chunks())
    return Content(len(rows), digest.hexdigest(), columns, _spans(rows))


def _spans(rows: pa.Table) -> list[Span]:
    topic, partition, offset = (name for name, _ in LINEAGE)
    found = rows.group_by([topic, partition]).aggregate(
        [(offset, "min"), (offset, "max"), (offset, "count")]
    )
    spans = zip(*(column.to_pylist() for column in found.columns), strict=True)
    return sorted((Span(*span) for span in spans), key=lambda span: (span.topic, span.partition))


def _digest(digest: Any, values: pa.Array) -> None:
    """Takes in what is null, then what is not: bytes below a null are left out, for they differ."""
    kind = values.type
    digest.update(len(values).to_bytes(8, "little"))
    if pa.types.is_null(kind):
        return
    _digest_fixed(digest, values.is_valid().cast(pa.uint8()))
    if pa.types.is_struct(kind):
        for field in values.flatten():
            _digest(digest, field)
    elif pa.types.is_map(kind):
        entry = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        _digest(digest, values.cast(pa.list_(entry)))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        _digest_fixed(digest, pc.list_value_length(values).drop_null().cast(pa.int64()))
        _digest(digest, values.flatten())
    elif pa.types.is_boolean(kind):
        _digest_fixed(digest, values.drop_null().cast(pa.uint8()))
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        large = values.drop_null().cast(pa.large_binary())
        _digest_fixed(digest, pc.binary_length(large))
        digest.update(b"".join(large.to_pylist()))
    else:
        _digest_fixed(digest, values.drop_null())


def _digest_fixed(digest: Any, values: pa.Array) -> None:
    """Takes in values of one width, none of them null."""
    width = values.type.bit_width // 8
    start = values.offset * width
    if len(values):
        digest.update(values.buffers()[1][start : start + len(values) * width])
