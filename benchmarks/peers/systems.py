"""Who takes part: how each is started, what it says, and what it cannot do."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.peers.answers import GONE
from benchmarks.peers.environments import PROGRAMS, java_environment, python_environment
from benchmarks.peers.workloads import FLAGGED_FROM, Answer, Key

Heard = tuple[Key, object]
Reader = Callable[[bytes], Iterable[Heard]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORKERS = {"OMP_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}


@dataclass(frozen=True)
class Place:
    """Where a run happens: the broker, the topics, and a directory for what is kept."""

    servers: str
    source: str
    target: str
    directory: Path


@dataclass(frozen=True)
class System:
    """A system that is measured.

    Args:
        command: (place, workload, mode) -> the command line and additions to the environment.
        understood: by workload, what the right answer is as far as its output says it.
        readers: by workload, what makes a reader: it finds in a published record the rows it says.
        targets: by workload, the topic that it publishes to, where it is not OUTPUT.
        events: by workload, how many events its measured load has at 20,000 keys, so that a run
            takes seconds.
        cannot: by workload, why it does not take part.
        corrects: the workloads in which it publishes a key again when it knows better.
        ends: reads its input to the end and ends itself, so its start-up is measured apart.
        modes: durable, light or both.
        sees_uncommitted: it does not wait for a transaction's end.
    """

    name: str
    title: str
    command: Callable[[Place, str, str], tuple[list[str], dict[str, str]]]
    readers: Mapping[str, Callable[[], Reader]]
    events: Mapping[str, int]
    targets: Mapping[str, str] = field(default_factory=dict)
    cannot: Mapping[str, str] = field(default_factory=dict)
    corrects: frozenset[str] = frozenset()
    ends: bool = False
    modes: tuple[str, ...] = ("durable", "light")
    sees_uncommitted: bool = False
    understood: Mapping[str, Callable[[Answer], Answer]] = field(default_factory=dict)


OUTPUT = "answers"


def _milliseconds(text: str) -> int:
    time = datetime.fromisoformat(text)
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
    return since.days * 86_400_000 + since.seconds * 1_000 + since.microseconds // 1_000


class _Row(msgspec.Struct, gc=False):
    """Any row that a peer or Tidegate publishes, as far as it is compared."""

    user_id: str = ""
    started_ms: int = 0
    ended_ms: int = 0
    started_at: str = ""
    ended_at: str = ""
    window_ms: int = 0
    window_start: str = ""
    count: int = 0
    event_count: int = 0
    superseded_by: str | None = None
    event_id: str = ""
    event_timestamp: str = ""
    day: str = ""
    transaction_id: str = ""
    amount: float = 0.0
    rules: tuple[str, ...] = ()


_row = msgspec.json.Decoder(_Row).decode


def _each(said: Callable[[_Row], Heard]) -> Callable[[], Reader]:
    """A record says one row."""
    return lambda: lambda value: (said(_row(value)),)


def _session(row: _Row) -> Heard:
    return (row.user_id, row.started_ms), [row.ended_ms, row.count] if row.count else GONE


def _session_with_times(row: _Row) -> Heard:
    said = [_milliseconds(row.ended_at), row.count or row.event_count]
    return (row.user_id, _milliseconds(row.started_at)), GONE if row.superseded_by else said


def _running_sessions() -> Reader:
    """A record says a session so far; it replaces those of its user that it overlaps."""
    open_ones: dict[str, dict[int, int]] = {}

    def read(value: bytes) -> Iterable[Heard]:
        row = _row(value)
        of_user = open_ones.setdefault(row.user_id, {})
        for start, end in list(of_user.items()):
            if start != row.started_ms and start <= row.ended_ms and row.started_ms <= end:
                del of_user[start]
                yield (row.user_id, start), GONE
        of_user[row.started_ms] = row.ended_ms
        yield _session(row)

    return read


def _window(row: _Row) -> Heard:
    start_ms = _milliseconds(row.window_start) if row.window_start else row.window_ms
    return (row.user_id, start_ms), row.count


def _event(row: _Row) -> Heard:
    return (row.event_id,), row.day


def _ingested(row: _Row) -> Heard:
    return (row.event_id,), row.event_timestamp[:10]


def _number(transaction_id: str) -> int:
    return int(transaction_id[16:], 16)


def _score(row: _Row) -> Heard:
    return (_number(row.transaction_id),), [row.count, round(row.amount * 100)]


def _flagged(row: _Row) -> Heard:
    return (_number(row.transaction_id),), "card_burst" in row.rules


def _only_flags(right: Answer) -> Answer:
    return {key: value[0] >= FLAGGED_FROM for key, value in right.items()}  # type: ignore[index]


_READERS = {
    "sessions": _each(_session),
    "tumbling": _each(_window),
    "pass_through": _each(_event),
    "scoring": _each(_score),
}

_FLOWS = {
    "sessions": [("sessionize", "events.clickstream")],
    "pass_through": [("ingest", "raw.clickstream")],
    "scoring": [("features", "events.transactions"), ("score", "scoring.requests")],
}


def _tidegate(place: Place, workload: str, mode: str) -> tuple[list[str], dict[str, str]]:
    config = place.directory / "benchmark.toml"
    config.write_text(
        '[partitions]\nclickstream = 1\ntransactions = 1\n[slots]\npark_after = "1h"\n'
    )
    run = [sys.executable, "-m", "services.cli", "--data-dir", str(place.directory), "run"]
    each = [shlex.join([*run, flow, "--slot", f"{topic}/0"]) for flow, topic in _FLOWS[workload]]
    environment = {
        "TIDEGATE_BUS": f"kafka://{place.servers}",
        "TIDEGATE_CONFIG": str(config),
        **_WORKERS,
    }
    return ["sh", "-c", "".join(f"{command} & " for command in each) + "wait"], environment


def _arguments(place: Place, workload: str, mode: str) -> list[str]:
    return [
        *(place.servers, place.source, place.target, workload, mode),
        str(place.directory),
    ]


def _python_peer(name: str) -> Callable[[Place, str, str], tuple[list[str], dict[str, str]]]:
    def command(place: Place, workload: str, mode: str) -> tuple[list[str], dict[str, str]]:
        program = [str(python_environment(name)), str(PROGRAMS / name / "program.py")]
        return [*program, *_arguments(place, workload, mode)], _WORKERS

    return command


def _kafka_streams(place: Place, workload: str, mode: str) -> tuple[list[str], dict[str, str]]:
    java = ["java", "-Xmx2g", "-cp", java_environment("kafka_streams")]
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return [*java, quiet, "KafkaStreamsPeer", *_arguments(place, workload, mode)], {}


# What Flink's own scripts open to a JVM of Java 17.
_OPENED = ("lang", "net", "io", "nio", "util", "text", "time", "util.concurrent")


def _flink_sql(place: Place, workload: str, mode: str) -> tuple[list[str], dict[str, str]]:
    java = ["java", "-Xmx2g", "-cp", java_environment("flink_sql")]
    opened = [f"--add-opens=java.base/java.{part}=ALL-UNNAMED" for part in _OPENED]
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    sql = str(PROGRAMS / "flink_sql" / f"{workload}.sql")
    return [*java, *opened, quiet, "FlinkSqlPeer", *_arguments(place, sql, mode)], {}


def _all(events: int) -> dict[str, int]:
    return dict.fromkeys(_READERS, events)


SYSTEMS: Mapping[str, System] = {
    each.name: each
    for each in (
        System(
            name="tidegate",
            title="Tidegate",
            command=_tidegate,
            readers={
                "sessions": _each(_session_with_times),
                "pass_through": _each(_ingested),
                "scoring": _each(_flagged),
            },
            targets={
                "sessions": "sessions",
                "pass_through": "events.clickstream",
                "scoring": "scores",
            },
            events={"sessions": 1_500_000, "pass_through": 600_000, "scoring": 400_000},
            cannot={"tumbling": "no flow of Tidegate counts by tumbling windows"},
            corrects=frozenset(_READERS),
            modes=("durable",),
            understood={"scoring": _only_flags},
        ),
        System(
            name="flink_sql",
            title="Flink SQL",
            command=_flink_sql,
            readers={**_READERS, "sessions": _each(_session_with_times)},
            events=_all(1_000_000),
        ),
        System(
            name="kafka_streams",
            title="Kafka Streams",
            command=_kafka_streams,
            readers=_READERS,
            events=_all(200_000),
        ),
        System(
            name="quix",
            title="Quix Streams",
            command=_python_peer("quix"),
            readers={**_READERS, "sessions": _running_sessions},
            events=_all(50_000),
            corrects=frozenset({"sessions"}),
        ),
        System(
            name="faust",
            title="Faust",
            command=_python_peer("faust"),
            readers=_READERS,
            events=_all(12_000),
            corrects=frozenset(_READERS),
            sees_uncommitted=True,
        ),
        System(
            name="stock_bytewax",
            title="stock Bytewax",
            command=_python_peer("stock_bytewax"),
            readers=_READERS,
            events={**_all(200_000), "sessions": 60_000, "tumbling": 60_000},
            ends=True,
        ),
    )
}
