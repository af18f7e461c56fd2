"""The one configuration: typed, parsed once at the edge, passed down.

A file (TOML), then environment variables `TIDEGATE_<SECTION>_<KEY>` (`TIDEGATE_BUS`,
`TIDEGATE_EVENT_TIME_GAP`), then what a command sets; later ones win. Unknown keys are refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec

from dataflows.durations import Duration
from dataflows.errors import TidegateError

HOUSE = Path(__file__).resolve().parents[2]
DEFAULT_FILE = "tidegate.toml"
ENVIRONMENT_PREFIX = "TIDEGATE_"

Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
InDatasetName = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_]*$")]
MoreThanNone = Annotated[float, msgspec.Meta(gt=0)]


class ConfigError(TidegateError):
    """A configuration that cannot be used."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file; keys it does not know are refused."""


class EventTime(Section, frozen=True):
    """What late means, and when a session ends (docs/reference/time.md)."""

    bound: Duration = Duration.parse("30s")
    lateness: Duration = Duration.parse("1h")
    horizon: Duration = Duration.parse("7d")
    max_future: Duration = Duration.parse("5m")
    gap: Duration = Duration.parse("30m")
    max_duration: Duration = Duration.parse("24h")
    max_events: Positive = 10_000
    reprocess_quiet: Duration = Duration.parse("10m")

    def __post_init__(self) -> None:
        if self.lateness > self.horizon:
            raise ValueError(f"lateness {self.lateness} must not exceed horizon {self.horizon}")


class Slots(Section, frozen=True):
    """How a slot reads, keeps its state and rests."""

    batch_records: Positive = 5_000
    snapshot_interval: Duration = Duration.parse("10s")
    poll_busy: Duration = Duration.parse("5ms")
    poll_idle: Duration = Duration.parse("200ms")
    park_after: Duration = Duration.parse("10s")
    lease_wait: Duration = Duration.parse("4s")
    reference_wait: Duration = Duration.parse("30s")
    max_record_bytes: Positive = 1_048_576
    dedup_max_ids: Positive = 2_000_000
    journal_above_bytes: Positive = 16_777_216


class Lake(Section, frozen=True):
    """The Parquet lake."""

    file_records: Positive = 100_000
    compact_below_records: Positive = 50_000
    compact_files: Positive = 8


class BigQuery(Section, frozen=True):
    """Where `load` writes when not into the lake, and what is before the names of the warehouse's
    datasets there (docs/how-to/bigquery.md)."""

    dataset: str = ""
    commit_records: Positive = 100_000
    warehouse_prefix: InDatasetName = ""


class Warehouse(Section, frozen=True):
    """What builds of the warehouse tell others (docs/how-to/warehouse.md)."""

    lineage: str = ""


class Retention(Section, frozen=True):
    """How long topics keep what no contract speaks of; a source's topics keep their records for the
    contract's retention_days."""

    derived: Duration = Duration.parse("30d")
    dead_letters: Duration = Duration.parse("90d")


class Topics(Section, frozen=True):
    """How topics are made on Kafka; 0 leaves it to the broker."""

    create: bool = True
    replication_factor: NotNegative = 0
    min_insync_replicas: NotNegative = 0

    def __post_init__(self) -> None:
        if 0 < self.replication_factor < self.min_insync_replicas:
            raise ValueError(
                f"min_insync_replicas {self.min_insync_replicas} must not exceed "
                f"replication_factor {self.replication_factor}"
            )


class Service(Section, frozen=True):
    """What `tidegate up` runs and where it listens."""

    host: str = "127.0.0.1"
    port: Port = 9460
    alone: tuple[str, ...] = ("ingest", "sessionize", "load")
    restart_backoff: Duration = Duration.parse("500ms")
    restart_backoff_max: Duration = Duration.parse("30s")
    crash_loop_restarts: Positive = 5
    crash_loop_window: Duration = Duration.parse("60s")
    heartbeat_after: Duration = Duration.parse("1m")


