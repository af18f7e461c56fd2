"""From what was measured to what a day uses of each part.

Amounts are exact. A scale multiplies what was measured, before what is counted in whole pieces:
pods, and the least that a query is billed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import msgspec

from dataflows.runtime.config import Cost
from services.cost.pricing import HOURS_A_DAY, Part, by_age, gib_months, tib

# What Pub/Sub counts of a message beside body, key and attributes: its time, and its id.
MESSAGE_BYTES = 20 + 16
# The least that BigQuery bills of each table that a query reads.
QUERY_BYTES = 10 * 2**20
SECONDS_A_DAY = 86_400

TableName = tuple[str, str]
"""Dataset and table."""


@dataclass(frozen=True)
class Topic:
    """Records of a topic by day, what each takes on average, and how many flows read it."""

    name: str
    records: Mapping[date, Decimal]
    bytes_each: Decimal
    readers: int
    source: str


@dataclass(frozen=True)
class Table:
    """A table as BigQuery would hold it.

    `rows` by partition; None is a table without partitions, which every build makes anew. `widths`
    are bytes a row of each column, by BigQuery's sizes of types. `key` is the column by which a
    build looks for copies on all dates.
    """

    name: TableName
    rows: Mapping[date | None, int]
    widths: Mapping[str, Decimal]
    source: str
    key: str = ""

    @property
    def width(self) -> Decimal:
        return sum(self.widths.values(), Decimal(0))

    def rows_until(self, day: date) -> int:
        return sum(count for at, count in self.rows.items() if at is None or at <= day)


@dataclass(frozen=True)
class Query:
    """A model or test: the tables it reads, and every word of its SQL.

    One that is `by_date` reads the dates that a build makes anew.
    """

    name: str
    reads: Sequence[TableName]
    words: frozenset[str]
    by_date: bool


@dataclass(frozen=True)
class Builds:
    """What a build of the warehouse asks, and how many dates it makes anew on average."""

    queries: Sequence[Query]
    dates: Decimal
    source: str


@dataclass(frozen=True)
class Flow:
    """A flow's input topics, and the CPU that a record takes, in microseconds."""

    name: str
    inputs: Sequence[str]
    cpu_us: Decimal
    source: str


@dataclass(frozen=True)
class Worker:
    """The flows that share a process, and so a pod."""

    name: str
    flows: Sequence[Flow]


@dataclass(frozen=True)
class Measured:
    """All that is known of the traffic. `builds` is None where there is no warehouse."""

    topics: Sequence[Topic]
    tables: Sequence[Table]
    workers: Sequence[Worker]
    builds: Builds | None = None
    notes: Sequence[str] = ()

    def events(self, day: date) -> Decimal:
        """What producers sent: the records of the raw topics."""
        raw = (topic for topic in self.topics if topic.name.startswith("raw."))
        return sum((topic.records.get(day, Decimal(0)) for topic in raw), Decimal(0))


class Volume(msgspec.Struct, frozen=True):
    """What a topic, table, flow or query uses of a part on a day, and where that is from."""

    part: Part
    of: str
    amount: Decimal
    unit: str
    source: str


def volumes_of_day(
    measured: Measured, day: date, settings: Cost, scale: Decimal
) -> Iterator[Volume]:
    """Everything that is used on a day, in the units of the parts."""
    yield from _throughput(measured.topics, day, scale)
    yield from _storage(measured.tables, day, scale)
    if measured.builds is not None:
        yield from _scans(measured.builds, measured.tables, day, settings, scale)
    yield from _pods(measured, day, settings, scale)


def _volume(part: Part, of: str, amount: Decimal, source: str) -> Volume:
    return Volume(part, of, amount, part.unit, source)


def _throughput(topics: Sequence[Topic], day: date, scale: Decimal) -> Iterator[Volume]:
    """Each record is published once, and delivered to each flow that reads its topic."""
    for topic in topics:
        each = topic.bytes_each + MESSAGE_BYTES
        moved = topic.records.get(day, Decimal(0)) * each * (1 + topic.readers) * scale
        yield _volume(Part.PUBSUB, topic.name, tib(moved), topic.source)


def _storage(tables: Sequence[Table], day: date, scale: Decimal) -> Iterator[Volume]:
    """A table that is made anew by every build is always active."""
    for table in tables:
        sizes = {at or day: rows * table.width * scale for at, rows in table.rows.items()}
        active, long_term = by_age(sizes, day)
        name = ".".join(table.name)
        yield _volume(Part.STORAGE_ACTIVE, name, gib_months(active), table.source)
        yield _volume(Part.STORAGE_LONG_TERM, name, gib_months(long_term), table.source)


def _scans(
    builds: Builds, tables: Sequence[Table], day: date, settings: Cost, scale: Decimal
) -> Iterator[Volume]:
    known = {table.name: table for table in tables}
    for query in builds.queries:
        scanned = Decimal(0)
        for name in query.reads:  # one to which nothing was written is billed, too
            read = _scanned(query, known[name], day, builds.dates) * scale if name in known else 0
            scanned += max(read, QUERY_BYTES)
        amount = tib(scanned * settings.builds_a_day)
        yield _volume(Part.QUERIES, query.name, amount, builds.source)


def _scanned(query: Query, table: Table, day: date, dates: Decimal) -> Decimal:
    """Bytes of the columns that the query names, on the dates that it reads."""
    named = {column: size for column, size in table.widths.items() if column in query.words}
    width = sum(named.values(), Decimal(0))
    everywhere = table.rows_until(day)
    if not query.by_date or None in table.rows:
        return everywhere * width
    copies = everywhere * named.get(table.key, Decimal(0))
    return table.rows.get(day, 0) * dates * width + copies


def _pods(measured: Measured, day: date, settings: Cost, scale: Decimal) -> Iterator[Volume]:
    """Pods run all day; there are more of a worker where one would be too busy."""
    records = {topic.name: topic.records.get(day, Decimal(0)) for topic in measured.topics}
    vcpu, memory = settings.pod_vcpu, settings.pod_memory_gib
    for worker in measured.workers:
        busy = Decimal(0)
        for flow in worker.flows:
            taken = sum((records.get(topic, Decimal(0)) for topic in flow.inputs), Decimal(0))
            busy += taken * scale * flow.cpu_us / 1_000_000 / SECONDS_A_DAY
        pods = max(settings.replicas, math.ceil(busy / (vcpu * settings.pod_load)))
        many = "1 pod" if pods == 1 else f"{pods:,} pods"
        sources = ", ".join(f"{flow.name} {flow.source}" for flow in worker.flows)
        cpu = f"{many} of {vcpu} vCPU, busy with {busy:.4f}: {sources}"
        yield _volume(Part.GKE_VCPU, worker.name, pods * vcpu * HOURS_A_DAY, cpu)
        room = f"{many} of {memory} GiB"
        yield _volume(Part.GKE_MEMORY, worker.name, pods * memory * HOURS_A_DAY, room)
    yield _volume(Part.GKE_CLUSTER, "cluster", Decimal(HOURS_A_DAY), "one, all day")
