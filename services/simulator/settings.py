"""What a simulation is made of: size, seed, mix of sources, rates of faults and fraud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime

from dataflows.errors import TidegateError
from services.simulator.vocabulary import CATEGORIES

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US

SOURCES = (
    "clickstream",
    "transactions",
    "customer_support",
    "product_catalog",
    "customer_profiles",
    "labels",
)

DEFAULT_MIX: Mapping[str, float] = {
    "clickstream": 0.80,
    "transactions": 0.08,
    "customer_support": 0.03,
    "product_catalog": 0.045,
    "customer_profiles": 0.035,
    "labels": 0.01,
}
DEFAULT_PARTITIONS: Mapping[str, int] = {"clickstream": 2}


class SettingsError(TidegateError):
    """A simulation cannot be made from these settings."""


@dataclass(frozen=True, slots=True)
class FaultRates:
    """Shares of the records (0..1) that arrive in trouble.

    `late`, `buffered` and `expired` are shares of what holds deliveries back: for the
    clickstream, visits that lose their connection half-way, elsewhere single records. Each kind
    of breakage that a source can suffer happens at the rate `broken`, and at least once.
    """

    out_of_order: float = 0.04
    late: float = 0.012
    buffered: float = 0.003
    expired: float = 0.001
    duplicates: float = 0.006
    broken: float = 0.0004
    missing_user: float = 0.0008

    def __post_init__(self) -> None:
        for rate in fields(self):
            value = getattr(self, rate.name)
            if not 0 <= value <= 0.5:
                raise SettingsError(f"fault rate {rate.name} is {value}: give a share in 0..0.5")


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """One month of a shop. Pure: the same settings give the same bytes, whatever the clock says.

    `target_events` counts the records of all sources, faults included, and is met within a few
    per cent. `mix` shares them out; what the others leave goes to the clickstream.
    `fraud_share` of the transactions are fraudulent, but each kind of fraud happens at least once.
    `partitions` are the raw topics' partition counts (1 for a source not named).
    `published_us` is the latest instant, in microseconds, at which the log will stamp a record:
    timestamps from the future are made to lie beyond it. Default: the end of the last day.
    """

    start: date
    days: int = 30
    customers: int = 4_000
    products: int = 600
    target_events: int = 320_000
    seed: int = 7
    mix: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_MIX))
    faults: FaultRates = field(default_factory=FaultRates)
    fraud_share: float = 0.006
    partitions: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_PARTITIONS))
    chunk_us: int = HOUR_US
    published_us: int | None = None

    def __post_init__(self) -> None:
        self._at_least("days", 1)
        self._at_least("customers", 20)
        self._at_least("products", len(CATEGORIES))
        self._at_least("seed", 0)
        self._at_least("chunk_us", 1_000_000)
        self._at_least("target_events", 2 * (self.customers + self.products))
        if not 0 <= self.fraud_share <= 0.1:
            raise SettingsError(f"fraud_share is {self.fraud_share}: give a share in 0..0.1")
        self._check_names("mix", self.mix)
        self._check_names("partitions", self.partitions)
        if any(share < 0 for share in self.mix.values()) or sum(self.mix.values()) > 1.000001:
            raise SettingsError(f"mix {dict(self.mix)}: give shares >= 0 that add up to at most 1")
        if any(count < 1 for count in self.partitions.values()):
            raise SettingsError(f"partitions {dict(self.partitions)}: give counts of at least 1")
        if self.published_us is not None and self.published_us < self.end_us:
            raise SettingsError(
                f"the last day ends after the moment of publication: start {self.days} days before"
                " it, or earlier"
            )

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value < least:
            raise SettingsError(f"{name} is {value}: give at least {least}")

    def _check_names(self, name: str, given: Mapping[str, object]) -> None:
        unknown = sorted(set(given) - set(SOURCES))
        if unknown:
            known = ", ".join(SOURCES)
            raise SettingsError(f"{name} names {', '.join(unknown)}: known are {known}")

    @property
    def start_us(self) -> int:
        """Midnight UTC of the first day."""
        midnight = datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC)
        return int(midnight.timestamp()) * 1_000_000

    @property
    def end_us(self) -> int:
        """Midnight UTC after the last day."""
        return self.start_us + self.days * DAY_US

    def partitions_of(self, source: str) -> int:
        return self.partitions.get(source, 1)

    @property
    def valid_events(self) -> int:
        """Events wanted before repeats and broken records come on top."""
        extra = self.faults.duplicates + 10 * self.faults.broken
        return round(self.target_events / (1 + extra))

    def records_of(self, source: str) -> int:
        """Valid events that the mix gives to `source`."""
        return round(self.valid_events * self.mix.get(source, 0.0))
