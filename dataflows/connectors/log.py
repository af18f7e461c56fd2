"""What a log is: topics of partitions of records, appended atomically, read from any offset.

Two properties carry the whole design. A **writer** belongs to a slot and stores outputs together
with the slot's **marker**, all or nothing: the marker says up to which input offset the outputs
are there. And a newer writer of a slot **fences** the older one, so that no process that was
thought dead can publish a second time.

Whatever implements these protocols passes tests/contract/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from dataflows.connectors.records import Output, Records
from dataflows.errors import TidegateError

SQLITE_SCHEME = "sqlite:///"
KAFKA_SCHEME = "kafka://"


class LogError(TidegateError):
    """The log cannot do what was asked; what was committed before is safe."""

    may_pass = True


class LogUnreachable(LogError):
    """The log does not answer; it may come back by itself."""


class UnknownTopic(LogError):
    """The topic, or the partition of it, does not exist."""


class TopicRecreated(LogError):
    """A topic was deleted and made anew: what a slot remembers of it is about other records."""

    may_pass = False


class Fenced(LogError):
    """A newer writer of the same slot exists; this one must stop, and may never commit again."""

    may_pass = False  # a restart would take the slot away from the newer one again


class OffsetOutOfRange(LogError):
    """The offset is not, or no longer, in the log: reading on would skip records."""

    def __init__(self, topic: str, partition: int, offset: int, low: int, high: int):
        self.topic, self.partition, self.offset = topic, partition, offset
        self.low, self.high = low, high
        if offset < low:
            gap = f"offsets {offset}..{low - 1} were removed by retention"
        else:
            gap = f"offset {offset} was never written"
        super().__init__(
            f"{topic} partition {partition}: {gap}, the log holds "
            f"{f'{low}..{high - 1}' if low < high else 'nothing'}; start at {low} to accept the "
            "gap, or restore the log"
        )


class Prepared(msgspec.Struct, frozen=True):
    """Rows that wait in a store beside the log for whoever owns the slot to commit them there.

    `stream` is what the store calls them; `last_offset` is the input offset of the last row.
    """

    stream: str
    last_offset: int


class Marker(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a slot has published: stored with the outputs it vouches for, and only with them.

    `next_offset` is the next input offset whose outputs are not yet there and never goes back;
    `first_offset` is where the slot began to read. `watermark_us` and `arrival_us` are those of
    the last record covered. `counts` holds input rows by arrival day (ISO date) and fate.
    `skipped` counts the offsets from `first_offset` to `next_offset` that hold no record,
    `more_rows` what records hold beyond a row each: both are zero almost everywhere. `by` is
    the process that published: host/pid. `prepared` are the last rows that a sink has made ready in
    a store of its own: with the marker it is decided that they are committed there, by whom else.
    Fields added later need a default, so that old markers stay readable.
    """

    seq: int
    next_offset: int
    first_offset: int = 0
    watermark_us: int = -(2**62)
    arrival_us: int = 0
    counts: dict[str, dict[str, int]] = {}
    skipped: int = 0
    more_rows: int = 0
    by: str = ""
    prepared: Prepared | None = None

    @property
    def rows(self) -> int:
        """How many rows its input held, each of which must have a fate."""
        return self.next_offset - self.first_offset - self.skipped + self.more_rows


class TopicInfo(NamedTuple):
    """What a topic holds now; `bytes` is what its records take up in the log, None if it does not
    tell. Where offsets have holes, `records` counts them, too."""

    partitions: int
    records: int
    bytes: int | None


class TopicPolicy(NamedTuple):
    """Whether a writer may make the topic of its markers; copies of a topic's partitions, and how
    many of them must have a record before it counts as written (0: as the brokers have it)."""

    create: bool = True
    replication_factor: int = 0
    min_insync_replicas: int = 0


class TopicStep(NamedTuple):
    """Where a topic differs from what it should be, and what becomes of that.

    `do` is create (it is missing), set (a setting is changed), hold (left as it is, `advice` says
    how it can be had) or refuse (nothing at all is done before this is solved as `advice` says).
    """

    topic: str
    do: Literal["create", "set", "hold", "refuse"]
    setting: str
    now: str | None
    wanted: str
    advice: str = ""


