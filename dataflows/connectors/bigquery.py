"""A table of BigQuery as a slot writes it: Storage Write API, Arrow, one PENDING stream a commit.

    prepare   create a stream -> append -> finalize          nobody sees the rows
              ... the slot's marker names the stream, in the log ...
    commit    BatchCommitWriteStreams                        everybody sees all of them

A stream is committed once, whoever asks and however often. So what the marker names is committed by
the next owner of the slot where the last one died, or stands still: its late commit changes
nothing. What no marker names is never committed, and BigQuery forgets it.

The table decides what is there. Where the service cannot say what became of a stream, the greatest
offset in the table's lineage columns tells: the rows of a slot come in order, a stream is whole or
not there, and rows that were refused are dead letters by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataflows.connectors.bigquery_client import (
    BigQueryError,
    BigQueryUnavailable,
    connect,
    connect_writer,
    explained,
    first_line,
    parse_dataset,
)
from dataflows.connectors.lake import DATE_COLUMN
from dataflows.connectors.log import Prepared

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud.bigquery_storage_v1 import types

LINEAGE_PARTITION = "_log_partition"  # BigQuery takes no name that begins with _partition

PATIENCE_S = 20.0  # for each of two phases: a slot that does not poll for a minute counts as stuck
CALL_S = 10.0
MAX_REQUEST_BYTES = 7 * 2**20  # BigQuery takes 10 MB, with all that is around the rows
_ANY_DAY = "DATE '0001-01-01'"  # a query must name its days

T = TypeVar("T")


class TableBehind(BigQueryUnavailable):
    """The table has no such column yet."""


@dataclass(frozen=True)
class Preparation:
    """What became of rows: those that wait for their commit (None: not one does), and, by their
    input offset, those that BigQuery does not take, and why."""

    prepared: Prepared | None
    refused: dict[int, str]


class BigQueryTable:
    """What one partition of one topic puts into one table. For one thread at a time.

    Args:
        dataset: project.dataset.

    Raises:
        BigQueryError: no such name, no client, or no credentials.
    """

    def __init__(self, dataset: str, table: str, topic: str, partition: int):
        project, name = parse_dataset(dataset)
        self.name = f"{dataset}.{table}"
        self._path = f"projects/{project}/datasets/{name}/tables/{table}"
        self._topic, self._partition = topic, partition
        self._query, self._write = connect(project), connect_writer()

    def close(self) -> None:
        self._query.close()
        self._write.transport.close()

    def next_offset(self) -> int:
        """The offset after the greatest that is in the table; 0 where there is none.

        Raises:
            BigQueryError: the table cannot be asked.
        """
        from google.cloud.bigquery import QueryJobConfig, ScalarQueryParameter

        config = QueryJobConfig(
            query_parameters=[
                ScalarQueryParameter("topic", "STRING", self._topic),
                ScalarQueryParameter("partition", "INT64", self._partition),
            ]
        )
        sql = (
            f"SELECT MAX(_offset) FROM `{self.name}` WHERE {DATE_COLUMN} >= {_ANY_DAY} "
            f"AND _topic = @topic AND {LINEAGE_PARTITION} = @partition"
        )
        with explained(self.name):
            job = self._query.query(sql, job_config=config, retry=_retry(), timeout=CALL_S)
            (row,) = job.result(retry=_retry(), timeout=PATIENCE_S)
        return 0 if row[0] is None else int(row[0]) + 1

    def prepare(self, rows: pa.Table, dates: NDArray[np.datetime64]) -> Preparation:
        """Puts rows into a stream of their own, where nobody sees them.

        What is in doubt is left behind, and a new stream begun.

        Args:
            rows: at least one, in the order of their offsets, with lineage columns.
            dates: the event date of each.

        Raises:
            BigQueryUnavailable: no answer, or no column for what there is, for PATIENCE_S.
            BigQueryError: no such table, not allowed, or refused as a whole.
        """
        days = pa.array(dates.astype("datetime64[D]"), pa.date32())
        names = [LINEAGE_PARTITION if n == "_partition" else n for n in rows.column_names]
        whole = rows.rename_columns(names).append_column(DATE_COLUMN, days)
        return self._tried_again(lambda: self._attempt(whole))

    def commit(self, prepared: Prepared) -> bool:
        """Makes prepared rows visible; can be done again. False: they are not there, nor will be.

        Raises:
            BigQueryUnavailable: no answer for PATIENCE_S. Whether it was done, the next call tells.
            BigQueryError: no such table, or not allowed.
        """
        if not prepared.stream.startswith(f"{self._path}/streams/"):
            return False
        committed = self._tried_again(lambda: self._commit_stream(prepared.stream))
        return committed or self.next_offset() > prepared.last_offset

    def _commit_stream(self, stream: str) -> bool:
        """False: this call did not do it, and no later one will; an earlier one has, maybe."""
        from google.api_core.exceptions import FailedPrecondition, NotFound
        from google.cloud.bigquery_storage_v1 import types

        request = types.BatchCommitWriteStreamsRequest(parent=self._path, write_streams=[stream])
        try:
            done = self._write.batch_commit_write_streams(request, retry=None, timeout=CALL_S)
        except (NotFound, FailedPrecondition):
            return False
        codes = types.StorageError.StorageErrorCode
        for error in done.stream_errors:
            if error.code in (codes.STREAM_NOT_FOUND, codes.INVALID_STREAM_STATE):
                return False
            if error.code != codes.STREAM_ALREADY_COMMITTED:
                # Such a stream may be committed later: its rows must not go into another one.
                raise BigQueryError(
                    f"{self.name}: prepared rows cannot be committed ({error.error_message}); once "
                    "that is put right, a start commits them"
                )
        return True

    def _attempt(self, rows: pa.Table) -> Preparation:
        stream = self._create_stream()
        errors = self._append(stream.name, fitted(rows, stream.table_schema, self.name))
        offsets = rows.column("_offset").to_numpy()
        refused = {int(offsets[place]): why for place, why in errors.items()}
        taken = np.delete(offsets, list(errors))
        if not len(taken):
            return Preparation(None, refused)
        with _doubtful():
            sealed = self._write.finalize_write_stream(
                name=stream.name, retry=None, timeout=CALL_S
            ).row_count
        if sealed != len(taken):
            raise _InDoubt(f"{stream.name} holds {sealed} rows of {len(taken)}")
        return Preparation(Prepared(stream.name, int(taken[-1])), refused)

    def _create_stream(self) -> types.WriteStream:
        from google.cloud.bigquery_storage_v1 import types

        kind = types.WriteStream(type_=types.WriteStream.Type.PENDING)
        return self._write.create_write_stream(
            parent=self._path, write_stream=kind, retry=None, timeout=CALL_S
        )

    def _append(self, stream: str, rows: pa.RecordBatch) -> dict[int, str]:
        """Sends rows; returns those that were refused, by place, and why.

        A request with a row that cannot be taken is refused as a whole: it goes again without.
        """
        refused: dict[int, str] = {}
        sent = 0
        for places, part in _parts(np.arange(rows.num_rows), rows):
            while part.num_rows and (errors := self._append_part(stream, sent, part)):
                refused |= {int(places[row]): why for row, why in errors.items()}
                kept = np.setdiff1d(np.arange(part.num_rows), list(errors))
                part, places = part.take(pa.array(kept)), places[kept]
            sent += part.num_rows
        return refused

    def _append_part(self, stream: str, offset: int, rows: pa.RecordBatch) -> dict[int, str]:
        """One request, on a connection of its own; the rows for which it was refused, and why."""
        requests = iter([_append_request(stream, offset, rows)])
        # Of a call that streams, the client does not see which region it has to go to.
        route = [("x-goog-request-params", f"write_stream={stream}")]
        with _doubtful():
            replies = list(
                self._write.append_rows(requests, retry=None, timeout=CALL_S, metadata=route)
            )
        if not replies:
            raise _InDoubt("the connection was closed without an answer")
        return _row_errors(replies[0])

    def _tried_again(self, call: Callable[[], T]) -> T:
        from google.api_core.exceptions import RetryError

        with explained(self.name):
            try:
                found: T = _retry(_may_pass)(call)()
                return found
            except RetryError as error:
                if isinstance(error.cause, TableBehind):
                    raise error.cause from error
                raise


class _InDoubt(Exception):
    """A stream of which nobody knows what it holds; another one will do."""


def fitted(rows: pa.Table, schema: types.TableSchema, table: str) -> pa.RecordBatch:
    """Rows as the table takes them now: its numbers may have become wider, and it has no maps.

    Columns that only the table has stay empty.

    Raises:
        TableBehind: a column that the table does not have.
    """
    there = {column.name: column for column in schema.fields}
    for name in rows.column_names:
        if name not in there:
            raise TableBehind(
                f"{table} has no column {name}; `tidegate schema apply --bigquery "
                f"{table.rpartition('.')[0]}` adds it"
            )
    columns = [
        _fitted(rows.column(name).combine_chunks(), there[name]) for name in rows.column_names
    ]
    return pa.RecordBatch.from_arrays(columns, names=rows.column_names)


def _fitted(values: pa.Array, column: types.TableFieldSchema) -> pa.Array:
    if pa.types.is_map(values.type):
        pairs = [("key", values.type.key_type), ("value", values.type.item_type)]
        values = values.cast(pa.list_(pa.struct(pairs)))
    if pa.types.is_list(values.type):
        inner = _fitted(values.values, column)
        return pa.ListArray.from_arrays(
            values.offsets, inner, mask=values.is_null() if values.null_count else None
        )
    if pa.types.is_struct(values.type):
        there = {inner.name: inner for inner in column.fields}
        inners = [
            _fitted(values.field(place), there[name]) if name in there else values.field(place)
            for place, name in enumerate(values.type.names)
        ]
        return pa.StructArray.from_arrays(
            inners, values.type.names, mask=values.is_null() if values.null_count else None
        )
    wanted = _NUMBERS.get(column.type_.name)
    is_number = pa.types.is_integer(values.type) or pa.types.is_decimal(values.type)
    return values.cast(wanted) if wanted is not None and is_number else values


_NUMBERS = {
    "INT64": pa.int64(),
    "DOUBLE": pa.float64(),
    "NUMERIC": pa.decimal128(38, 9),
    "BIGNUMERIC": pa.decimal256(76, 38),
}


def _parts(
    places: NDArray[np.int64], rows: pa.RecordBatch
) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
    """Rows and their places in pieces that a request can carry."""
    half = rows.num_rows // 2
    if not half or pa.ipc.get_record_batch_size(rows) <= MAX_REQUEST_BYTES:
        yield places, rows
    else:
        yield from _parts(places[:half], rows.slice(0, half))
        yield from _parts(places[half:], rows.slice(half))


def _append_request(stream: str, offset: int, rows: pa.RecordBatch) -> types.AppendRowsRequest:
    from google.cloud.bigquery_storage_v1 import types

    return types.AppendRowsRequest(
        write_stream=stream,
        offset=offset,
        arrow_rows=types.AppendRowsRequest.ArrowData(
            writer_schema=types.ArrowSchema(serialized_schema=rows.schema.serialize().to_pybytes()),
            rows=types.ArrowRecordBatch(serialized_record_batch=rows.serialize().to_pybytes()),
        ),
    )


def _row_errors(reply: types.AppendRowsResponse) -> dict[int, str]:
    """The rows because of which a request was refused, by place, and why; none if it was taken.

    Raises:
        GoogleAPICallError: it was refused for another reason.
    """
    from google.api_core.exceptions import from_grpc_status

    if reply.row_errors:
        return {int(error.index): error.message for error in reply.row_errors}
    if reply.error.code and reply.error.code != _ALREADY_EXISTS:
        with _doubtful():
            raise from_grpc_status(reply.error.code, reply.error.message)
    return {}


_ALREADY_EXISTS = 6  # gRPC's code: these very rows are in the stream, by this attempt


@contextmanager
def _doubtful() -> Iterator[None]:
    """What says that a stream is not as expected is no reason to give up: another one is begun."""
    from google.api_core.exceptions import AlreadyExists, FailedPrecondition, NotFound, OutOfRange

    try:
        yield
    except (AlreadyExists, FailedPrecondition, NotFound, OutOfRange) as error:
        raise _InDoubt(first_line(error)) from error


def _may_pass(error: Exception) -> bool:
    from google.api_core.exceptions import Aborted, Cancelled, ServerError, TooManyRequests

    transient = (_InDoubt, TableBehind, Aborted, Cancelled, ServerError, TooManyRequests)
    return isinstance(error, transient)


def _retry(may_pass: Callable[[Exception], bool] | None = None) -> Retry:
    """Exponential backoff with jitter, for PATIENCE_S."""
    from google.api_core.retry import Retry
    from google.cloud.bigquery.retry import DEFAULT_RETRY

    if may_pass is None:
        return DEFAULT_RETRY.with_timeout(PATIENCE_S)
    return Retry(may_pass, initial=0.1, maximum=5.0, timeout=PATIENCE_S)
