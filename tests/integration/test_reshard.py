"""More partitions in the middle of a shop's life: what comes out is what had come out with them
from the beginning, and nothing comes out twice."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from flow_bench import Bench

from dataflows.connectors.lake import lake_files
from dataflows.connectors.records import heartbeat_time, published
from dataflows.errors import TidegateError
from dataflows.flows.payments import with_names
from dataflows.runtime.config import HOUSE
from dataflows.runtime.handover import handover
from services.broker.broker import Broker
from services.reshard.reshard import refuse_unfinished, reshard, source_of
from services.simulator.driver import publish_chunks
from services.simulator.settings import FaultRates, SimulationSettings
from services.simulator.simulate import simulate
from services.status.slots import slot_statuses

pytestmark = pytest.mark.slow

CLICKS = ("raw.clickstream", "late.clickstream", "events.clickstream")
MORE_CLICKS, MORE_PAYMENTS = {"partitions.clickstream": 4}, {"partitions.transactions": 2}
SETTINGS = {"slots.snapshot_interval": "1s", "slots.reference_wait": "1s"}
FAULTS = FaultRates(buffered=0.0, expired=0.0)
DEVICES = 8


def run_clicks(bench: Bench) -> None:
    for flow, topic in zip(("ingest", "late", "sessionize"), CLICKS, strict=True):
        bench.run(flow, topic=topic)


def publish(bench: Bench, half: int) -> None:
    """Half of three days; customers go on with their visits from one half to the other."""
    topics = bench.shop.topology.topics
    simulation = simulate(
        SimulationSettings(
            start=date(2026, 3, 2),
            days=3,
            customers=150,
            target_events=6_000,
            faults=FAULTS,
            partitions={source: topics[f"raw.{source}"] for source in bench.shop.contracts},
        )
    )
    chunks = list(simulation.chunks())
    middle = len(chunks) // 2
    chosen = chunks[:middle] if half == 0 else chunks[middle:]
    clicks = (
        replace(chunk, parts=tuple(p for p in chunk.parts if p.source == "clickstream"))
        for chunk in chosen
    )
    publish_chunks(bench.log, clicks, None, threading.Event())


def final_sessions(bench: Bench) -> dict[str, dict[str, object]]:
    """The last revision of each session that stands; each revision was published once."""
    found = [json.loads(r.value or b"") for r in bench.records("sessions")]
    revisions = Counter((s["session_id"], s["revision"]) for s in found)
    assert [r for r, count in revisions.items() if count > 1] == []
    last = {s["session_id"]: s for s in sorted(found, key=lambda s: s["revision"])}
    return {
        session_id: {k: v for k, v in s.items() if k != "revision"}
        for session_id, s in last.items()
        if s["superseded_by"] is None
    }


@pytest.fixture(scope="module")
def from_the_beginning(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("beginning"), **MORE_CLICKS, **SETTINGS)
    for half in range(2):
        publish(bench, half)
        run_clicks(bench)
    return bench


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def bus(request: pytest.FixtureRequest) -> str:
    """A log with no topics."""
    if request.param == "embedded":
        return ""
    broker: Broker = request.getfixturevalue("broker")
    return broker.url


def event_ids(bench: Bench) -> Counter[str]:
    return Counter(
        json.loads(record.value or b"")["event_id"]
        for record in bench.records("events.clickstream")
        if heartbeat_time(record.headers) is None
    )


@pytest.mark.timeout(600)
def test_sessions_are_those_of_a_run_that_had_the_partitions_from_the_beginning(
    bus: str, from_the_beginning: Bench, tmp_path: Path
) -> None:
    bench = Bench(tmp_path / "data", bus=bus, **SETTINGS)
    publish(bench, 0)
    bench.run("ingest", topic="raw.clickstream")  # the rest is drained
    said: list[str] = []
    reshard(bench.shop, "clickstream", 4, said.append)
    assert any("draining sessionize" in line for line in said)
    published_before = bench.records("sessions")
    assert published_before
    bench.log.close()

    bench = Bench(tmp_path / "data", bus=bus, **MORE_CLICKS, **SETTINGS)
    refuse_unfinished(bench.log)
    publish(bench, 1)
    run_clicks(bench)
    bench.run("load", topic="events.clickstream")
    assert len(bench.records("sessions")) > len(published_before)
    assert final_sessions(bench) == final_sessions(from_the_beginning)
    assert event_ids(bench) == event_ids(from_the_beginning)
    statuses = slot_statuses(bench.shop, ("ingest", "late", "sessionize"))
    assert [s for s in statuses if s.topic in CLICKS and (s.lag_records or s.difference)] == []
    assert all(s.good for s in statuses if s.flow == "sessionize")
    files = lake_files(tmp_path / "data" / "lake", "clickstream")
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    assert rows == event_ids(bench).total()
    bench.log.close()


def pay(bench: Bench, rounds: range) -> None:
    """In each round somebody pays from each device, and never twice from the same."""
    values: list[bytes | None] = []
    for turn in rounds:
        for device in range(DEVICES):
            payment = PAYMENT | {
                "transaction_id": f"t{turn}-{device}",
                "user_id": f"u{(device + 3 * turn) % DEVICES}",
                "event_timestamp": f"2026-05-01T12:{turn:02}:{device:02}Z",
                "device": PAYMENT["device"] | {"device_id": f"d{device}"},
            }
            values.append(json.dumps(payment).encode())
    keys = [json.loads(value or b"")["user_id"].encode() for value in values]
    bench.log.append([published("raw.transactions", list(keys), values)])
    bench.run("ingest", topic="raw.transactions")
    bench.run("features", "score")


PAYMENT = json.loads(
    (HOUSE / "schemas/transactions/examples/pass/card_payment_with_two_items.json").read_text()
)


def requests(bench: Bench) -> Counter[str]:
    """What is known of each payment's customer."""
    found = [
        json.loads(payment)
        for r in bench.records("scoring.requests")
        if r.value is not None and heartbeat_time(r.headers) is None
        for payment in with_names(r.value)
    ]
    return Counter(repr(payment | {"arrived_at": None}) for payment in found)


