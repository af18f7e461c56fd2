"""Compiles every numba kernel by using it once; the machine code is cached beside the source."""

from __future__ import annotations

import numpy as np

from dataflows.contracts.money import parse_money
from dataflows.contracts.timestamps import format_timestamps, parse_timestamps
from dataflows.eventtime.name_table import NameTable
from dataflows.eventtime.sessions import EVENT, HEARTBEAT, Sessions, SessionSettings
from dataflows.features.catalogue import CUSTOMER, DEVICE
from dataflows.features.rolling import Payments, RollingFeatures
from services.publisher.identity import DerivedIds


def compile_kernels() -> None:
    """Takes seconds the first time and a fraction of one afterwards."""
    times_us, _ = parse_timestamps(["2026-01-01T00:00:00Z", 1])
    format_timestamps(times_us)
    parse_money(["1.00"])
    DerivedIds("any").next_ids([b"any"])
    NameTable().ids([f"name {i}" for i in range(2_000)])  # enough to make it grow
    settings = SessionSettings(
        gap_us=1, bound_us=1, lateness_us=1, max_duration_us=10, max_events=10
    )
    sessions = Sessions(settings)
    kinds = np.array([EVENT, EVENT, HEARTBEAT], np.uint8)  # so that two sessions are written
    times = np.array([1, 2, 100], np.int64)
    sessions.process(times, ["a", "b", None], np.zeros(3, np.uint8), kinds)
    for declared in (CUSTOMER, DEVICE):
        fields = {name: ["a", None] for name in (declared.entity, *declared.others)}
        rolling = RollingFeatures(declared, lateness_us=1)
        rolling.process(Payments(fields, times_us, times_us, times_us, np.ones(2, np.bool_)))
        RollingFeatures(declared, lateness_us=1).restore(rolling.snapshot())
    Sessions.restore(settings, sessions.snapshot())