class Held(NamedTuple):
    """A place where readers wait at `offset` for a transaction that does not end by itself.

    `slot` is whose it is, None where that cannot be told. The log ends it `after_s` seconds after
    its beginning, or once a new writer of the slot starts.
    """

    topic: str
    partition: int
    offset: int
    after_s: float
    slot: str | None = None


class Reader(Protocol):
    """Reads one partition in offset order. For one thread at a time."""

    def read(self, max_records: int) -> Records:
        """The next records, at most `max_records`; often fewer, and none when none is at hand.

        Never waits. Sees only what was committed. Few or no records do not mean the end: compare
        `position` with `high_watermark` for that.

        Raises:
            OffsetOutOfRange: retention overtook the reader.
            LogError: the log cannot be read; the reader stays where it was.
        """
        ...

    @property
    def position(self) -> int:
        """Where the next read starts. May lie beyond the last record's offset + 1."""
        ...

    def high_watermark(self) -> int:
        """The offset after the last one in the partition, as far as known without waiting."""
        ...

    def close(self) -> None:
        """Releases what the reader holds; closing twice does no harm."""
        ...


class Writer(Protocol):
    """Publishes what a slot has made. For one thread at a time."""

    @property
    def marker(self) -> Marker | None:
        """The marker of the slot's last commit, by whichever writer; None before the first."""
        ...

    def commit(self, outputs: Sequence[Output], marker: Marker) -> None:
        """Appends the outputs and stores the marker, all or nothing, and returns when they are safe
        from the death of this process.

        Records of a partition keep the order they have here. Blocks while other writers commit,
        and while the log is out of reach for a short time.

        Raises:
            Fenced: a newer writer of the slot exists. Nothing was stored.
            UnknownTopic: an output's topic or partition is not there. Nothing was stored.
            ValueError: the marker's next_offset goes back. Nothing was stored.
            LogError: anything else. Whether it was stored, the next writer's marker tells.
        """
        ...

    def close(self) -> None:
        """Releases what the writer holds; stores nothing. Closing twice does no harm."""
        ...