@pytest.mark.timeout(600)
def test_what_customers_and_devices_did_is_still_known(bus: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path / "data", bus=bus, **SETTINGS)
    pay(bench, range(3))
    assert bench.records("alerts") == []
    reshard(bench.shop, "transactions", 2, print)
    bench.log.close()

    bench = Bench(tmp_path / "data", bus=bus, **MORE_PAYMENTS, **SETTINGS)
    pay(bench, range(3, 4))
    alerts = [json.loads(r.value or b"") for r in bench.records("alerts")]
    assert Counter(a["transaction_id"] for a in alerts) == Counter(
        f"t3-{device}" for device in range(DEVICES)
    )
    assert all("4 customers paid from this device" in a["reasons"][0]["text"] for a in alerts)
    assert {record.partition for record in bench.records("scores")} == {0, 1}

    other = Bench(tmp_path / "beginning", **MORE_PAYMENTS, **SETTINGS)
    pay(other, range(4))
    assert requests(bench) == requests(other)
    bench.log.close()
    other.log.close()


def test_a_reshard_that_was_interrupted_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "data", **SETTINGS)
    publish(bench, 0)
    run_clicks(bench)

    def killed(topics: object) -> None:
        grow(dict([next(iter(topics.items()))]))  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    grow = bench.log.grow_topics
    monkeypatch.setattr(bench.log, "grow_topics", killed)
    with pytest.raises(KeyboardInterrupt):
        reshard(bench.shop, "clickstream", 4, print)
    monkeypatch.undo()
    with pytest.raises(TidegateError, match="begun and not finished"):
        refuse_unfinished(bench.log)
    with pytest.raises(TidegateError, match="--partitions 4 to finish"):
        reshard(bench.shop, "clickstream", 8, print)
    reshard(bench.shop, "clickstream", 4, print)
    refuse_unfinished(bench.log)
    topics = bench.log.topics()
    assert {topics[t].partitions for t in (*CLICKS, "sessions")} == {4}
    heads = [r for r in bench.records("raw.clickstream") if r.partition >= 2]
    assert len(heads) == 2  # handed over once each
    bench.log.close()


def test_a_client_hands_nothing_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "data", **SETTINGS)
    forged = handover("ingest", "raw.clickstream", 0, 0, b"not a state at all")
    bench.log.append([forged])
    publish(bench, 0)
    run_clicks(bench)
    assert final_sessions(bench)
    bench.log.close()


def test_what_cannot_be_right_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "data", **SETTINGS)
    for number, says in ((2, "already"), (3, "only a multiple.*4, 6"), (1, "only a multiple")):
        with pytest.raises(TidegateError, match=says):
            reshard(bench.shop, "clickstream", number, print)
    for name, says in (
        ("ingest", "those of all sources; name sessionize"),
        ("nope", "no flow"),
        ("product_catalog", "every process that enriches"),
    ):
        with pytest.raises(TidegateError, match=says):
            source_of(name, bench.shop)
    assert source_of("sessionize", bench.shop) == "clickstream"

    event = {"event_id": "1", "event_type": "page_view", "user_id": "u1"}
    value = json.dumps(event | {"event_timestamp": "2026-05-01T12:00:00Z"}).encode()
    bench.log.append([published("raw.clickstream", [b"u1"], [value], partition=p) for p in (0, 1)])
    with pytest.raises(TidegateError, match="places keys otherwise"):
        reshard(bench.shop, "clickstream", 4, print)
    assert bench.log.topics()["raw.clickstream"].partitions == 2
