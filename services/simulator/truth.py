"""The ground truth: what an exact ingest must count over a simulated stream. Kept as JSON."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dataflows.errors import TidegateError


class TruthError(TidegateError):
    """A ground truth file cannot be used."""


class SourceTruth(msgspec.Struct, frozen=True, kw_only=True):
    """The records of one source, heartbeats aside, by what ingest must make of each.

    total = good + late + buffered + expired + duplicates + all of `failed`. `good` came on time,
    `late` within the allowed lateness, `buffered` within the horizon, `expired` later. `failed`
    goes by dead-letter reason. `out_of_order` tells how many of the good ones came after a newer
    event or heartbeat.
    """

    total: int = 0
    good: int = 0
    late: int = 0
    buffered: int = 0
    expired: int = 0
    duplicates: int = 0
    failed: dict[str, int] = {}
    out_of_order: int = 0
    heartbeats: int = 0


class FraudCase(msgspec.Struct, frozen=True, kw_only=True):
    """One fraud: `kind` is card_burst, account_takeover or compromised_device.

    The lists are sorted by first payment; a list is empty where the case has no such thing.
    Times are RFC 3339.
    """

    kind: str
    user_ids: list[str]
    device_ids: list[str]
    terminal_ids: list[str]
    transaction_ids: list[str]
    first_at: str
    last_at: str


class Bot(msgspec.Struct, frozen=True, kw_only=True):
    """An account that clicks by itself; a run is clicking without a pause that ends a session."""

    user_id: str
    user_agent: str
    clicks: int
    runs: int
    longest_run_clicks: int
    longest_run_hours: float


class MisuseCase(msgspec.Struct, frozen=True, kw_only=True):
    """Misuse that clicks show: `kind` is impossible_travel, password_guessing, credential_stuffing
    or cart_abuse. Times are RFC 3339."""

    kind: str
    user_ids: list[str]
    device_ids: list[str]
    clicks: int
    first_at: str
    last_at: str


class DayTruth(msgspec.Struct, frozen=True, kw_only=True):
    """A day of event time: clicks and payments that came within the horizon, once each.

    `purchases` are payments that are authorized or captured, `revenue` is what they come to.
    """

    clicks: int = 0
    payments: int = 0
    purchases: int = 0
    revenue: str = "0.00"


class GroundTruth(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about a simulation.

    `visits` are shoppers' visits with at least one click in the stream, `purchases` their
    purchase clicks; bots, account takeovers and misuse count in neither. `revenue` sums authorized
    and captured transactions that are valid, once each, whatever their lateness; `revenue_in_time`
    those on time or late. Both in `currency`, decimal. `daily` goes by date, YYYY-MM-DD.
    """

    seed: int
    days: int
    start: str
    end: str
    final_heartbeat: str
    partitions: dict[str, int]
    sources: dict[str, SourceTruth]
    visits: int
    purchases: int
    transactions: int
    fraudulent_transactions: int
    revenue: str
    revenue_in_time: str
    currency: str
    daily: dict[str, DayTruth] = {}
    frauds: list[FraudCase]
    bots: list[Bot]
    misuse: list[MisuseCase] = []


def write_truth(truth: GroundTruth, path: Path) -> None:
    """Write `truth` as indented JSON with sorted keys: the same truth gives the same bytes."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(truth, order="sorted"), indent=2))


def read_truth(path: Path) -> GroundTruth:
    """Read what `write_truth` wrote; TruthError if the file is missing or not a ground truth."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=GroundTruth)
    except OSError as error:
        raise TruthError(f"{path}: cannot read the ground truth: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise TruthError(
            f"{path}: not a ground truth ({error}): write it again with `simulate`"
        ) from error
