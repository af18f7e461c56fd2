"""Recomputes everything a run should have published, from its raw records, and compares.

Shares no code with the product: an own consumer of committed records, own judgement of each raw
record in plain Python, sessions and features in SQL. What is compared: each input has exactly one
fate and stands exactly once where that fate says; sessions, features, scores, alerts, reprocess
requests and the lake's rows are those of the oracle; nothing is there twice.
"""

from __future__ import annotations

import json
import logging
import re
import struct
import time
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

SECOND = 1_000_000
BOUND, LATENESS, HORIZON, MAX_FUTURE = 30 * SECOND, 3600 * SECOND, 7 * 86400 * SECOND, 300 * SECOND
GAP = 1800 * SECOND
HEARTBEAT = "tidegate-heartbeat"
SOURCES = {"clickstream": "event_id", "transactions": "transaction_id"}
STAGES = {"product_view": 1, "add_to_cart": 2, "view_cart": 2, "checkout_start": 3, "purchase": 4}
FUNNEL = ("visit", "product_view", "cart", "checkout", "purchase")
TYPES = {*STAGES, "page_view", "category_view", "search", "remove_from_cart"}
UNREAD_BY_LOAD = ("raw.", "late.", "scoring.", "metrics.", "logins", "dlq.load")

_QUIET = logging.getLogger("verifier")
_QUIET.setLevel(logging.CRITICAL)


class Record(NamedTuple):
    partition: int
    offset: int
    arrival: int
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def heartbeat(self) -> int | None:
        return int(self.headers[HEARTBEAT]) if HEARTBEAT in self.headers else None

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.value or b"")
        return found


class Judged(NamedTuple):
    """A raw record and what must become of it."""

    record: Record
    fate: str  # good, late, buffered, expired, duplicate, or failed
    time: int
    document: dict[str, Any]

    @property
    def place(self) -> tuple[int, int]:
        return self.record.partition, self.record.offset


@dataclass
class Verdict:
    """What was counted, and what is not as it should be."""

    figures: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, expected: Iterable[Any], found: Iterable[Any]) -> None:
        """The same things, the same number of times."""
        wanted, given = Counter(expected), Counter(found)
        for name, more in (
            ("missing", (wanted - given)),
            ("repeated", Counter({k: n for k, n in (given - wanted).items() if k in wanted})),
            ("unknown", Counter({k: n for k, n in (given - wanted).items() if k not in wanted})),
        ):
            if more:
                some = ", ".join(str(key) for key in list(more)[:3])
                self.problems.append(f"{what}: {more.total()} {name}, such as {some}")

    def exact(self) -> dict[str, int]:
        """Some of the figures, of a run that is as it should be."""
        assert not self.problems, "\n".join(self.problems)
        assert self.figures["inputs"] > 0
        told = ("inputs", "sessions", "scores", "alerts", "lake rows")
        return {name: self.figures[name] for name in told if name in self.figures}


def verify(servers: str, lake: Path | None = None) -> Verdict:
    """The verdict on a drained run that ended with the final heartbeat in each raw partition.

    Args:
        servers: of the broker, host:port.
        lake: its folder; None if nothing was loaded.
    """
    topics = _Topics(servers)
    verdict = Verdict()
    fates: Counter[str] = Counter()
    accepted: dict[str, list[Judged]] = {}
    for source, key in SOURCES.items():
        judged = _judge(topics[f"raw.{source}"], source, key)
        fates.update(each.fate for each in judged)
        accepted[source] = [each for each in judged if each.fate in ("good", "late")]
        _check_ingest(verdict, topics, source, judged)
    verdict.figures = {"inputs": fates.total(), **dict(sorted(fates.items()))}
    _check_sessions(verdict, topics, accepted["clickstream"])
    _check_scores(verdict, topics, accepted["transactions"])
    for unwanted in ("late.sessionize", "dlq.sessionize", "dlq.features", "dlq.score", "dlq.load"):
        verdict.expect(unwanted, [], [r.value for r in topics[unwanted] if r.heartbeat is None])
    if lake is not None:
        _check_lake(verdict, topics, lake)
    topics.close()
    return verdict