class Log(Protocol):
    """Topics of a log. Safe to share between threads; every process opens its own."""

    contiguous: bool
    """Whether every offset from low to high holds a record. Otherwise some hold none (Kafka keeps
    the ends of transactions there), and a partition's last records may lie before its end."""

    def missing_topics(self, partitions: Mapping[str, int]) -> list[str]:
        """Those of the topics that are not there.

        Raises:
            LogError: a topic is there with another number of partitions.
        """
        ...

    def create_topics(
        self, partitions: Mapping[str, int], keep: Mapping[str, float] | None = None
    ) -> None:
        """Makes the topics that are missing, with so many partitions each.

        `keep` is what `apply_retention` is told, for a log that sees to it by itself.

        Raises:
            LogError: a topic is there with another number of partitions. Nothing was made.
        """
        ...

    def grow_topics(self, partitions: Mapping[str, int]) -> None:
        """Adds partitions to topics that have fewer; for `reshard`, which knows what keys mean."""
        ...

    def plan_topics(
        self,
        partitions: Mapping[str, int],
        keep: Mapping[str, float],
        slots: Sequence[str],
        shorten: bool = False,
    ) -> list[TopicStep]:
        """What separates the topics from what they should be; changes nothing.

        `slots` are those that will publish: what the log itself keeps for them counts, too. Records
        are kept for a shorter time only where `shorten` says so.
        """
        ...

    def apply_topics(
        self,
        steps: Sequence[TopicStep],
        partitions: Mapping[str, int],
        keep: Mapping[str, float],
    ) -> None:
        """Takes the steps of a plan made for the same topics that create or set something.

        Raises:
            LogError: the plan has a step that is refused, and nothing was done; or a step failed,
                and those before it are done.
        """
        ...

    def clients_set_arrival(self, topics: Sequence[str]) -> list[str]:
        """Those of the topics whose arrival times are not the log's but what a client claims."""
        ...

    def topics(self) -> dict[str, TopicInfo]:
        """What every topic holds, by name."""
        ...

    def partitions(self, topic: str) -> int:
        """How many the topic has now. What is wrong with other topics does not matter.

        Raises:
            UnknownTopic: no such topic.
        """
        ...

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """(low, high): the first offset still there, and the one after the last.

        Raises:
            UnknownTopic: no such topic or partition.
        """
        ...

    def identity(self, topic: str) -> str:
        """What tells this topic of this log from any other: another log's of the same name, or
        one that was removed and made again. A copy of an embedded log has the same.

        Raises:
            UnknownTopic: no such topic.
        """
        ...

    def unread(self, places: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        """How many records there are from an offset of each (topic, partition) to its end.

        0 is exact; a larger number may count offsets that hold no record.

        Raises:
            UnknownTopic: no such topic or partition.
        """
        ...

    def reader(self, topic: str, partition: int, offset: int) -> Reader:
        """A reader whose first record is the first at `offset` or after, low <= offset <= high.

        Raises:
            OffsetOutOfRange: the offset is not in the log.
            UnknownTopic: no such topic or partition.
        """
        ...

    def append(self, outputs: Sequence[Output]) -> None:
        """Publishes without a slot, keeping the order within each partition.

        Whoever publishes this way may publish twice after a crash. Blocks like Writer.commit; a
        log may store part of the outputs when it fails (the embedded log stores all or nothing).

        Raises:
            UnknownTopic: an output's topic or partition is not there. Nothing was stored.
            LogError: anything else.
        """
        ...

    def prepare(self, slots: Sequence[str], topics: Sequence[str]) -> None:
        """Makes ready for writers of all these slots, which publish to some of the topics: what
        each would see to by itself is then done once. A writer can do without.

        Raises:
            LogError: something is missing and may not be made, or the log cannot be asked.
        """
        ...

    def writer(self, slot: str) -> Writer:
        """A writer for the slot. From now on, older ones of the slot fail with Fenced."""
        ...

    def markers(self, prefix: str = "") -> dict[str, Marker]:
        """The last marker of every slot that has one and whose name begins so. Reads only, fences
        nobody."""
        ...

    def held_back(self) -> list[Held]:
        """Where readers wait for a transaction whose process is gone, or stands still.

        Takes a second to be sure, if there is any.
        """
        ...

    def committed(self, flows: Sequence[str]) -> dict[str, int]:
        """How far the log's own tools believe slots of the flows have read, by slot.

        Nothing depends on it; markers decide. Empty where the log has no such notion.
        """
        ...

    def apply_retention(self, now_us: int, keep: Mapping[str, float]) -> None:
        """Removes records that arrived more than `keep[topic]` seconds (or inf) before `now_us`.

        Removes from the low end, maybe less than it could (what is stored together goes together).
        Topics that are not named keep everything.
        """
        ...

    def close(self) -> None:
        """Releases the log. Readers and writers made by it are closed on their own."""
        ...


def refuse_any(steps: Sequence[TopicStep]) -> None:
    """
    Raises:
        LogError: one of the steps is refused.
    """
    for step in steps:
        if step.do == "refuse":
            raise LogError(
                f"nothing was done: topic {step.topic} has {step.now} {step.setting}, not "
                f"{step.wanted}: {step.advice}"
            )


def open_log(
    url: str, kafka: Mapping[str, str] | None = None, policy: TopicPolicy | None = None
) -> Log:
    """The log at `url`: `sqlite:///relative/path.db`, `sqlite:////absolute/path.db` or
    `kafka://host:port[,host:port...]`.

    An embedded log is made if it is not there. `kafka` are settings of the Kafka client,
    `policy` is for its topics.

    Raises:
        LogError: the URL names no log this version knows, or the log cannot be opened.
    """
    if url.startswith(SQLITE_SCHEME) and len(url) > len(SQLITE_SCHEME):
        from dataflows.connectors.embedded import EmbeddedLog

        return EmbeddedLog(url.removeprefix(SQLITE_SCHEME))
    if url.startswith(KAFKA_SCHEME):
        from dataflows.connectors.kafka import KafkaLog

        return KafkaLog(url, kafka, policy)
    raise LogError(
        f"{url!r} is not the address of a log; use sqlite:///<path> or kafka://<host>:<port>"
    )
