"""The law: a slot is a pure function of its log, wherever batches, snapshots and restarts fall."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from flow_bench import Bench
from payments_to_score import keep_model
from sessions_to_judge import promote_session_model

from dataflows.connectors.records import heartbeat_time, published
from dataflows.detection.registry import Registry
from dataflows.flows.logins import LOGINS
from dataflows.flows.metric_parts import PARTS
from dataflows.flows.payments import REQUESTS, with_names
from dataflows.flows.topology import SESSIONS
from dataflows.runtime.config import load_config
from services.models.standing import put_in_force
from services.replay import replay
from services.replay.lines import read_lines
from services.status.peek import Record, peek_records, to_json_line
from services.status.slots import slot_statuses

PARTITIONS = {"partitions": {"clickstream": 1, "customer_support": 2}}
PREFIX = 700  # records, where they are taken one at a time

# The slots that are compared, and the topics that each alone writes here; but for the parts of
# metrics, which say of which metric they are, and incidents, which say whose they are.
SLOTS = {
    ("ingest", "raw.clickstream", 0): ("events.clickstream", "late.clickstream", "dlq.clickstream"),
    ("ingest", "raw.transactions", 0): ("events.transactions", "dlq.transactions"),
    ("ingest", "raw.customer_support", 1): ("events.customer_support", "dlq.customer_support"),
    ("late", "late.clickstream", 0): ("buffered.clickstream", "reprocess.requests", "dlq.late"),
    ("sessionize", "events.clickstream", 0): ("sessions", "late.sessionize", "dlq.sessionize"),
    ("features", "events.transactions", 0): ("scoring.requests", "dlq.features"),
    ("score", "scoring.requests", 0): ("scores", "alerts", "floods", "dlq.score"),
    ("measure", "events.clickstream", 0): (PARTS, "dlq.measure"),
    ("detect", PARTS, 0): ("metrics", "anomalies", "dlq.detect"),
    ("watch", "events.clickstream", 0): ("incidents", LOGINS, "dlq.watch"),
    ("watch", LOGINS, 0): ("incidents", "dlq.watch"),
    ("watch", SESSIONS, 0): ("incidents", "dlq.watch"),
}
WAYS = {  # batch_records, snapshot_interval, how many of the records; live: 500, 10s, all
    "one at a time": (1, "10s", 2_000),
    "by seven, a snapshot after each": (7, "0s", 2_000),
    "by a thousand": (1_000, "10ms", None),
    "all at once": (100_000, "10s", None),
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    directory = tmp_path_factory.mktemp("live")
    bench = Bench(directory, **PARTITIONS, **{"slots.batch_records": 500})
    models = directory / "models"
    promote_session_model(bench, models, share=0.1)
    put_in_force(bench.shop, Registry(models), keep_model(models, 0.001), (), "a test")
    bench.simulate(days=12, events=20_000)
    bench.run("ingest")
    bench.run("late", topic="late.clickstream")
    bench.run("sessionize", "features", "score", "measure", "detect")
    bench.run("watch", topic="events.clickstream")
    bench.run("watch", topic=LOGINS)
    bench.run("watch", topic=SESSIONS)
    return bench


def read(bench: Bench, topic: str, partition: int = 0) -> list[Record]:
    return list(peek_records(bench.log, topic, partition, 0, 2**62))


def values(records: Sequence[Record]) -> list[bytes | None]:
    """What the records say, without heartbeats; of a scoring request each payment."""
    said = [record for record in records if heartbeat_time(record.headers) is None]
    return [
        value
        for record in said
        for value in (
            with_names(record.value or b"") if record.topic == REQUESTS else [record.value]
        )
    ]


def of_source(topic: str, name: str, live: Bench, partition: int) -> list[bytes | None]:
    """What the live run published in topic `name`, of the source of the slot's topic."""
    said = values(read(live, name, partition))
    if name == "incidents":
        return [each for each in said if told_by(json.loads(each or b"")) == topic]
    if name != PARTS:
        return said
    source = topic.partition(".")[2]
    own = {each.metric.id for each in live.shop.metrics if each.metric.source == source}
    return [value for value in said if json.loads(value or b"")["metric"] in own]


