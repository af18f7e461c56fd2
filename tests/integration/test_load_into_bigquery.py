"""The load flow fills BigQuery with the rows that it puts into the lake where there is no dataset,
and refuses to go on where it would leave a hole."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import duckdb
import pytest
from bigquery_faults import COMMIT, Fault
from flow_bench import Bench
from grpc import StatusCode
from places import wait_until
from warehouse_places import Warehouse, emulated

from dataflows.connectors import bigquery as connector
from dataflows.connectors.bigquery_client import BigQueryError, BigQueryUnavailable
from dataflows.connectors.lake import lake_files
from dataflows.contracts import load_contracts
from dataflows.flows.opening import builder
from dataflows.runtime.config import HOUSE
from dataflows.runtime.recovery import reset_recovery
from dataflows.runtime.slot import Refused, Slot, run_slot
from services.schema.bigquery import wanted_table, wanted_tables
from services.schema.dataset import Dataset

CLICKS = "events.clickstream"
SLOT = "load.events.clickstream.0"
VALUES = {
    "transactions": "transaction_id, CAST(total_amount * 100 AS INT64), ",
    "sessions": "session_id, event_count, capped, ",
    "dead_letters": "reason, value, ",
}
FLOWS = ("ingest", "sessionize", "features", "score", "late")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with emulated(tmp_path_factory.mktemp("bigquery")) as found:
        yield found


@pytest.fixture
def warehouse(emulator: Warehouse) -> Warehouse:
    assert emulator.faults is not None
    emulator.faults.forget()
    emulator.create_tables()
    return emulator


@pytest.fixture
def shop(warehouse: Warehouse, bench: Callable[..., Bench]) -> Callable[..., Bench]:
    """A bench whose load flow writes the dataset, three records a commit."""

    def make(**overrides: object) -> Bench:
        settings = {
            "bigquery__dataset": warehouse.dataset,
            "bigquery__commit_records": 3,
            "slots__batch_records": 2,
            "slots__snapshot_interval": "60s",
        }
        return bench(**settings | overrides)

    return make


def click(number: int, **changes: object) -> bytes:
    document = {
        "event_id": f"e{number}",
        "event_type": "page_view",
        "user_id": "u",
        "event_timestamp": 1_780_000_000_000 + number,
    }
    return json.dumps(document | changes).encode()


def clicks(bench: Bench, start: int, stop: int) -> None:
    for number in range(start, stop):
        bench.publish(CLICKS, [click(number)])


def rests(slot: Slot, offset: int) -> bool:
    return slot.stats.next_offset == offset == slot.parked_at


def load(bench: Bench) -> None:
    bench.run("load", topic=CLICKS)


def test_every_table_holds_the_rows_of_the_lake(warehouse: Warehouse, tmp_path: Path) -> None:
    made = Bench(tmp_path / "lake")
    made.simulate(days=3, events=3_000)
    made.run(*FLOWS)
    made.log.close()
    shutil.copytree(tmp_path / "lake", tmp_path / "bigquery")
    into_lake = Bench(tmp_path / "lake")
    into_bigquery = Bench(tmp_path / "bigquery", **{"bigquery.dataset": warehouse.dataset})
    for bench in (into_lake, into_bigquery):
        bench.run("load")
        bench.log.close()
    assert not into_bigquery.shop.config.lake_path.exists()
    lineage = "_topic, {}, _offset, event_date"
    filled = set()
    for table in wanted_tables(into_lake.shop.contracts):
        values = VALUES.get(table, "") + lineage
        found = warehouse.rows(table, values.format("_log_partition"))
        files = lake_files(into_lake.shop.config.lake_path, table)
        if files:
            names = [str(file) for file in files]
            lake = duckdb.read_parquet(names, hive_partitioning=True)
            wanted = lake.project(values.format("_partition")).fetchall()
            assert sorted(map(repr, found)) == sorted(map(repr, wanted)), table
            filled.add(table)
        else:
            assert found == []
    assert filled >= {"clickstream", "transactions", "sessions", "scores", "dead_letters"}


def test_rows_that_bigquery_refuses_are_dead_letters_in_its_words(
    warehouse: Warehouse, shop: Callable[..., Bench]
) -> None:
    made = shop()
    huge = click(2)[:-1] + b',"extras":{"size":1e400}}'
    made.publish(CLICKS, [click(0), b"{", huge, click(3)])
    load(made)
    assert warehouse.offsets("clickstream", CLICKS) == [0, 3]
    letters = {dict(r.headers)["dlq-reason"]: r for r in made.records("dlq.load")}
    assert letters.keys() == {b"not_json", b"refused"}
    refused = letters[b"refused"]
    assert refused.value == huge
    headers = dict(refused.headers)
    assert headers["dlq-message"] == b'extras: no JSON: {"size":1e400}'
    assert (headers["dlq-topic"], headers["dlq-offset"]) == (CLICKS.encode(), b"2")
    (day,) = made.log.markers()[SLOT].counts.values()
    assert day == {"good": 2, "failed.not_json": 1, "failed.refused": 1}


def test_a_replay_of_what_is_there_adds_nothing(
    warehouse: Warehouse, shop: Callable[..., Bench]
) -> None:
    made = shop()
    clicks(made, 0, 7)
    load(made)
    before = made.log.markers()[SLOT]
    reset_recovery(made.shop.config.state_path / SLOT)
    load(made)
    assert warehouse.offsets("clickstream", CLICKS) == list(range(7))
    assert made.log.markers()[SLOT] == before
    clicks(made, 7, 9)
    load(made)
    assert warehouse.offsets("clickstream", CLICKS) == list(range(9))


def test_a_table_that_was_made_anew_is_filled_again_once_told_to(
    warehouse: Warehouse, shop: Callable[..., Bench]
) -> None:
    made = shop()
    clicks(made, 0, 7)
    load(made)
    warehouse.create_tables()
    clicks(made, 7, 9)
    with pytest.raises(Refused, match="up to offset 0 only, and its state is at 7; restore"):
        load(made)
    assert warehouse.offsets("clickstream", CLICKS) == []
    reset_recovery(made.shop.config.state_path / SLOT)
    load(made)
    assert warehouse.offsets("clickstream", CLICKS) == list(range(9))
    (day,) = made.log.markers()[SLOT].counts.values()
    assert day == {"good": 9}


def test_what_was_loaded_into_the_lake_is_not_left_out(
    warehouse: Warehouse, shop: Callable[..., Bench]
) -> None:
    made = shop(bigquery__dataset="")
    clicks(made, 0, 4)
    load(made)
    made = shop()
    with pytest.raises(Refused, match="load it again with `tidegate reset load`"):
        load(made)
    reset_recovery(made.shop.config.state_path / SLOT)
    load(made)
    assert warehouse.offsets("clickstream", CLICKS) == [0, 1, 2, 3]


def test_rows_of_another_log_are_not_taken_for_ours(
    warehouse: Warehouse, shop: Callable[..., Bench], tmp_path: Path
) -> None:
    made = shop()
    clicks(made, 0, 4)
    load(made)
    other = Bench(tmp_path / "other", **{"bigquery.dataset": warehouse.dataset})
    clicks(other, 0, 9)
    with pytest.raises(Refused, match="they are another log's; use another dataset"):
        load(other)
    other.log.close()
    assert warehouse.offsets("clickstream", CLICKS) == [0, 1, 2, 3]


def test_rows_that_were_lost_before_their_commit_are_written_again(
    warehouse: Warehouse, shop: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when BigQuery has dropped a stream that nobody committed for days."""
    assert warehouse.faults is not None
    monkeypatch.setattr(connector, "PATIENCE_S", 0.5)
    made = shop()
    clicks(made, 0, 5)
    warehouse.faults.fail(COMMIT, *[Fault(StatusCode.UNAVAILABLE)] * 1_000)
    with pytest.raises(BigQueryUnavailable, match="does not answer"):
        load(made)
    assert warehouse.offsets("clickstream", CLICKS) == []
    assert made.log.markers()[SLOT].next_offset == 4
    warehouse.faults.forget()
    warehouse.faults.fail(COMMIT, Fault(StatusCode.NOT_FOUND))
    load(made)
    assert warehouse.offsets("clickstream", CLICKS) == list(range(5))
    (day,) = made.log.markers()[SLOT].counts.values()
    assert day == {"good": 5}


