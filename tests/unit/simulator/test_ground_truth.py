"""The ground truth against a recount of the emitted bytes, record by record."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from simulated import Seen, records, small

from dataflows.contracts import Contract
from services.simulator.settings import FaultRates, SimulationSettings
from services.simulator.simulate import Simulation, simulate
from services.simulator.truth import SourceTruth, TruthError, read_truth, write_truth

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
MAX_FUTURE_US = 300 * SECOND_US


def recount(
    emitted: list[Seen], contracts: dict[str, Contract], published_us: int
) -> dict[str, SourceTruth]:
    """Ingest, the slow way: contracts decode, everything else is counted here."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    failed: dict[str, Counter[str]] = defaultdict(Counter)
    newest: dict[tuple[str, int], int] = defaultdict(lambda: -(2**62))
    accepted: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    for source, contract in contracts.items():
        own = [record for record in emitted if record.source == source]
        decoded = contract.decode([record.value for record in own])
        reasons = {failure.row: failure.reason for failure in decoded.failures}
        for row, record in enumerate(own):
            slot = (source, record.partition)
            if record.value is None:
                ((name, value),) = record.headers
                assert name == "tidegate-heartbeat"
                newest[slot] = max(newest[slot], int(value))
                counts[source]["heartbeats"] += 1
                continue
            counts[source]["total"] += 1
            event: Any = decoded.events[row]
            time = int(decoded.times_us[row])
            reason = reasons.get(row)
            if reason is None and time > published_us + MAX_FUTURE_US:
                reason = "future_timestamp"
            if reason is None and contract.require_user and not event.user_id:
                reason = "missing_user"
            if reason is not None:
                failed[source][reason] += 1
                continue
            ahead = newest[slot]
            newest[slot] = max(ahead, time)
            watermark = newest[slot] - 30 * SECOND_US
            identity = getattr(event, contract.dedup_key)
            known = accepted[slot].get(identity)
            if known is not None and known >= watermark - HOUR_US:
                counts[source]["duplicates"] += 1
            elif time >= watermark - HOUR_US:
                accepted[slot][identity] = time
                counts[source]["good" if time >= watermark else "late"] += 1
                counts[source]["out_of_order"] += watermark <= time < ahead
            elif time >= watermark - 7 * 24 * HOUR_US:
                counts[source]["buffered"] += 1
            else:
                counts[source]["expired"] += 1
    return {source: SourceTruth(**counts[source], failed=dict(failed[source])) for source in counts}


@pytest.mark.parametrize(
    "settings",
    [
        small(),
        small(seed=8, partitions={}, chunk_us=6 * HOUR_US, target_events=15_000),
        small(
            seed=9,
            target_events=15_000,
            faults=FaultRates(
                out_of_order=0.2, late=0.2, buffered=0.1, expired=0.1, duplicates=0.2, broken=0.01
            ),
        ),
    ],
    ids=["usual", "one partition each", "a bad month"],
)
def test_truth_equals_a_recount_of_the_bytes(
    settings: SimulationSettings, contracts: dict[str, Contract]
) -> None:
    simulation = simulate(settings)

    counted = recount(list(records(simulation)), contracts, settings.end_us)

    assert counted == simulation.truth.sources


def test_every_class_and_every_reason_occurs(month: Simulation) -> None:
    clicks = month.truth.sources["clickstream"]
    anywhere: Counter[str] = Counter()
    for source in month.truth.sources.values():
        anywhere.update(source.failed)

    assert min(clicks.good, clicks.late, clicks.buffered, clicks.expired, clicks.duplicates) > 0
    assert clicks.out_of_order > 0
    assert set(anywhere) == {
        "not_json", "not_utf8", "invalid", "bad_timestamp", "amount_mismatch", "empty",
        "future_timestamp", "missing_user",
    }  # fmt: skip


def test_without_faults_everything_is_good() -> None:
    calm = FaultRates(0, 0, 0, 0, 0, 0, 0)

    truth = simulate(small(faults=calm, target_events=10_000)).truth

    for source in truth.sources.values():
        assert source.good == source.total > 0
        assert source.failed == {}


def test_the_fates_of_a_source_add_up(month: Simulation) -> None:
    for source in month.truth.sources.values():
        fates = (source.good, source.late, source.buffered, source.expired, source.duplicates)
        assert source.total == sum(fates) + sum(source.failed.values())


def test_records_lie_in_the_partition_of_their_key(month: Simulation, seen: list[Seen]) -> None:
    for record in seen:
        if record.value is not None:
            count = month.truth.partitions[record.source]
            expected = 0 if record.key is None else crc32(record.key) % count
            assert record.partition == expected


def test_truth_survives_its_file(month: Simulation, tmp_path: Path) -> None:
    write_truth(month.truth, tmp_path / "truth.json")

    assert read_truth(tmp_path / "truth.json") == month.truth


@pytest.mark.parametrize("content", [b"", b"[]", b'{"seed": "seven"}'])
def test_a_file_that_is_no_truth_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "truth.json"
    file.write_bytes(content)

    with pytest.raises(TruthError, match=r"truth\.json: not a ground truth"):
        read_truth(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TruthError, match=r"gone\.json: cannot read"):
        read_truth(tmp_path / "gone.json")
