"""Events later than the horizon: the late flow has quarantined them, a person has them merged.

    dead letters of a source and dates -> as ingest would have published them -> bronze, merges

A merged event is a row of its source's table in the lake, of the slot `merged.<source>.<partition>`
that only this module writes. So whoever builds from this lake, wherever and from nothing, builds
with it. The table `merges` says who is in by whose decision: a row for each date and decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataflows.connectors.bigquery import LINEAGE_PARTITION
from dataflows.connectors.lake import DATE_COLUMN, LakeWriter
from dataflows.connectors.records import Records
from dataflows.contracts import Contract, load_contracts
from dataflows.contracts.decoding import Decoded
from dataflows.flows.enrichment import Enricher
from dataflows.flows.load import tabulator
from dataflows.flows.pseudonyms import load_key
from dataflows.flows.reference import Versions, customer_versions, product_versions
from dataflows.flows.tables import EventTable
from dataflows.runtime.config import Config
from services.warehouse.bronze import SCHEMA, create_bronze
from services.warehouse.errors import WarehouseError
from services.warehouse.workshop import Workshop, workshop

LATENESS = "expired"  # the class of events that are later than the horizon
_DAY_US = 86_400_000_000

Action = Literal["merge", "unmerge"]


class Choice(NamedTuple):
    """Event dates of a source, both ends included."""

    source: str
    first: date
    last: date

    def has(self, day: date) -> bool:
        return self.first <= day <= self.last


class QuarantinedDate(msgspec.Struct, frozen=True):
    """Events of a source and date that came later than the horizon.

    `event_date` is None for those that no longer fit their contract: nothing can merge them.
    `waiting` are in quarantine, `merged` are in silver and gold since `decided_at`.
    """

    source: str
    event_date: date | None
    waiting: int
    merged: int
    decided_at: datetime | None = None


class Decision(msgspec.Struct, frozen=True):
    """A row of `merges`: so many events of this source and date went in, or out again."""

    source: str
    event_date: date
    action: Action
    events: int
    decided_at: datetime


class _Letters(NamedTuple):
    """Quarantined records of one partition of a raw topic, and what they are by their contract."""

    records: Records
    decoded: Decoded
    merged: NDArray[np.bool_]

    @property
    def readable(self) -> NDArray[np.bool_]:
        return np.array([event is not None for event in self.decoded.events], np.bool_)

    @property
    def days(self) -> NDArray[np.datetime64]:
        return (self.decoded.times_us // _DAY_US).astype("datetime64[D]")


class _LakeReference:
    """Products and customers as the lake has them."""

    def __init__(self, database: duckdb.DuckDBPyConnection):
        self.products, self.customers = product_versions(), customer_versions()
        _add(
            self.products,
            database,
            "product_catalog",
            "{'product_id': product_id, 'name': name, 'category': category, 'brand': brand, "
            "'price': CAST(price AS VARCHAR), {time}}",
        )
        _add(
            self.customers,
            database,
            "customer_profiles",
            "{'user_id': user_id, 'segment': segment, "
            "'address': {'country': address.country}, {time}}",
        )

    def refresh(self) -> None:
        """The lake is held still: nothing comes."""


def _add(
    versions: Versions, database: duckdb.DuckDBPyConnection, table: str, document: str
) -> None:
    time = "'event_timestamp': strftime(event_timestamp, '%Y-%m-%dT%H:%M:%S.%fZ')"
    rows = database.execute(
        f"SELECT CAST(to_json({document.replace('{time}', time)}) AS VARCHAR) "
        f"FROM {SCHEMA}.{table} "
        f"ORDER BY event_timestamp, arrived_at, _topic, {LINEAGE_PARTITION}, _offset"
    ).fetchall()
    versions.add(document.encode() for (document,) in rows)


def quarantined(config: Config, choice: Choice | None = None) -> list[QuarantinedDate]:
    """What came later than the horizon, by source and event date, merged or not.

    Args:
        choice: only these dates of this source.

    Raises:
        LeaseHeld: a build is under way.
        WarehouseError: there is no lake, or a file of it is broken, or no such source.
    """
    if choice is None:
        contracts = list(load_contracts(Path(config.schemas)).values())
    else:
        contracts = [_contract(config, choice.source)]
    with workshop(config) as shop, shop.database() as database:
        create_bronze(database, shop.tables, shop.place.lake, config.lake_path)
        return [
            found
            for contract in contracts
            for found in _quarantined_of(database, contract)
            if choice is None or (found.event_date is not None and choice.has(found.event_date))
        ]


def _quarantined_of(
    database: duckdb.DuckDBPyConnection, contract: Contract
) -> list[QuarantinedDate]:
    waiting, unreadable = Counter[date](), 0
    for letters in _letters(database, contract):
        unreadable += int(np.count_nonzero(~letters.readable))
        waiting.update(letters.days[letters.readable & ~letters.merged].tolist())
    merged = _merged_events(database, contract.source)
    last = dict(
        database.execute(
            f"SELECT {DATE_COLUMN}, max(decided_at) FROM {SCHEMA}.merges "
            "WHERE source = ? GROUP BY 1",
            [contract.source],
        ).fetchall()
    )
    found = [
        QuarantinedDate(
            contract.source, day, waiting[day], merged[day], last.get(day) if merged[day] else None
        )
        for day in sorted({*waiting, *merged})
    ]
    return [
        *found,
        *([QuarantinedDate(contract.source, None, unreadable, 0)] if unreadable else []),
    ]


def merge(config: Config, choice: Choice) -> list[Decision]:
    """Puts what is quarantined of a source and dates into bronze; the next build takes it on.

    Cut off anywhere, the same again does what is left.

    Returns:
        What was decided, date by date; nothing where nothing was quarantined.

    Raises:
        LeaseHeld: a build is under way.
        WarehouseError: no such source, no lake, or the lake is not what builds read.
        LakeError: the disk does not take it.
    """
    contract = _contract(config, choice.source)
    with workshop(config) as shop, shop.database() as database:
        create_bronze(database, shop.tables, shop.place.lake, config.lake_path)
        now_in_bronze = _merged_events(database, contract.source)
        reference = _LakeReference(database)
        table = EventTable(contract, load_key(config.data_path))
        for letters in _letters(database, contract):
            chosen = _chosen(letters, choice)
            if not len(chosen):
                continue
            events = _as_ingested(letters, chosen, Enricher(reference, contract))
            now_in_bronze += _write(shop, table, events)
        return _settle(shop, database, choice, now_in_bronze)


def unmerge(config: Config, choice: Choice) -> list[Decision]:
    """Takes what was merged of a source and dates out of bronze again; it is quarantined as before.

    Cut off anywhere, the same again does what is left. Returns and raises as `merge` does.
    """
    contract = _contract(config, choice.source)
    with workshop(config) as shop, shop.database() as database:
        create_bronze(database, shop.tables, shop.place.lake, config.lake_path)
        now_in_bronze = _merged_events(database, contract.source)
        days = [day for day in now_in_bronze if choice.has(day)]
        for slot in _slots(database, contract.source):
            writer = LakeWriter(config.lake_path, contract.source, slot)
            writer.take_back([str(day) for day in days])
        for day in days:
            del now_in_bronze[day]
        return _settle(shop, database, choice, now_in_bronze)


def _contract(config: Config, source: str) -> Contract:
    if config.bigquery.dataset:
        raise WarehouseError(
            f"[bigquery] dataset: `load` writes to {config.bigquery.dataset}; merging quarantined "
            "events works on a lake of files only (DuckDB)"
        )
    contracts = load_contracts(Path(config.schemas))
    if source not in contracts:
        raise WarehouseError(f"{source!r} is no source; there are {', '.join(contracts)}")
    return contracts[source]


def _letters(database: duckdb.DuckDBPyConnection, contract: Contract) -> Iterator[_Letters]:
    """What the late flow has quarantined of a source, a partition at a time, each record once."""
    rows = database.execute(
        f'SELECT letters.partition, letters."offset", any_value(epoch_us(letters.arrived_at)), '
        f"any_value(letters.key), any_value(letters.value), bool_or(merged._topic IS NOT NULL) "
        f"FROM {SCHEMA}.dead_letters AS letters LEFT JOIN {SCHEMA}.{contract.source} AS merged "
        f"ON merged._topic = ? AND merged.{LINEAGE_PARTITION} = letters.partition "
        f'AND merged.raw_offset = letters."offset" '
        "WHERE letters.reason = 'too_late' AND letters.topic = ? GROUP BY 1, 2 ORDER BY 1, 2",
        [_topic(contract.source), contract.topic],
    ).fetchall()
    for partition in sorted({row[0] for row in rows}):
        offsets, arrivals, keys, values, merged = zip(
            *(row[1:] for row in rows if row[0] == partition), strict=True
        )
        records = Records(
            contract.topic,
            partition,
            np.array(offsets, np.int64),
            np.array(arrivals, np.int64),
            list(keys),
            list(values),
        )
        yield _Letters(records, contract.decode(records.values), np.array(merged, np.bool_))


def _chosen(letters: _Letters, choice: Choice) -> NDArray[np.int64]:
    first, last = np.datetime64(choice.first, "D"), np.datetime64(choice.last, "D")
    in_range = (letters.days >= first) & (letters.days <= last)
    return np.flatnonzero(letters.readable & in_range & ~letters.merged)


def _as_ingested(letters: _Letters, chosen: NDArray[np.int64], enricher: Enricher) -> Records:
    """The events as the stream publishes them, their raw records' partition and arrival kept."""
    raw, decoded = letters.records, letters.decoded
    encoded = enricher.encode(
        raw, decoded.events, decoded.times_us, decoded.extras, chosen, [LATENESS] * len(chosen)
    )
    return Records(
        raw.topic,
        raw.partition,
        raw.offsets[chosen],
        raw.arrival_us[chosen],
        [raw.keys[row] for row in chosen.tolist()],
        list(encoded),
    )