class Cost(Section, frozen=True):
    """What `tidegate cost` prices, beside what it measures (docs/how-to/cost.md)."""

    prices: str = ""
    region: str = "us-central1"
    budget_a_day: Decimal = Decimal(0)
    alert_at: tuple[MoreThanNone, ...] = (0.5, 0.9, 1.0)
    builds_a_day: NotNegative = 96
    replicas: Positive = 1
    pod_vcpu: Decimal = Decimal("0.5")
    pod_memory_gib: Decimal = Decimal(2)
    pod_load: Decimal = Decimal("0.5")
    # CPU of a record of each flow's input, in microseconds: as measured on Kafka (README).
    cpu_us_ingest: Decimal = Decimal("5.4")
    cpu_us_sessionize: Decimal = Decimal("2.5")
    cpu_us_features: Decimal = Decimal("8.4")
    cpu_us_score: Decimal = Decimal("10.3")
    cpu_us_measure: Decimal = Decimal("5.1")  # on the embedded log, as detect
    cpu_us_detect: Decimal = Decimal("40")
    cpu_us_watch: Decimal = Decimal("3.1")  # as sessionize, by the ratio of their pure cores
    cpu_us_late: Decimal = Decimal("5.4")  # not measured: as ingest
    cpu_us_load: Decimal = Decimal("5.5")

    def __post_init__(self) -> None:
        if not self.budget_a_day.is_finite() or self.budget_a_day < 0:
            raise ValueError(f"budget_a_day {self.budget_a_day} must be an amount, or 0 for none")
        pod = {name: getattr(self, name) for name in ("pod_vcpu", "pod_memory_gib", "pod_load")}
        for name, value in {**pod, **{f"cpu_us_{k}": v for k, v in self.cpu_us.items()}}.items():
            if not value.is_finite() or value <= 0:
                raise ValueError(f"{name} {value} must be more than 0")

    @property
    def cpu_us(self) -> dict[str, Decimal]:
        """By flow."""
        found = msgspec.structs.asdict(self)
        return {k.removeprefix("cpu_us_"): v for k, v in found.items() if k.startswith("cpu_us_")}


class Config(Section, frozen=True):
    """Everything Tidegate can be told. Paths are relative to the working directory."""

    bus: str = ""
    data_dir: str = ".tidegate"
    schemas: str = str(HOUSE / "schemas")
    rules: str = str(HOUSE / "rules")
    metrics: str = str(HOUSE / "metrics")
    behaviours: str = str(HOUSE / "behaviours")
    features: str = ""
    models: str = ""
    warehouse_sql: str = str(HOUSE / "warehouse_sql")
    partitions: dict[str, Positive] = {}
    kafka: dict[str, str] = {}
    event_time: EventTime = EventTime()
    slots: Slots = Slots()
    lake: Lake = Lake()
    bigquery: BigQuery = BigQuery()
    warehouse: Warehouse = Warehouse()
    retention: Retention = Retention()
    topics: Topics = Topics()
    service: Service = Service()
    cost: Cost = Cost()

    @property
    def bus_url(self) -> str:
        return self.bus or f"sqlite:///{self.data_path / 'log.db'}"

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir)

    @property
    def models_path(self) -> Path:
        return Path(self.models) if self.models else self.data_path / "models"

    @property
    def prices_path(self) -> Path:
        return Path(self.cost.prices) if self.cost.prices else HOUSE / "config" / "prices.yaml"

    @property
    def lake_path(self) -> Path:
        return self.data_path / "lake"

    @property
    def state_path(self) -> Path:
        return self.data_path / "state"

    @property
    def run_path(self) -> Path:
        return self.data_path / "run"


def load_config(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Config:
    """The configuration of `path` (or `tidegate.toml` here, if there is one), then the others.

    Args:
        path: a TOML file; must exist when given.
        environment: variables, of which those with the prefix count.
        overrides: dotted keys (`event_time.gap`) and their values.

    Raises:
        ConfigError: an unreadable file, an unknown key, a value out of place; says where.
    """
    document, origin = _read(path)
    for name, text in (environment or {}).items():
        if name.startswith(ENVIRONMENT_PREFIX) and (keys := _environment_keys(name)):
            _put(document, keys, _scalar(text))
    for dotted, value in (overrides or {}).items():
        _put(document, dotted.split("."), value)
    try:
        return msgspec.convert(document, Config, dec_hook=_decode_custom)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{origin}: {error}; docs/reference/config.md lists every key") from error


def event_time_keys() -> tuple[str, ...]:
    """The keys that `--set` takes in a replay."""
    return EventTime.__struct_fields__


def to_toml_value(value: object) -> object:
    """A value as a configuration file holds it."""
    return str(value) if isinstance(value, Duration) else value


def _read(path: Path | None) -> tuple[dict[str, Any], str]:
    if path is None:
        path = Path(DEFAULT_FILE)
        if not path.is_file():
            return {}, "configuration"
    try:
        return tomllib.loads(path.read_text("utf-8")), str(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such configuration file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error


def _environment_keys(name: str) -> list[str]:
    key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
    for field in msgspec.structs.fields(Config):
        if key == field.name:
            return [key]
        if field.name == "kafka" and key.startswith("kafka_"):
            return ["kafka", key.removeprefix("kafka_").replace("_", ".")]
        if isinstance(field.default, Section) and key.startswith(f"{field.name}_"):
            return [field.name, key.removeprefix(f"{field.name}_")]
    raise ConfigError(f"environment: {name} names no setting; docs/reference/config.md lists them")


def _scalar(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdecimal() else text


def _put(document: dict[str, Any], keys: list[str], value: object) -> None:
    *sections, last = keys
    for section in sections:
        document = document.setdefault(section, {})
    document[last] = value


def _decode_custom(kind: type, value: object) -> object:
    if kind is Duration and isinstance(value, str):
        return Duration.parse(value)
    raise ValueError(f"expected a duration such as 30s, got {value!r}")
