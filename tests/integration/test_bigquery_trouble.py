"""What may befall a call to BigQuery costs time, and no row: each is there once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import grpc
import numpy as np
import pyarrow as pa
import pytest
from bigquery_faults import APPEND, COMMIT, CREATE, FINALIZE, LOST, METHODS, Fault, FaultyWriteApi
from faults_table import Figures
from warehouse_places import Warehouse, emulated

from dataflows.connectors import bigquery as connector
from dataflows.connectors.bigquery import BigQueryTable
from dataflows.connectors.bigquery_client import BigQueryError, BigQueryUnavailable

CODE = grpc.StatusCode
TOPIC = "events.t"
DAY = np.datetime64("2026-05-01")
COLUMNS = [
    {"name": "_topic", "type": "STRING", "mode": "REQUIRED"},
    {"name": "_log_partition", "type": "INTEGER", "mode": "REQUIRED"},
    {"name": "_offset", "type": "INTEGER", "mode": "REQUIRED"},
    {"name": "event_date", "type": "DATE", "mode": "REQUIRED"},
]
_names = (f"t{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with emulated(tmp_path_factory.mktemp("bigquery")) as found:
        yield found


@pytest.fixture
def faults(warehouse: Warehouse) -> FaultyWriteApi:
    assert warehouse.faults is not None
    warehouse.faults.calls.clear()
    warehouse.faults.failed.clear()
    return warehouse.faults


@pytest.fixture
def table(warehouse: Warehouse) -> Iterator[BigQueryTable]:
    name = next(_names)
    warehouse.create(name, COLUMNS)
    opened = BigQueryTable(warehouse.dataset, name, TOPIC, 0)
    yield opened
    opened.close()


def rows(start: int, stop: int) -> pa.Table:
    count = stop - start
    return pa.table(
        {"_topic": [TOPIC] * count, "_partition": [0] * count, "_offset": range(start, stop)}
    )


def write(table: BigQueryTable, start: int, stop: int) -> None:
    ready = table.prepare(rows(start, stop), np.full(stop - start, DAY))
    assert ready.prepared is not None
    assert table.commit(ready.prepared)


FAULTS = {
    "unavailable": Fault(CODE.UNAVAILABLE),
    "internal": Fault(CODE.INTERNAL),
    "quota": Fault(CODE.RESOURCE_EXHAUSTED),
    "aborted": Fault(CODE.ABORTED),
    "no answer in time": Fault(CODE.DEADLINE_EXCEEDED, done=True),
    "reply lost": LOST,
}
WITHIN = {
    "done already": Fault(CODE.ALREADY_EXISTS, done=True, within=True),
    "claims to be done": Fault(CODE.ALREADY_EXISTS, within=True),
    "out of range": Fault(CODE.OUT_OF_RANGE, within=True),
    "finalized": Fault(CODE.FAILED_PRECONDITION, within=True),
    "unknown stream": Fault(CODE.NOT_FOUND),
    "quota": Fault(CODE.RESOURCE_EXHAUSTED, within=True),
}


EVERYWHERE = [(method, name, fault) for method in METHODS for name, fault in FAULTS.items()]
ONLY_THERE = [
    *((APPEND, name, fault) for name, fault in WITHIN.items()),
    (FINALIZE, "unknown stream", Fault(CODE.NOT_FOUND)),
    (COMMIT, "forgotten stream", Fault(CODE.NOT_FOUND, done=True)),
]


@pytest.mark.survives(14)
def test_a_failing_call_neither_loses_nor_repeats_a_row(
    warehouse: Warehouse, faults: FaultyWriteApi, table: BigQueryTable, figures: Figures
) -> None:
    name, stop = table.name.rpartition(".")[2], 0
    for method, fault_name, fault in [*EVERYWHERE, *ONLY_THERE]:
        faults.fail(method, fault, fault)
        for count in (6, 3):
            write(table, stop, stop + count)
            stop += count
        faults.forget()
        assert warehouse.offsets(name, TOPIC) == list(range(stop)), (method, fault_name)
    assert all(faults.failed[method] > len(FAULTS) for method in METHODS)
    figures.add(kinds=len(EVERYWHERE) + len(ONLY_THERE), failed=faults.failed.total(), rows=stop)


@pytest.mark.parametrize("method", [CREATE, APPEND, FINALIZE, COMMIT])
def test_what_is_not_allowed_is_not_tried_again(
    method: str, faults: FaultyWriteApi, table: BigQueryTable
) -> None:
    faults.fail(method, Fault(CODE.PERMISSION_DENIED))
    with pytest.raises(BigQueryError, match=r"not allowed .*BigQuery Data Editor") as caught:
        write(table, 0, 3)
    assert faults.calls[method] == 1
    assert not caught.value.may_pass
    assert "\n" not in str(caught.value)


def test_rows_refused_as_a_whole_are_nobodys_dead_letters(
    faults: FaultyWriteApi, table: BigQueryTable
) -> None:
    faults.fail(APPEND, Fault(CODE.INVALID_ARGUMENT, within=True))
    with pytest.raises(BigQueryError, match="refuses: 400 injected; compare table and contracts"):
        write(table, 0, 3)
    assert faults.calls[APPEND] == 1


def test_rows_that_can_be_committed_later_are_not_written_again(
    warehouse: Warehouse, faults: FaultyWriteApi, table: BigQueryTable
) -> None:
    ready = table.prepare(rows(0, 3), np.full(3, DAY))
    assert ready.prepared is not None
    faults.fail(COMMIT, Fault(CODE.PERMISSION_DENIED, within=True))
    with pytest.raises(BigQueryError, match=r"cannot be committed .no permission for the key"):
        table.commit(ready.prepared)
    assert table.commit(ready.prepared)
    assert warehouse.offsets(table.name.rpartition(".")[2], TOPIC) == [0, 1, 2]


def test_an_outage_ends_the_patience_and_nothing_else(
    warehouse: Warehouse,
    faults: FaultyWriteApi,
    table: BigQueryTable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connector, "PATIENCE_S", 1.0)
    faults.fail(FINALIZE, *[Fault(CODE.UNAVAILABLE)] * 1_000)
    with pytest.raises(BigQueryUnavailable, match=r"does not answer .503 injected.") as caught:
        write(table, 0, 3)
    assert caught.value.may_pass
    faults.forget()
    write(table, 0, 3)
    assert warehouse.offsets(table.name.rpartition(".")[2], TOPIC) == [0, 1, 2]