def _write(shop: Workshop, table: EventTable, events: Records) -> Counter[date]:
    """Rows of bronze, numbered on from those that were merged before; how many of each date."""
    topic, lake = _topic(table.name), shop.config.lake_path
    writer = LakeWriter(lake, table.name, f"{topic}.{events.partition}")
    start = writer.next_offset or 0
    stop = start + len(events)
    numbered = Records(
        topic,
        events.partition,
        np.arange(start, stop),
        events.arrival_us,
        events.keys,
        events.values,
    )
    made = tabulator(table)(numbered)
    if len(made.table) != len(events):
        raise WarehouseError(
            f"{table.name}: {len(events) - len(made.table)} quarantined events fit the contract "
            "but not the lake; nothing of their partition was merged"
        )
    writer.write(made.table, made.dates, start, stop)
    return Counter(made.dates.tolist())


def _settle(
    shop: Workshop,
    database: duckdb.DuckDBPyConnection,
    choice: Choice,
    now_in_bronze: Mapping[date, int],
) -> list[Decision]:
    """Records by how much bronze differs, in the chosen dates, from what was decided before."""
    decided = _decided_events(database, choice.source)
    now = datetime.now(UTC)
    decisions = []
    for day in sorted({*decided, *now_in_bronze}):
        more = now_in_bronze.get(day, 0) - decided.get(day, 0)
        if more and choice.has(day):
            action: Action = "merge" if more > 0 else "unmerge"
            decisions.append(Decision(choice.source, day, action, abs(more), now))
    if decisions:
        writer = LakeWriter(shop.config.lake_path, "merges", "merges.0")
        start = writer.next_offset or 0
        stop = start + len(decisions)
        rows = pa.Table.from_pylist(
            [
                {
                    **msgspec.structs.asdict(decision),
                    "_topic": "merges",
                    "_partition": 0,
                    "_offset": n,
                }
                for n, decision in enumerate(decisions, start)
            ],
            schema=shop.tables["merges"].in_lake,
        )
        days = np.array([decision.event_date for decision in decisions], "datetime64[D]")
        writer.write(rows, days, start, stop)
    return decisions