class _Topics:
    """The committed records of each topic, read once, in order of partition and offset."""

    def __init__(self, servers: str):
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "verifier",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "logger": _QUIET,
            }
        )
        found = self._consumer.list_topics(timeout=60).topics
        self.partitions = {
            name: len(topic.partitions) for name, topic in found.items() if name[:2] != "__"
        }
        self._read: dict[str, list[Record]] = {}

    def __getitem__(self, topic: str) -> list[Record]:
        if topic not in self._read:
            self._read[topic] = sorted(self._all(topic), key=lambda r: (r.partition, r.offset))
        return self._read[topic]

    def _all(self, topic: str) -> list[Record]:
        left = set(range(self.partitions[topic]))
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        records: list[Record] = []
        give_up = time.monotonic() + 120.0
        while left:
            assert time.monotonic() < give_up, f"{topic}: no end, is a transaction open?"
            for message in self._consumer.consume(1_000, timeout=0.1):
                error = message.error()
                if error is None:
                    records.append(
                        Record(
                            message.partition() or 0,
                            message.offset() or 0,
                            message.timestamp()[1] * 1_000,
                            message.value(),
                            dict(message.headers() or ()),  # type: ignore[arg-type]
                        )
                    )
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
                elif not error.retriable():
                    raise KafkaException(error)
        return records

    def close(self) -> None:
        self._consumer.close()


# --- ingest and late -----------------------------------------------------------------------------


def _judge(records: list[Record], source: str, key: str) -> list[Judged]:
    """The fate of each record that is no heartbeat."""
    watermarks: dict[int, int] = defaultdict(lambda: -(2**62))
    seen: set[tuple[int, str]] = set()
    judged = []
    for record in records:
        partition = record.partition
        if record.heartbeat is not None:
            watermarks[partition] = max(watermarks[partition], record.heartbeat - BOUND)
            continue
        document = _valid(record.value, source)
        time = _instant(document["event_timestamp"]) if document else 0
        if document is None or time > record.arrival + MAX_FUTURE:
            judged.append(Judged(record, "failed", time, {}))
            continue
        watermarks[partition] = max(watermarks[partition], time - BOUND)
        behind = watermarks[partition] - time
        if behind > LATENESS:
            fate = "expired" if behind > HORIZON else "buffered"
        elif (partition, document[key]) in seen:
            fate = "duplicate"
        else:
            seen.add((partition, document[key]))
            fate = "late" if behind > 0 else "good"
        judged.append(Judged(record, fate, time, document))
    return judged


def _valid(value: bytes | None, source: str) -> dict[str, Any] | None:
    """The document, if the source's contract accepts it; judges what traffic makes."""
    try:
        document = json.loads((value or b"").decode())
        _instant(document["event_timestamp"])
        good = isinstance(document["user_id"], str) and isinstance(document[SOURCES[source]], str)
        if source == "clickstream":
            good = good and document["event_type"] in TYPES
        else:
            good = good and bool(re.fullmatch(r"[0-9]{1,12}\.[0-9]{2}", document["total_amount"]))
    except (ValueError, KeyError, TypeError):
        return None
    return document if good else None


