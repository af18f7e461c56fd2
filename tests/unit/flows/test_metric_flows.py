"""The two hops of metrics: whatever the batches, restarts and turns of partitions, the figures are
the same, and those of plain Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.connectors.records import END_OF_TIME_US, Headers, Records, heartbeat_headers
from dataflows.contracts import load_contracts
from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.metrics import Metrics, parse_metric
from dataflows.flows.decoding import Events, decode_events
from dataflows.flows.detect import MOST_EMPTY, Judge, Measured, Sums, decode, explained
from dataflows.flows.measure import MetricCounts, event_decoder
from dataflows.flows.metric_parts import PARTS
from dataflows.runtime.config import load_config
from dataflows.runtime.sink import Processed

HOUR_US = 3_600_000_000
START_US = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z
PARTITIONS = 2
CONTRACT = load_contracts(Path(load_config().schemas))["transactions"]
EVENT_TIME = load_config().event_time
METHODS = ("card", "paypal", "gift_card", None)
HEAD = "description: d\nowner: o\nsource: transactions\nwindow: 1h\n"
FILES = (
    HEAD + "id: paid\naggregate: count\nwhere: status = 'captured'\n",
    HEAD + "id: revenue\naggregate: sum\nof: total_amount\n"
    "segments: {by: payment_method, values: [card, paypal]}\n",
    HEAD + "id: value\naggregate: mean\nof: total_amount\nat_least: 2\n",
    HEAD + "id: declined\naggregate: rate\nof: status = 'declined'\nper: status = 'captured'\n",
)

Event = dict[str, Any]


def metrics(*files: str) -> Metrics:
    return tuple(parse_metric(text, "m.yaml", {"transactions": CONTRACT}) for text in files)


@st.composite
def traffic(draw: st.DrawFn) -> list[list[Event]]:
    """Of each partition events at most the allowed lateness behind, and at the end of time."""
    return [draw(st.lists(_events(), max_size=25)) for _ in range(PARTITIONS)]


@st.composite
def _events(draw: st.DrawFn) -> Event:
    return {
        "step_us": draw(st.sampled_from([0, 60_000_000, HOUR_US, 3 * HOUR_US])),
        "behind_us": draw(st.sampled_from([0, 0, 1_000_000, HOUR_US // 2, HOUR_US])),
        "cents": draw(st.integers(0, 10**14 - 1)),
        "status": draw(st.sampled_from(["captured", "declined", "refunded", None])),
        "method": draw(st.sampled_from(METHODS)),
    }


def placed(events: Sequence[Event]) -> Iterator[Event]:
    """With the time of each."""
    newest_us = START_US
    for event in events:
        newest_us += event["step_us"]
        yield {**event, "time_us": newest_us - event["behind_us"]}


def records(events: Sequence[Event], partition: int) -> Records:
    values: list[bytes | None] = []
    for event in placed(events):
        said = {"event_timestamp": format_timestamps(np.array([event["time_us"]]))[0]}
        said |= {"total_amount": f"{event['cents'] // 100}.{event['cents'] % 100:02d}"}
        said |= {} if event["status"] is None else {"status": event["status"]}
        method = event["method"]
        values.append(
            json.dumps(said | {"payment": {} if method is None else {"method": method}}).encode()
        )
    headers: list[Headers] = [() for _ in values]
    end = heartbeat_headers(END_OF_TIME_US)
    return log(f"events.{CONTRACT.source}", [*values, None], partition, [*headers, end])


def log(
    topic: str,
    values: list[bytes | None],
    partition: int = 0,
    headers: list[Headers] | None = None,
) -> Records:
    at = np.arange(len(values))
    return Records(topic, partition, at, at, [None] * len(values), values, headers)


def batches(whole: Records, cuts: Sequence[int]) -> Iterator[Records]:
    edges = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    for begin, end in pairwise(edges):
        yield whole.slice(begin, end)


def measured(
    declared: Metrics, whole: Records, cuts: Sequence[int], restarts: bool
) -> list[tuple[int, bytes]]:
    """(cause, part) of a partition."""

    def restore(blob: bytes | None) -> MetricCounts:
        return MetricCounts(EVENT_TIME, declared, whole.partition, PARTITIONS, blob)

    decoder = event_decoder(CONTRACT, declared)
    found = run(whole, cuts, restarts, lambda r: decode_events(decoder, r), restore)
    return [said for topic, said in found if topic == PARTS]


def detected(parts: Records, cuts: Sequence[int], restarts: bool) -> list[tuple[str, Any]]:
    """(topic, (cause, value)) of everything published."""
    sums, judge, found = Sums(None), Judge(None), []
    for batch in batches(parts, cuts):
        if restarts:
            sums, judge = Sums(sums.snapshot()), Judge(judge.snapshot())
        found += published(judge.process(sums.process(decode(batch))))
    return sorted(found, key=lambda said: said[0])


def run(
    whole: Records,
    cuts: Sequence[int],
    restarts: bool,
    read: Callable[[Records], Events[Any]],
    restore: Callable[[bytes | None], MetricCounts],
) -> list[tuple[str, Any]]:
    state, found = restore(None), []
    for batch in batches(whole, cuts):
        if restarts:
            state = restore(state.snapshot())
        found += published(state.process(read(batch)))
    return found


def published(processed: Processed) -> list[tuple[str, Any]]:
    return [
        (output.topic, said)
        for output in processed.outputs
        for said in zip(output.causes.tolist(), output.values, strict=True)
    ]


def merged(parts: Sequence[list[tuple[int, bytes]]], turns: Sequence[bool]) -> Records:
    """The parts of both partitions, which take turns."""
    waiting = [[part for _, part in own] for own in parts]
    values: list[bytes | None] = []
    for turn in turns:
        own = waiting[turn] or waiting[not turn]
        values += [own.pop(0)] if own else []
    return log(PARTS, [*values, *waiting[0], *waiting[1]])


def wanted(traffic: Sequence[Sequence[Event]]) -> dict[tuple[str, str | None, int], float | None]:
    """Every figure, by metric, segment and window."""
    events = [event for own in traffic for event in placed(own)]
    starts = sorted({event["time_us"] // HOUR_US * HOUR_US for event in events})
    figures: dict[tuple[str, str | None, int], float | None] = {}

    def within(start: int, *statuses: str | None) -> list[Event]:
        own = [e for e in events if e["time_us"] // HOUR_US * HOUR_US == start]
        return [e for e in own if not statuses or e["status"] in statuses]

    for start in range(starts[0], starts[-1] + HOUR_US, HOUR_US) if starts else ():
        there, paid = within(start), within(start, "captured")
        declined = within(start, "declined")
        cents = sum(e["cents"] for e in there)
        figures["paid", None, start] = len(paid)
        figures["revenue", None, start] = cents / 100
        for name in ("card", "paypal", "(other)"):
            own = [
                e
                for e in there
                if (e["method"] if e["method"] in METHODS[:2] else "(other)") == name
            ]
            figures["revenue", name, start] = sum(e["cents"] for e in own) / 100
        figures["value", None, start] = cents / 100 / len(there) if len(there) >= 2 else None
        figures["declined", None, start] = len(declined) / len(paid) if paid else None
    return figures


@settings(max_examples=60, deadline=None)
@given(traffic(), st.lists(st.integers(0, 99), max_size=8), st.booleans(), st.lists(st.booleans()))
def test_figures_are_those_of_plain_python_and_batches_and_restarts_change_nothing(
    events: list[list[Event]], cuts: list[int], restarts: bool, turns: list[bool]
) -> None:
    declared = metrics(*FILES)
    wholes = [records(own, partition) for partition, own in enumerate(events)]
    parts = [measured(declared, whole, [], False) for whole in wholes]
    assert [measured(declared, whole, cuts, restarts) for whole in wholes] == parts
    in_turn = merged(parts, turns)
    said = detected(in_turn, [], False)
    assert detected(in_turn, cuts, restarts) == said
    figures = [json.loads(value) for topic, (_, value) in said if topic == "metrics"]
    found = {(f["metric"], f["segment"], f["window_start"]): f["value"] for f in figures}
    assert len(found) == len(figures)
    assert all(f["lower"] is None or f["lower"] >= 0 for f in figures)
    expected = wanted(events)
    # Windows before the first and after the last one of a metric that had events are not told.
    for (metric, segment, start), value in expected.items():
        key = (metric, segment, format_timestamps(np.array([start]))[0])
        assert found.pop(key, 0 if metric in ("paid", "revenue") else None) == (
            value if value is None else pytest.approx(value, rel=1e-12)
        )
    assert not found


def event(hours: float) -> Event:
    return {"step_us": int(hours * HOUR_US), "behind_us": 0, "cents": 1, "status": "captured"} | {
        "method": None
    }


def values(events: Sequence[Event]) -> list[float | None]:
    """The figures of `paid`, of events of one partition while nothing comes into the other."""
    declared = metrics(FILES[0])
    parts = [measured(declared, records(own, p), [], False) for p, own in enumerate((events, []))]
    said = detected(merged(parts, []), [], False)
    return [json.loads(value)["value"] for topic, (_, value) in said if topic == "metrics"]


def test_hours_without_events_count_as_zero_up_to_a_limit() -> None:
    assert values([event(0), event(3), event(0.1)]) == [1, 0, 0, 2]
    for years in (1, 50):
        told = values([event(0), event(years * 8_760)])
        assert told == [1, *[0] * MOST_EMPTY, 1]


def test_a_metric_that_is_new_or_changed_begins_with_the_next_whole_window() -> None:
    whole = records([event(0.2), event(0.2), event(1), event(0.1), event(1)], 0)
    before, changed = metrics(FILES[0]), metrics(FILES[0].replace("captured", "refunded"))
    state = MetricCounts(EVENT_TIME, before, 0, 1, None)
    parts = published(
        state.process(decode_events(event_decoder(CONTRACT, before), whole.slice(0, 1)))
    )
    for declared in (changed, before):
        restored = MetricCounts(EVENT_TIME, declared, 0, 1, state.snapshot())
        read = decode_events(event_decoder(CONTRACT, declared), whole.slice(1, len(whole)))
        found = [*parts, *published(restored.process(read))]
        told = detected(
            log(PARTS, [value for topic, (_, value) in found if topic == PARTS]), [], False
        )
        starts = [json.loads(value)["window_start"][11:16] for topic, (_, value) in told]
        # Nothing is refunded: but the first window could not have been told in any case.
        assert starts == ([] if declared is changed else ["00:00", "01:00", "02:00"])
        since = [json.loads(value)["since_us"] for topic, (_, value) in found if topic == PARTS]
        assert since[-1] == (START_US + HOUR_US if declared is changed else None)


def test_a_window_waits_for_every_partition() -> None:
    declared = metrics(FILES[0])
    parts = [measured(declared, records([event(0), event(3)], p), [], False) for p in range(2)]
    alone = detected(log(PARTS, [part for _, part in parts[0]]), [], False)
    assert alone == []
    both = detected(merged(parts, [True, False]), [], False)
    assert [json.loads(value)["value"] for _, (_, value) in both] == [2, 0, 0, 2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "orders of DE was 4 from {}, less than the 30 to 61.3 that was expected"),
        (
            {"value": 1e6},
            "orders of DE was 1,000,000 from {}, more than the 30 to 61.3 that was expected",
        ),
        (
            {"value": 40, "segment": None},
            "orders was 40 from {}, within the 30 to 61.3 that was "
            "expected, but the last windows together are unlike any before",
        ),
        ({"lower": nan}, "orders of DE was 4 from {}, unlike anything before"),
    ],
)
def test_an_anomaly_is_told_in_words(changes: dict[str, Any], said: str) -> None:
    fields: dict[str, Any] = {
        "metric": "orders",
        "segment": "DE",
        "window_start": "2026-03-02T10:00:00.000000Z",
        "window_end": "2026-03-02T11:00:00.000000Z",
        "value": 4.0,
        "expected": 45.0,
        "lower": 30.0,
        "upper": 61.3,
        "score": 0.9,
        "version": "v",
    }
    when = "2026-03-02 10:00 to 2026-03-02 11:00 UTC"
    assert explained(Measured(**fields | changes)) == said.format(when)