def _merged_events(database: duckdb.DuckDBPyConnection, source: str) -> Counter[date]:
    """How many merged events bronze has of each date."""
    rows = database.execute(
        f"SELECT {DATE_COLUMN}, count(*) FROM {SCHEMA}.{source} WHERE _topic = ? GROUP BY 1",
        [_topic(source)],
    ).fetchall()
    return Counter(dict(rows))


def _decided_events(database: duckdb.DuckDBPyConnection, source: str) -> dict[date, int]:
    """How many merged events there are of each date by the decisions so far."""
    return dict(
        database.execute(
            f"SELECT {DATE_COLUMN}, CAST(sum(IF(action = 'merge', events, -events)) AS BIGINT) "
            f"FROM {SCHEMA}.merges WHERE source = ? GROUP BY 1",
            [source],
        ).fetchall()
    )


def _slots(database: duckdb.DuckDBPyConnection, source: str) -> list[str]:
    rows = database.execute(
        f"SELECT DISTINCT {LINEAGE_PARTITION} FROM {SCHEMA}.{source} WHERE _topic = ? ORDER BY 1",
        [_topic(source)],
    ).fetchall()
    return [f"{_topic(source)}.{partition}" for (partition,) in rows]


def _topic(source: str) -> str:
    """Of no log: what merged events have where others name the topic that brought them."""
    return f"merged.{source}"
