"""Chunks: seeded bytes, order of arrival, heartbeats."""

from __future__ import annotations

import hashlib
from collections import Counter

import msgspec
import numpy as np
from simulated import Seen, small

from services.simulator.settings import SimulationSettings
from services.simulator.simulate import Simulation, simulate

HOUR_US = 3_600_000_000


def fingerprint(settings: SimulationSettings) -> str:
    """A hash over every byte of the stream, in order, and over the truth."""
    simulation = simulate(settings)
    digest = hashlib.sha256(msgspec.json.encode(simulation.truth))
    for chunk in simulation.chunks():
        for part in chunk.parts:
            digest.update(f"{part.source}/{part.partition}@{chunk.reached_us}".encode())
            for key, value in zip(part.keys, part.values, strict=True):
                digest.update(repr(key).encode() + b"\0" + repr(value).encode())
    return digest.hexdigest()


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert fingerprint(small(target_events=8_000)) == fingerprint(small(target_events=8_000))


def test_another_seed_gives_other_bytes() -> None:
    assert fingerprint(small(target_events=8_000)) != fingerprint(
        small(target_events=8_000, seed=8)
    )


def test_how_time_is_cut_changes_no_record() -> None:
    def values(chunk_us: int) -> Counter[tuple[str, int, bytes]]:
        simulation = simulate(small(target_events=8_000, chunk_us=chunk_us))
        return Counter(
            (part.source, part.partition, value)
            for chunk in simulation.chunks()
            for part in chunk.parts
            for value in part.values
            if value is not None
        )

    assert values(HOUR_US) == values(7 * HOUR_US + 1)


def test_chunks_can_be_read_twice(month: Simulation, seen: list[Seen]) -> None:
    again = [value for chunk in month.chunks() for part in chunk.parts for value in part.values]

    assert again == [record.value for record in seen]


def test_records_arrive_in_order_within_their_chunk(month: Simulation) -> None:
    previous = month.settings.start_us - HOUR_US
    for index, chunk in enumerate(month.chunks()):
        assert (chunk.index, chunk.start_us) == (index, previous)
        previous = chunk.end_us
        for part in chunk.parts:
            assert np.all(np.diff(part.arrival_us) >= 0)
            assert np.all(part.arrival_us[:-1] >= chunk.start_us)
            assert np.all(part.arrival_us[:-1] < chunk.end_us)
    assert previous == month.settings.end_us


def test_the_first_chunk_is_the_reference_data_as_it_was(month: Simulation) -> None:
    first = next(month.chunks())
    held = {part.source: len(part) - 1 for part in first.parts if len(part) > 1}

    assert held == {
        "product_catalog": month.settings.products,
        "customer_profiles": 300 - 300 // 20,
    }


def test_every_chunk_ends_every_partition_with_a_heartbeat(month: Simulation) -> None:
    slots = {
        (source, number)
        for source, count in month.truth.partitions.items()
        for number in range(count)
    }
    for chunk in month.chunks():
        assert {(part.source, part.partition) for part in chunk.parts} == slots
        for part in chunk.parts:
            *records, last = zip(part.keys, part.values, part.headers, strict=True)
            beat = (("tidegate-heartbeat", str(chunk.reached_us).encode()),)
            assert last == (None, None, beat)
            assert all(value is not None and headers == () for _, value, headers in records)


def test_the_last_heartbeat_closes_every_session(month: Simulation) -> None:
    *_, last = month.chunks()

    assert last.reached_us >= month.settings.end_us + 2 * HOUR_US
    assert all(
        chunk.last_event_us < month.settings.end_us for chunk in month.chunks() if chunk.records > 0
    )


def test_the_stream_is_as_long_as_asked() -> None:
    for wanted in (20_000, 60_000):
        simulation = simulate(small(target_events=wanted))
        assert abs(simulation.records / wanted - 1) < 0.05


def test_defaults_hold_a_month_of_all_six_sources() -> None:
    sources = simulate(SimulationSettings(start=small().start)).truth.sources

    total = sum(source.total for source in sources.values())
    assert total >= 300_000
    assert len(sources) == 6
    assert 0.77 < sources["clickstream"].total / total < 0.83
    assert 0.07 < sources["transactions"].total / total < 0.09


def test_the_smallest_shop_runs() -> None:
    tiny = SimulationSettings(
        start=small().start, days=1, customers=20, products=12, target_events=64
    )

    assert sum(chunk.records for chunk in simulate(tiny).chunks()) == simulate(tiny).records > 0
