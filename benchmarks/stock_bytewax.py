"""Session windows as Bytewax's documentation writes them: the peer to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import bytewax.operators as op
import bytewax.operators.windowing as windowing
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SessionWindower
from bytewax.testing import TestingSink, TestingSource, run_main


class _Visit(msgspec.Struct, gc=False):
    user_id: str
    event_timestamp: datetime


_decode = msgspec.json.Decoder(_Visit).decode


def run(values: Sequence[bytes]) -> int:
    """Counts the events of each session; returns how many sessions came out."""
    counted: list[tuple[str, tuple[int, int]]] = []
    flow = Dataflow("stock")
    records = op.input("read", flow, TestingSource(values, batch_size=2_000))
    visits = op.map("decode", records, _decode)
    clock: EventClock[_Visit] = EventClock(
        ts_getter=lambda visit: visit.event_timestamp,
        wait_for_system_duration=timedelta(seconds=30),
    )
    gap = SessionWindower(gap=timedelta(minutes=30))
    counts = windowing.count_window("count", visits, clock, gap, key=lambda v: v.user_id)
    op.output("publish", counts.down, TestingSink(counted))
    run_main(flow)
    return len(counted)
