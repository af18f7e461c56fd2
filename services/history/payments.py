"""Past payments from the lake, in the order in which they arrived."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from services.history.errors import HistoryError

AT_ONCE = 50_000

_PAYMENTS = """
    SELECT transaction_id, user_id, epoch_us(event_timestamp) AS event_us,
        (total_amount * 100)::BIGINT AS cents, currency, status, len(items) AS items_count,
        payment.method AS payment_method, payment.card_id AS card_id,
        payment.card_country AS card_country, device.device_id AS device_id, shipping_country,
        json_extract_string(customer, '$.address.country') AS customer_country,
        json_extract_string(customer, '$.segment') AS customer_segment
    FROM read_parquet(?, union_by_name = true)
    WHERE _topic = 'events.transactions' AND status IS DISTINCT FROM 'refunded'
    ORDER BY arrived_at, _partition, _offset"""
_VERDICTS = """
    SELECT transaction_id, arg_max(verdict, (event_timestamp, _offset)) = 'fraud' AS is_fraud,
        epoch_us(max(event_timestamp)) AS known_us
    FROM read_parquet(?, union_by_name = true)
    GROUP BY transaction_id"""
_NO_VERDICTS = "SELECT '' AS transaction_id, true AS is_fraud, 0::BIGINT AS known_us WHERE false"


def payments(files: list[Path]) -> Iterator[pa.RecordBatch]:
    """Payments that the stream scored, from files of the lake's table `transactions`.

    Refunds are none, and events that came too late for the stream were not scored. Raises
    HistoryError if the table lacks a field.
    """
    with duckdb.connect() as connection:
        try:
            found = connection.execute(_PAYMENTS, [list(map(str, files))])
        except duckdb.BinderException as error:
            raise HistoryError(
                f"transactions in the lake lack a field that features read: {error}"
            ) from error
        yield from found.to_arrow_reader(AT_ONCE)


def verdicts(files: list[Path]) -> pa.Table:
    """transaction_id, is_fraud, known_us: the last word on each labelled payment, and when."""
    with duckdb.connect() as connection:
        if not files:
            return connection.sql(_NO_VERDICTS).to_arrow_table()
        return connection.execute(_VERDICTS, [list(map(str, files))]).to_arrow_table()