def test_a_column_that_comes_while_it_runs_is_waited_for(
    warehouse: Warehouse, shop: Callable[..., Bench], tmp_path: Path
) -> None:
    """Contracts ahead of the table: `tidegate schema apply` is all it takes, no restart."""
    schemas = tmp_path / "schemas"
    shutil.copytree(HOUSE / "schemas", schemas)
    file = schemas / "clickstream" / "v1.schema.json"
    schema = json.loads(file.read_text())
    schema["properties"]["coupon"] = {"type": "string"}
    file.write_text(json.dumps(schema))
    made = shop(schemas=str(schemas))
    made.publish(CLICKS, [click(0, coupon="x")])
    runs = threading.Thread(target=load, args=[made])
    runs.start()
    time.sleep(2)
    assert runs.is_alive()
    (wanted,) = [each for each in load_contracts(schemas).values() if each.source == "clickstream"]
    Dataset(warehouse.dataset).change("clickstream", wanted_table(wanted))
    sql = f"ALTER TABLE `{warehouse.dataset}.clickstream` ADD COLUMN IF NOT EXISTS coupon STRING"
    warehouse.client.query(sql).result()  # the emulator's rows learn of a column by this alone
    runs.join(60)
    assert warehouse.rows("clickstream", "_offset, coupon") == [(0, "x")]


def test_a_slot_that_wakes_up_does_not_ask_the_table_again(
    warehouse: Warehouse, shop: Callable[..., Bench]
) -> None:
    assert warehouse.faults is not None
    made = shop(slots__park_after="100ms", slots__poll_idle="20ms")
    slot = next(each for each in made.shop.slots("load") if each.name == SLOT)
    runs = threading.Thread(target=run_slot, args=[slot, builder(made.shop, "load")])
    commits = warehouse.faults.calls[COMMIT]
    runs.start()
    for stop in (3, 6):
        clicks(made, stop - 3, stop)
        wait_until(partial(rests, slot, stop), "it rests")
    slot.stop.set()
    runs.join()
    assert warehouse.offsets("clickstream", CLICKS) == list(range(6))
    assert warehouse.faults.calls[COMMIT] - commits == 2  # none to make sure of the first


def test_a_table_that_is_not_there_is_said_before_anything_is_read(
    warehouse: Warehouse, shop: Callable[..., Bench]
) -> None:
    made = shop()
    clicks(made, 0, 3)
    warehouse.client.delete_table(f"{warehouse.dataset}.clickstream")
    with pytest.raises(BigQueryError, match=r"clickstream: there is no such table.*schema apply"):
        load(made)
    assert SLOT not in made.log.markers()