def _instant(text: str) -> int:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(text)
    return int((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000) * 1_000


def _check_ingest(verdict: Verdict, topics: _Topics, source: str, judged: list[Judged]) -> None:
    by_place = {each.place: each for each in judged}
    key = SOURCES[source]

    def places(*fates: str) -> list[tuple[int, int]]:
        return [each.place for each in judged if each.fate in fates]

    def events(topic: str) -> list[tuple[int, int]]:
        """Which raw records a topic of enriched events holds; in order and unspoilt."""
        found, last = [], (-1, -1)
        for record in topics[topic]:
            if record.heartbeat is not None:
                continue
            document = record.document
            place = (record.partition, int(document["raw_offset"]))
            found.append(place)
            if place <= last:
                verdict.problems.append(f"{topic}: {place} stands behind {last}")
            last = place
            if place in by_place and by_place[place].document.get(key) != document[key]:
                verdict.problems.append(f"{topic}: {place} is another event")
        return found

    def copies(topic: str, offset: str, origin: str = "") -> list[tuple[int, int]]:
        """Which raw records a topic of raw bytes holds; unspoilt."""
        found = []
        for record in topics[topic]:
            headers = record.headers
            if record.heartbeat is not None:
                continue
            if origin and headers.get("dlq-topic", b"").decode() != origin:
                continue
            partition = int(headers.get("dlq-partition", b"%d" % record.partition))
            place = (partition, int(headers[offset]))
            found.append(place)
            if place in by_place and by_place[place].record.value != record.value:
                verdict.problems.append(f"{topic}: {place} has other bytes")
        return found

    timely = events(f"events.{source}")
    buffered = events(f"buffered.{source}")
    failed = copies(f"dlq.{source}", "dlq-offset")
    expired = copies("dlq.late", "dlq-offset", f"raw.{source}")
    verdict.expect(f"events.{source}", places("good", "late"), timely)
    verdict.expect(f"buffered.{source}", places("buffered"), buffered)
    verdict.expect(f"dlq.{source}", places("failed"), failed)
    verdict.expect(f"dlq.late of {source}", places("expired"), expired)
    late = copies(f"late.{source}", "late-offset")
    verdict.expect(f"late.{source}", places("buffered", "expired"), late)
    verdict.expect(
        f"inputs of {source}",
        [each.place for each in judged if each.fate != "duplicate"],
        timely + buffered + failed + expired,
    )
    asked: Counter[str] = Counter()
    for record in topics["reprocess.requests"]:
        document = record.document
        if document["source"] == source:
            asked[document["event_date"]] += document["late_events"]
    dates = [_date(each.time) for each in judged if each.fate == "buffered"]
    verdict.expect(f"late events asked for, {source}", dates, asked.elements())


def _date(time: int) -> str:
    return datetime.fromtimestamp(time / SECOND, UTC).date().isoformat()


# --- sessions ------------------------------------------------------------------------------------

ISLANDS = f"""
with marked as (
    select *, coalesce(
        time - lag(time) over (partition by part, name order by time) > {GAP}, true
    )::int as starts
    from events
), numbered as (
    select *, sum(starts) over (
        partition by part, name order by time rows unbounded preceding
    ) as island
    from marked
)
select part, name, min(time), max(time), count(*), max(stage) from numbered
group by part, name, island
"""


def _check_sessions(verdict: Verdict, topics: _Topics, accepted: list[Judged]) -> None:
    events = {
        "part": [each.record.partition for each in accepted],
        "name": [each.document["user_id"] for each in accepted],
        "time": [each.time for each in accepted],
        "stage": [STAGES.get(each.document["event_type"], 0) for each in accepted],
    }
    expected = [(*row[:5], FUNNEL[row[5]]) for row in _ask(ISLANDS, events=events)]
    revisions: list[tuple[str, int]] = []
    last: dict[str, tuple[Any, ...]] = {}
    for record in topics["sessions"]:
        session = record.document
        name = session["session_id"]
        revisions.append((name, session["revision"]))
        last[name] = (
            record.partition,
            session["user_id"],
            _instant(session["started_at"]),
            _instant(session["ended_at"]),
            session["event_count"],
            session["funnel_stage"],
        )
    verdict.expect("sessions", expected, [row for row in last.values() if row[4]])
    counted = [(name, n + 1) for name, most in dict(sorted(revisions)).items() for n in range(most)]
    verdict.expect("revisions of sessions", counted, revisions)
    verdict.figures["sessions"] = len(expected)


# --- scoring -------------------------------------------------------------------------------------

# What a payment saw: those of the same user before it in the log, within the window of event time.
FEATURES = """
select
    p.id,
    count(*) filter (p.time - o.time < 3600e6),
    count(*) filter (p.time - o.time < 86400e6),
    round(sum(o.cents) filter (p.time - o.time < 86400e6) / 100, 2),
    count(distinct o.card) filter (p.time - o.time < 3600e6),
    max(o.cents) / 100
from payments p join payments o
    on o.name = p.name and o.place <= p.place and o.time <= p.time and p.time - o.time < 2592000e6
group by p.id
"""
# Where they stand in a scoring request, an array of columns: its third entry holds the
# transactions, the last but one their customers' features.
TRANSACTIONS, CUSTOMERS = 2, -2
COUNT_1H, COUNT_24H, AMOUNT_24H, DISTINCT_CARDS_1H, MAX_AMOUNT_30D = 1, 2, 5, 10, 6
COMPARED = (COUNT_1H, COUNT_24H, AMOUNT_24H, DISTINCT_CARDS_1H, MAX_AMOUNT_30D)


def _check_scores(verdict: Verdict, topics: _Topics, accepted: list[Judged]) -> None:
    paid = [each for each in accepted if each.document.get("status") != "refunded"]
    ids = [each.document["transaction_id"] for each in paid]
    payments = {
        "place": [each.record.offset for each in paid],
        "id": ids,
        "name": [each.document["user_id"] for each in paid],
        "time": [each.time for each in paid],
        "cents": [int(each.document["total_amount"].replace(".", "")) for each in paid],
        "card": [each.document["payment"]["card_id"] for each in paid],
    }
    requested = [
        payment
        for r in topics["scoring.requests"]
        if r.heartbeat is None
        for payment in _requested(json.loads(r.value or b""))
    ]
    verdict.expect(
        "features",
        [_rounded(row) for row in _ask(FEATURES, payments=payments)],
        [
            _rounded((transaction, *map(features.__getitem__, COMPARED)))
            for transaction, features in requested
        ],
    )
    scores = [record.document for record in topics["scores"]]
    verdict.expect("scores", ids, [score["transaction_id"] for score in scores])
    alerts = [record.document for record in topics["alerts"]]
    verdict.expect(
        "alerts",
        {(s["transaction_id"], s["score"]) for s in scores if s["decision"] != "allow"},
        [(alert["transaction_id"], alert["score"]) for alert in alerts],
    )
    verdict.figures |= {"scores": len(ids), "alerts": len(alerts)}


def _requested(request: list[Any]) -> list[tuple[str, tuple[float, ...]]]:
    """Each transaction of a request, and its customer's features."""
    transactions, packed = request[TRANSACTIONS], b64decode(request[CUSTOMERS])
    a_row = f"<{len(packed) // 8 // len(transactions)}d"
    return list(zip(transactions, struct.iter_unpack(a_row, packed), strict=True))


def _rounded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (row[0], *(round(float(value), 2) for value in row[1:]))


# --- the lake ------------------------------------------------------------------------------------


def _check_lake(verdict: Verdict, topics: _Topics, lake: Path) -> None:
    expected = [
        (topic, record.partition, record.offset)
        for topic in topics.partitions
        if not topic.startswith((*UNREAD_BY_LOAD, "tidegate."))
        for record in topics[topic]
        if record.heartbeat is None
    ]
    found = duckdb.sql(
        f"""select _topic, _partition, _offset
        from read_parquet('{lake}/*/event_date=*/*.parquet', union_by_name = true)"""
    ).fetchall()
    verdict.expect("rows of the lake", expected, found)
    verdict.figures["lake rows"] = len(expected)


def _ask(query: str, **tables: Mapping[str, list[Any]]) -> list[tuple[Any, ...]]:
    with duckdb.connect() as database:
        for name, columns in tables.items():
            database.register(name, pa.table(columns))
        return database.execute(query).fetchall()