def told_by(incident: dict[str, Any]) -> str:
    """The topic that told the flow of it."""
    if incident["behaviour"] == "unusual_session":
        return SESSIONS
    return "events.clickstream" if incident["device_id"] is None else LOGINS


def replayed(
    slot: tuple[str, str, int],
    records: Sequence[Record],
    directory: Path,
    models: Path,
    **settings: object,
) -> dict[str, list[bytes | None]]:
    """What a replay of the records says, by topic."""
    flow, topic, _ = slot
    file = directory / "records.jsonl"
    file.write_text("".join(to_json_line(record) + "\n" for record in records), "utf-8")
    dotted = {f"slots.{name}": value for name, value in settings.items()}
    out = directory / "out"
    config = load_config(None, {}, {"models": str(models), **dotted})
    source = topic.partition(".")[2] or topic
    report = replay(flow, source, file, out, config, final=False, as_records=True, arrival_us=0)
    assert report.totals.difference == 0
    return {name: said(out / f"{name}.jsonl") for name in SLOTS[slot]}


def said(file: Path) -> list[bytes | None]:
    if file.name.startswith(("dlq.", "late.")):
        return [line.value for line in read_lines(file, as_records=True, arrival_us=0)]
    return list(file.read_bytes().splitlines())


def flow_and_topic(slot: tuple[str, str, int]) -> str:
    return f"{slot[0]} {slot[1]}"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("slot", SLOTS, ids=flow_and_topic)
def test_replay_gives_what_the_live_run_published(
    slot: tuple[str, str, int], way: str, live: Bench, tmp_path: Path
) -> None:
    batch_records, snapshot_interval, count = WAYS[way]
    _, topic, partition = slot
    records, models = read(live, topic, partition)[:count], live.shop.config.models_path
    given = replayed(
        slot,
        records,
        tmp_path,
        models,
        batch_records=batch_records,
        snapshot_interval=snapshot_interval,
    )
    live_values = {name: of_source(topic, name, live, partition) for name in given}
    if count is not None:
        expected = replayed(slot, records, tmp_path, models, batch_records=100_000)
        assert expected == {name: rows[: len(expected[name])] for name, rows in live_values.items()}
        live_values = expected
    assert given == live_values
    assert any(given.values())


@pytest.mark.parametrize(
    "slot",
    [slot for slot in SLOTS if slot[0] in ("sessionize", "features", "score", "detect", "watch")],
    ids=flow_and_topic,
)
def test_restarts_and_the_return_of_an_older_state_change_nothing(
    slot: tuple[str, str, int], live: Bench, tmp_path: Path
) -> None:
    flow, topic, _ = slot
    records = read(live, topic)
    third = len(records) // 3
    bench = Bench(tmp_path / "data", **PARTITIONS, models=str(live.shop.config.models_path))
    state, backup = bench.shop.config.state_path, tmp_path / "backup"
    for part, rows in enumerate(
        (records[:third], records[third : 2 * third], records[2 * third :])
    ):
        append(bench, topic, rows)
        if part == 2:
            shutil.rmtree(state)
            shutil.copytree(backup, state)
        bench.run(flow, topic=topic)
        if part == 0:
            shutil.copytree(state, backup)
    for name in SLOTS[slot]:
        assert values(read(bench, name)) == of_source(topic, name, live, 0)
    (status,) = (s for s in slot_statuses(bench.shop, (flow,)) if s.topic == topic)
    assert (status.lag_records, status.difference) == (0, 0)
    bench.log.close()


def append(bench: Bench, topic: str, records: Sequence[Record]) -> None:
    keys, said, headers = zip(*((r.key, r.value, r.headers) for r in records), strict=True)
    bench.log.append([published(topic, list(keys), list(said), list(headers), partition=0)])
