"""Models of sessions, made from sessions that nobody had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flow_bench import Bench

from dataflows.detection.registry import Registry
from dataflows.detection.session_model import NAME, EndedSessions, SessionModel, session_model
from services.history.sessions import LastSessions
from services.models.standing import put_in_force
from services.training.sessions import ForestSettings, train
from services.training.train import Trained

SECOND_US = 1_000_000
START_US = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z


def past(seed: int = 0, count: int = 600) -> LastSessions:
    """Sessions of a few events and minutes, by day."""
    rng = np.random.default_rng(seed)
    events = 1 + rng.geometric(0.15, count)
    seconds = np.where(events > 1, events * rng.uniform(5, 90, count), 0).astype(np.int64)
    days, hours = rng.integers(0, 7, count), rng.normal(15, 3, count) % 24
    started_us = START_US + ((days * 24 + hours) * 3_600).astype(np.int64) * SECOND_US
    order = np.argsort(started_us, kind="stable")
    return LastSessions(
        ids=np.array([f"s{n}" for n in range(count)], object),
        sessions=EndedSessions(
            started_us=started_us[order],
            ended_us=(started_us + seconds * SECOND_US)[order],
            events=events[order],
            stages=np.minimum(rng.geometric(0.4, count) - 1, 4)[order],
        ),
    )


def trained(seed: int = 0, share: float = 0.02, trees: int = 20, name: str = NAME) -> Trained:
    return train(past(seed), ForestSettings(name, share, trees, seed))


def judge(seed: int = 0, share: float = 0.02) -> SessionModel:
    made = trained(seed, share)
    return session_model(made.card, made.model, "here")


def keep_session_model(models: Path, seed: int = 0, share: float = 0.02) -> str:
    """Puts one into the folder; its version."""
    made = trained(seed, share)
    Registry(models).add(made.card, made.arrays)
    return made.card.version


def promote_session_model(bench: Bench, models: Path, share: float = 0.02) -> str:
    """Puts one into the folder, and in force on the stream; its version."""
    version = keep_session_model(models, share=share)
    put_in_force(bench.shop, Registry(models), version, (), "a test", NAME)
    return version
