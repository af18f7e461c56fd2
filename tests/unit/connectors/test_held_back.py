"""Which open transactions hang: those that stay where they are, not those of a slot at work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from confluent_kafka import IsolationLevel

from dataflows.connectors import kafka_transactions
from dataflows.connectors.kafka_markers import Place

AT_WORK, QUIET, HANGING = ("sessions", 0), ("sessions", 1), ("tidegate.markers.load.scores.0", 0)
LAST = {AT_WORK: 90, QUIET: 40, HANGING: 20}
STABLE = [{AT_WORK: 80, QUIET: 40, HANGING: 17}, {AT_WORK: 85, HANGING: 17}]


def test_only_what_stays_where_it_is_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_transactions, "LIVELY_S", 0.0)
    looks = iter(STABLE)

    def ends(places: Sequence[Place], isolation: IsolationLevel) -> Mapping[Place, int]:
        return next(looks) if isolation == IsolationLevel.READ_COMMITTED else LAST

    (held,) = kafka_transactions.held_back(ends, list(LAST))
    assert (held.topic, held.partition, held.offset, held.slot) == (*HANGING, 17, "load.scores.0")


def test_nothing_open_is_nothing_to_wait_for() -> None:
    assert kafka_transactions.held_back(lambda places, isolation: LAST, list(LAST)) == []
