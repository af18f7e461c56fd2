"""What BigQuery must do for Tidegate to rely on it: an emulator by default, the service itself by
`make test-gcp PROJECT=...`."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.cloud import bigquery
from warehouse_places import PROJECT_VARIABLE, Warehouse, given

from dataflows.connectors import bigquery as connector
from dataflows.connectors.bigquery import BigQueryTable, TableBehind
from dataflows.connectors.bigquery_client import BigQueryError
from dataflows.connectors.log import Prepared

TOPIC = "events.t"
COLUMNS: list[dict[str, Any]] = [
    {"name": "n", "type": "INTEGER", "mode": "REQUIRED"},
    {"name": "text", "type": "STRING"},
    {"name": "amount", "type": "NUMERIC"},
    {"name": "moment", "type": "TIMESTAMP"},
    {"name": "extras", "type": "JSON"},
    {"name": "raw", "type": "BYTES"},
    {
        "name": "items",
        "type": "RECORD",
        "mode": "REPEATED",
        "fields": [{"name": "sku", "type": "STRING"}, {"name": "price", "type": "NUMERIC"}],
    },
    {
        "name": "attributes",
        "type": "RECORD",
        "mode": "REPEATED",
        "fields": [{"name": "key", "type": "STRING"}, {"name": "value", "type": "STRING"}],
    },
    {"name": "_topic", "type": "STRING", "mode": "REQUIRED"},
    {"name": "_log_partition", "type": "INTEGER", "mode": "REQUIRED"},
    {"name": "_offset", "type": "INTEGER", "mode": "REQUIRED"},
    {"name": "event_date", "type": "DATE", "mode": "REQUIRED"},
]
ARROW = pa.schema(
    [
        ("n", pa.int64()),
        ("text", pa.string()),
        ("amount", pa.decimal128(18, 2)),
        ("moment", pa.timestamp("us", "UTC")),
        ("extras", pa.string()),
        ("raw", pa.binary()),
        ("items", pa.list_(pa.struct([("sku", pa.string()), ("price", pa.decimal128(18, 2))]))),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("_topic", pa.string()),
        ("_partition", pa.int64()),
        ("_offset", pa.int64()),
    ]
)
SERVICE_S = 900.0  # in which the service sees that a table has changed

PATIENCE_S = 5.0 if PROJECT_VARIABLE not in os.environ else connector.PATIENCE_S
Open = Callable[..., BigQueryTable]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "PATIENCE_S", PATIENCE_S)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with given(tmp_path_factory.mktemp("bigquery")) as found:
        yield found


_names = (f"t{number}" for number in itertools.count())


@pytest.fixture
def table(warehouse: Warehouse) -> str:
    name = next(_names)
    warehouse.create(name, COLUMNS)
    return name


@pytest.fixture
def opened(warehouse: Warehouse, table: str) -> Iterator[Open]:
    made: list[BigQueryTable] = []

    def make(topic: str = TOPIC, partition: int = 0, name: str = table) -> BigQueryTable:
        made.append(BigQueryTable(warehouse.dataset, name, topic, partition))
        return made[-1]

    yield make
    for each in made:
        each.close()


def rows(
    start: int, stop: int, topic: str = TOPIC, partition: int = 0, **changed: object
) -> pa.Table:
    """A row for each offset; `changed` are other values of columns, for all of them."""
    documents = [
        {
            "n": n,
            "text": f"row {n}",
            "amount": Decimal(n) / 100,
            "moment": datetime(2026, 5, 1, 12, 0, 0, n, tzinfo=UTC),
            "extras": f'{{"n":{n}}}',
            "raw": bytes([n % 256, 0, 255]),
            "items": [{"sku": f"s{n}", "price": Decimal("-9999999999999999.99")}] * (n % 3),
            "attributes": [("colour", "red")] * (n % 2),
            "_topic": topic,
            "_partition": partition,
            "_offset": n,
            **changed,
        }
        for n in range(start, stop)
    ]
    return pa.Table.from_pylist(documents, ARROW)


def days(count: int) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    return np.datetime64("2026-05-01") + (np.arange(count) % 3).astype("timedelta64[D]")


def prepare(table: BigQueryTable, some: pa.Table) -> Prepared:
    ready = table.prepare(some, days(len(some)))
    assert ready.prepared is not None
    assert ready.refused == {}
    return ready.prepared


def test_nobody_sees_rows_before_their_commit_and_they_come_back_as_they_were(
    warehouse: Warehouse, table: str, opened: Open
) -> None:
    ours = opened()
    prepared = prepare(ours, rows(0, 5))
    assert prepared.last_offset == 4
    assert warehouse.rows(table, "n") == []
    assert ours.commit(prepared)
    found = warehouse.rows(
        table, "n, text, amount, moment, TO_JSON_STRING(extras), raw, items, attributes, event_date"
    )
    assert [row[0] for row in found] == [0, 1, 2, 3, 4]
    assert found[2] == (
        2,
        "row 2",
        Decimal("0.02"),
        datetime(2026, 5, 1, 12, 0, 0, 2, tzinfo=UTC),
        '{"n":2}',
        b"\x02\x00\xff",
        [{"sku": "s2", "price": Decimal("-9999999999999999.99")}] * 2,
        [],
        date(2026, 5, 3),
    )
    assert found[1][7] == [{"key": "colour", "value": "red"}]


def test_a_commit_that_is_asked_for_again_changes_nothing(
    warehouse: Warehouse, table: str, opened: Open
) -> None:
    ours = opened()
    prepared = prepare(ours, rows(0, 9))
    assert [ours.commit(prepared) for _ in range(3)] == [True] * 3
    assert warehouse.offsets(table, TOPIC) == list(range(9))


def test_who_comes_after_commits_what_was_prepared_and_a_late_commit_changes_nothing(
    warehouse: Warehouse, table: str, opened: Open
) -> None:
    zombie, owner = opened(), opened()
    prepared = prepare(zombie, rows(0, 9))
    prepare(zombie, rows(0, 9))  # nobody ever names this one
    assert owner.commit(prepared)
    assert owner.commit(prepare(owner, rows(9, 12)))
    assert zombie.commit(prepared)
    assert warehouse.offsets(table, TOPIC) == list(range(12))


def test_the_table_tells_how_far_each_partition_is(opened: Open) -> None:
    assert opened().next_offset() == 0
    for topic, partition, stop in ((TOPIC, 0, 7), (TOPIC, 1, 3), ("buffered.t", 0, 9)):
        ours = opened(topic, partition)
        assert ours.commit(prepare(ours, rows(0, stop, topic, partition)))
    assert opened().next_offset() == 7
    assert opened(partition=1).next_offset() == 3
    assert opened("buffered.t").next_offset() == 9
    assert opened("buffered.t", 1).next_offset() == 0


def test_rows_that_cannot_be_taken_are_named_and_the_others_are_taken(
    warehouse: Warehouse, table: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "MAX_REQUEST_BYTES", 4_000)  # several requests
    ours = opened()
    bad = rows(3, 4, extras='{"n":')
    worse = rows(40, 41, extras="{")
    some = pa.concat_tables([rows(0, 3), bad, rows(4, 40), worse])
    ready = ours.prepare(some, days(len(some)))
    assert ready.refused.keys() == {3, 40}
    assert "extras" in ready.refused[3] or "JSON" in ready.refused[3].upper()
    assert ready.prepared is not None
    assert ready.prepared.last_offset == 39
    assert ours.commit(ready.prepared)
    assert warehouse.offsets(table, TOPIC) == [n for n in range(40) if n != 3]


def test_where_no_row_can_be_taken_nothing_is_prepared(opened: Open) -> None:
    ready = opened().prepare(rows(0, 2, extras="{"), days(2))
    assert ready.prepared is None
    assert ready.refused.keys() == {0, 1}


def test_a_table_may_grow_while_it_is_written(
    warehouse: Warehouse, table: str, opened: Open
) -> None:
    ours = opened()
    assert ours.commit(prepare(ours, rows(0, 4)))
    _add_column(warehouse, table, "coupon")
    assert ours.commit(prepare(ours, rows(4, 8)))
    with_it = rows(8, 12).append_column("coupon", pa.array(["x"] * 4))
    assert ours.commit(_once_seen(ours, with_it))
    found = warehouse.rows(table, "_offset, coupon")
    assert found == [(n, "x" if n >= 8 else None) for n in range(12)]


def test_a_number_may_become_wider_while_it_is_written(
    warehouse: Warehouse, table: str, opened: Open
) -> None:
    ours = opened()
    assert ours.commit(prepare(ours, rows(0, 4)))
    sql = f"ALTER TABLE `{warehouse.dataset}.{table}` ALTER COLUMN n SET DATA TYPE FLOAT64"
    warehouse.client.query(sql).result()
    if warehouse.faults is not None:  # there, what SQL changes the API does not know
        there = warehouse.client.get_table(f"{warehouse.dataset}.{table}")
        fields = [field.to_api_repr() for field in there.schema]
        fields[0]["type"] = "FLOAT"
        there.schema = [bigquery.SchemaField.from_api_repr(field) for field in fields]
        warehouse.client.update_table(there, ["schema"])
    assert ours.commit(_once_seen(ours, rows(4, 8)))
    assert warehouse.rows(table, "n") == [(float(n),) for n in range(8)]


def test_a_column_that_the_table_lacks_is_named(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector, "PATIENCE_S", 1.0)
    with_it = rows(0, 2).append_column("coupon", pa.array(["x"] * 2))
    with pytest.raises(TableBehind, match="no column coupon; `tidegate schema apply") as caught:
        opened().prepare(with_it, days(2))
    assert caught.value.may_pass


def test_a_stream_that_is_not_of_this_table_or_not_at_all_is_not_committed(
    warehouse: Warehouse, opened: Open
) -> None:
    ours = opened()
    other = next(_names)
    warehouse.create(other, COLUMNS)
    theirs = opened(name=other)
    prepared = prepare(theirs, rows(0, 2))
    assert not ours.commit(prepared)
    table = prepared.stream.rpartition("/streams/")[0]
    assert not theirs.commit(Prepared(f"{table}/streams/0123456789abcdef", 1))
    assert theirs.commit(prepared)


def test_a_table_that_is_not_there_is_named(opened: Open) -> None:
    missing = opened(name="nowhere")
    for ask in (missing.next_offset, lambda: missing.prepare(rows(0, 1), days(1))):
        with pytest.raises(
            BigQueryError, match=r"nowhere: there is no such table.*schema apply"
        ) as e:
            ask()
        assert "\n" not in str(e.value)
        assert not e.value.may_pass


@pytest.mark.parametrize("name", ["bronze", "shop.", "shop.bro nze"])
def test_what_is_no_dataset_is_refused(name: str) -> None:
    with pytest.raises(BigQueryError, match=r"write project\.dataset"):
        BigQueryTable(name, "t", TOPIC, 0)


def _add_column(warehouse: Warehouse, table: str, column: str) -> None:
    there = warehouse.client.get_table(f"{warehouse.dataset}.{table}")
    there.schema = [*there.schema, bigquery.SchemaField(column, "STRING")]
    warehouse.client.update_table(there, ["schema"])
    if warehouse.faults is not None:  # there, rows learn of a column by this alone
        sql = f"ALTER TABLE `{warehouse.dataset}.{table}` ADD COLUMN IF NOT EXISTS {column} STRING"
        warehouse.client.query(sql).result()


def _once_seen(table: BigQueryTable, some: pa.Table) -> Prepared:
    """Prepares rows as soon as the service knows of a change, which takes it minutes."""
    give_up = time.monotonic() + SERVICE_S
    while True:
        try:
            return prepare(table, some)
        except TableBehind:
            if time.monotonic() > give_up:
                raise
