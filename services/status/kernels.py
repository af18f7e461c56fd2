"""Compiles every numba kernel by using it once; the machine code is kept in numba's cache.

Numba gives a compiled signature its file name and writes name and code one after the other, with
no lock: processes that fill one cache at once can leave code under another signature's name, and
whoever loads that computes nonsense or crashes. So one process fills the cache, and no other uses a
kernel before it is full.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np

import dataflows
from dataflows.contracts.money import format_money, parse_money
from dataflows.contracts.nesting import MAX_DEPTH, nesting_depth
from dataflows.contracts.timestamps import format_timestamps, parse_timestamps
from dataflows.detection.anomalies import AnomalyDetector
from dataflows.detection.model_kernel import LEAF, NODE
from dataflows.detection.models import Family, linear_model, trees_model
from dataflows.eventtime.dedup import Deduplicator
from dataflows.eventtime.name_table import NameTable
from dataflows.eventtime.sessions import EVENT, HEARTBEAT, Sessions, SessionSettings
from dataflows.eventtime.timelines import Ask, Given, Keeps, Timeline, Timelines, What
from dataflows.features.catalogue import CUSTOMER, DEVICE
from dataflows.features.rolling import Payments, RollingFeatures
from services.publisher.identity import DerivedIds


def need_kernels(say: Callable[[str], None]) -> None:
    """Fills the cache, unless that is done; waits while another process does it."""
    cache = Path(os.environ["NUMBA_CACHE_DIR"])
    full = cache / f"full-{_machine()}"
    if full.exists():
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = open(cache / "filling.lock", "w")  # noqa: SIM115
    except OSError:
        return  # nobody can fill it, then: every process compiles for itself alone
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if full.exists():
            return
        say("compiling kernels, once: this takes up to a minute")
        compile_kernels()
        if dataflows.kernel_cache() == cache:  # else the code changed meanwhile
            full.touch()


def _machine() -> str:
    """Numba compiles for one Python and one kind of processor."""
    processor = llvmlite.binding.get_host_cpu_name()
    features = llvmlite.binding.get_host_cpu_features().flatten()
    parts = (sys.implementation.cache_tag, numba.__version__, processor, features)
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def compile_kernels() -> None:
    """Takes seconds the first time and a fraction of one afterwards."""
    times_us, _ = parse_timestamps(["2026-01-01T00:00:00Z", 1])
    format_timestamps(times_us)
    format_money(parse_money(["1.00"])[0])
    nesting_depth(b"[" * (MAX_DEPTH + 1))
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
        rolling.process(Payments(fields, times_us, times_us, times_us[[0, 1, 1]]))
        RollingFeatures(declared, lateness_us=1).restore([rolling.snapshot()])
    _compile_timelines()
    _compile_models()
    sessions = Sessions.restore(settings, [sessions.snapshot()])
    crowd = 5_000  # enough that their leaving makes the arrays be packed anew
    visitors: list[str | None] = [f"visitor {i}" for i in range(crowd)]
    arrivals, zeros = np.full(crowd, 200), np.zeros(crowd, np.uint8)
    sessions.process(arrivals, visitors, zeros, zeros)
    sessions.process(np.array([300]), [None], zeros[:1], np.full(1, HEARTBEAT, np.uint8))
    Sessions.restore(settings, [b"".join(sessions.changes().parts)])
    ids = Deduplicator(1, crowd)
    ids.seen(["a", "b"], times[:2], times[:2])
    Deduplicator.restore(1, crowd, [ids.snapshot()])
    series = AnomalyDetector()
    series.score(["a"], times[:1], np.zeros(1))
    AnomalyDetector.restore(series.snapshot()).score(["a"], times[:1], np.zeros(1))


def _compile_models() -> None:
    rows = np.zeros((1, 1))
    leaf = np.array([(0.0, LEAF, 0)], NODE)
    trees_model(Family.FOREST, ("a",), leaf, np.zeros(1, np.int64), 0.0, 1.0).score(rows)
    linear_model(("a",), np.zeros(1), np.zeros(1), 0.0).score(rows)


def _compile_timelines() -> None:
    ones, times = np.ones(2, np.bool_), np.array([1, 2], np.int64)
    declared = Timeline(Keeps.NUMBER, (Ask(What.SUM, 1),))
    timelines = Timelines([declared], 0)
    timelines.process(["a", None], times, ones, [Given(ones, times)], times)
    Timelines([declared], 0).restore([timelines.snapshot()])
