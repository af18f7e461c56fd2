"""A lake of any size, made by DuckDB: a shop's month, in the columns of the contracts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import duckdb

from dataflows.connectors.lake import LakeFile
from dataflows.contracts import load_contracts
from dataflows.runtime.config import Config
from services.warehouse.bronze import BronzeTable, bronze_tables

FIRST = date(2026, 3, 2)
DAYS = 30
PRODUCTS = 2_000

# What a column holds; those that are not named are null. n is the row's number, over all days;
# instant its time; u a number that tells its user.
_EVENT = {
    "event_timestamp": "instant",
    "user_id": "'C' || u",
    "lateness": "'on_time'",
    "arrived_at": "instant + INTERVAL 2 SECOND",
    "raw_offset": "n",
}
_SESSION = {
    "session_id": "md5('s' || n)",
    "user_id": "'C' || u",
    "started_at": "instant",
    "ended_at": "instant + to_seconds(CAST(n % 1800 AS BIGINT))",
    "event_count": "1 + n % 9",
    "funnel_stage": "['visit', 'product_view', 'cart', 'checkout', 'purchase'][1 + n % 5]",
    "capped": "false",
    "revision": "1",
}
_PAYMENT = {
    "transaction_id": "md5('t' || n)",
    "user_id": "'C' || u",
    "event_timestamp": "instant",
    "total_amount": "30.00",
    "currency": "'EUR'",
}
_ITEM = "{'product_id': 'P' || (n + k) % 2000, 'quantity': 1, 'unit_price': 10.00, 'amount': 10.00}"
_TABLES: Mapping[str, Mapping[str, str]] = {
    "clickstream": _EVENT
    | {
        "event_id": "uuid()",
        "event_type": "['product_view', 'product_view', 'product_view', 'category_view', "
        "'page_view', 'add_to_cart', 'search', 'checkout_start'][1 + CAST(hash(n) % 8 AS BIGINT)]",
        "page_url": "'https://shop.example/p/' || n % 2000",
        "page_title": "'Product number ' || n % 2000",
        "product_id": "'P' || n % 2000",
        "category": "'category ' || n % 40",
        "device": "{'device_id': 'd-' || md5('d' || u), 'user_agent': 'Mozilla/5.0 (X11; Linux) "
        "AppleWebKit/605.' || u % 300, 'language': 'de-AT'}",
        "device_class": "'desktop'",
        "ip_address": "md5('i' || u)",
        "geo": "{'country': 'AT', 'city': 'Graz'}",
        "customer": '\'{"segment":"loyal","address":{"country":"AT"}}\'',
    },
    "transactions": _EVENT
    | _PAYMENT
    | {
        "items": f"[{_ITEM.replace('k', '0')}, {_ITEM.replace('k', '1')}, "
        f"{_ITEM.replace('k', '2')}]",
        "status": "'captured'",
        "device": "{'device_id': 'd-' || md5('d' || u), 'user_agent': 'Mozilla/5.0', "
        "'language': 'de-AT'}",
        "order_id": "'O' || n",
    },
    "sessions": _SESSION,
    "scores": _PAYMENT
    | {"score": "(n % 100) / 100", "decision": "'allow'", "rules": "[]", "rule_set": "'r1'"},
    "customer_profiles": _EVENT
    | {"event_id": "uuid()", "segment": "['new', 'regular', 'loyal', 'vip'][1 + n % 4]"},
    "product_catalog": _EVENT
    | {
        "event_id": "uuid()",
        "product_id": "'P' || n % 2000",
        "name": "'Product number ' || n % 2000",
        "category": "'category ' || n % 40",
        "price": "10.00",
        "currency": "'EUR'",
    },
}


def sizes(users: int, events: int) -> dict[str, int]:
    """Rows of each table; clicks and payments together are the events."""
    payments = events // 14
    return {
        "clickstream": events - payments,
        "transactions": payments,
        "sessions": events // 6,
        "scores": payments,
        "customer_profiles": users,
        "product_catalog": PRODUCTS,
    }


def make_lake(config: Config, users: int, events: int) -> None:
    """A month's lake, a file a table and day."""
    tables = bronze_tables(load_contracts(Path(config.schemas)))
    with duckdb.connect(config={"preserve_insertion_order": False}) as database:
        database.execute("SET TimeZone = 'UTC'")
        for name, rows in sizes(users, events).items():
            bounds = [rows * day // DAYS for day in range(DAYS + 1)]
            for day in range(DAYS):
                write_day(database, config, tables[name], day, bounds[day], bounds[day + 1], users)


def write_day(
    database: duckdb.DuckDBPyConnection,
    config: Config,
    table: BronzeTable,
    day: int,
    start: int,
    stop: int,
    users: int,
    topic: str = "",
) -> None:
    """Rows start..stop-1 of a table, spread over one day, as one file of one slot."""
    if start == stop:
        return
    topic = topic or (f"events.{table.name}" if table.of_contract else table.name)
    lineage = {"_topic": f"'{topic}'", "_partition": "0", "_offset": "n"}
    values = {**_TABLES[table.name], **lineage}
    empty = database.from_arrow(table.in_lake.empty_table())
    columns = ", ".join(
        f'CAST({values.get(column, "NULL")} AS {kind}) AS "{column}"'
        for column, kind in zip(empty.columns, empty.types, strict=True)
    )
    on = FIRST + timedelta(day)
    file = LakeFile(str(on), f"{topic}.0", start, stop)
    target = config.lake_path / table.name / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    user = "n" if table.name == "customer_profiles" else f"hash(n) % {users}"
    database.execute(
        f"COPY (SELECT {columns} FROM (SELECT range AS n, {user} AS u, TIMESTAMPTZ '{on} 00:00:00Z'"
        f" + to_microseconds(CAST(hash(range) % 86400000000 AS BIGINT)) AS instant "
        f"FROM range({start}, {stop}))) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
    )
