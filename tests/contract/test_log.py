"""What every log promises (dataflows/connectors/log.py)."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import log_publishing
import numpy as np
import pytest
from log_backends import Backend
from log_reading import Record, contents, drain, read_partition, values

from dataflows.connectors.log import (
    Fenced,
    Log,
    LogError,
    Marker,
    OffsetOutOfRange,
    UnknownTopic,
    open_log,
)
from dataflows.connectors.records import Output, partition_for, published

HOUSE = Path(__file__).resolve().parents[2]
SPARK = bytes(range(256)) * 3


def put(topic: str, *items: bytes | None, partition: int | None = None) -> Output:
    return published(topic, [b"k"] * len(items), list(items), partition=partition)


def put_records(topic: str, records: Sequence[Record]) -> Output:
    keys, contents_, headers = zip(*records, strict=True)
    return published(topic, list(keys), list(contents_), list(headers))


@pytest.fixture
def topic(backend: Backend, log: Log) -> str:
    """A topic with one partition."""
    name = backend.name("topic")
    log.create_topics({name: 1})
    return name


@pytest.fixture
def wide(backend: Backend, log: Log) -> str:
    """A topic with three partitions."""
    name = backend.name("wide")
    log.create_topics({name: 3})
    return name


@pytest.fixture
def slot(backend: Backend) -> str:
    return backend.name("slot")


class TestTopics:
    def test_creating_a_topic_twice_keeps_its_records(self, log: Log, topic: str) -> None:
        log.append([put(topic, b"a")])
        log.create_topics({topic: 1})
        assert values(log, topic) == [b"a"]

    def test_a_partition_count_never_changes(self, backend: Backend, log: Log, topic: str) -> None:
        other = backend.name("other")
        with pytest.raises(LogError, match=f"{topic} has 1 partition.*not 2.*"):
            log.create_topics({other: 1, topic: 2})
        assert other not in log.topics()
        assert log.topics()[topic].partitions == 1

    def test_a_topic_needs_a_partition(self, backend: Backend, log: Log) -> None:
        with pytest.raises(LogError, match="at least one"):
            log.create_topics({backend.name("none"): 0})

    def test_a_plan_is_carried_out_once(self, backend: Backend, log: Log, topic: str) -> None:
        new, keep = backend.name("new"), {topic: 3_600.0}
        wanted = {topic: 1, new: 2}
        log.apply_topics(log.plan_topics({topic: 1}, keep, [], shorten=True), wanted, keep)
        (step,) = log.plan_topics(wanted, keep, [])
        assert (step.topic, step.do, step.wanted) == (new, "create", "2")
        assert log.missing_topics(wanted) == [new]
        log.apply_topics([step], wanted, keep)
        assert log.topics()[new].partitions == 2
        assert log.plan_topics(wanted, keep, []) == []
        assert log.clients_set_arrival([topic, new]) == []

    def test_a_plan_never_changes_a_partition_count(
        self, backend: Backend, log: Log, wide: str
    ) -> None:
        new = backend.name("new")
        for count in (2, 4):
            wanted = {new: 1, wide: count}
            steps = log.plan_topics(wanted, {}, [])
            assert [s.do for s in steps] == ["create", "refuse"]
            with pytest.raises(LogError, match=f"nothing was done: topic {wide} has 3 partitions"):
                log.apply_topics(steps, wanted, {})
            assert log.missing_topics({new: 1}) == [new]
            assert log.topics()[wide].partitions == 3

    def test_topics_tell_partitions_records_and_bytes(
        self, backend: Backend, log: Log, wide: str
    ) -> None:
        assert log.topics()[wide] == (3, 0, 0 if backend.tells_bytes else None)
        log.append([put(wide, *[b"x" * 100] * 10, partition=partition) for partition in range(3)])
        info = log.topics()[wide]
        assert (info.partitions, info.records) == (3, 30)
        assert info.bytes is None if not backend.tells_bytes else (info.bytes or 0) > 0

    def test_partitions_are_those_that_others_have_added(
        self, backend: Backend, log: Log, wide: str
    ) -> None:
        assert log.partitions(wide) == 3
        other = open_log(backend.url)
        other.grow_topics({wide: 5})
        other.close()
        assert log.partitions(wide) == 5

    def test_an_empty_partition_has_equal_offsets(self, log: Log, topic: str) -> None:
        low, high = log.offsets(topic, 0)
        assert low == high

    def test_unknown_topics_and_partitions_are_named(self, log: Log, topic: str, slot: str) -> None:
        writer = log.writer(slot)
        for name, partition in (("nowhere", 0), (topic, 1), (topic, -1)):
            with pytest.raises(UnknownTopic, match=name):
                log.offsets(name, partition)
            with pytest.raises(UnknownTopic, match=name):
                log.reader(name, partition, 0)
            if name != topic:
                with pytest.raises(UnknownTopic, match=name):
                    log.partitions(name)
            lost = put(name, b"lost", partition=partition)
            with pytest.raises(UnknownTopic, match=name):
                log.append([put(topic, b"lost too"), lost])
            with pytest.raises(UnknownTopic, match=name):
                writer.commit([put(topic, b"lost too"), lost], Marker(seq=1, next_offset=1))
        assert values(log, topic) == []
        assert slot not in log.markers()
        writer.close()


class TestRecords:
    @pytest.mark.parametrize(
        "record",
        [
            Record(b"k", b"v"),
            Record(None, b"v"),
            Record(b"k", None),
            Record(None, None),
            Record(b"", b""),
            Record(SPARK, SPARK[::-1]),
            Record(b"k", b"v", (("a", b""), ("a", SPARK), ("ü", b"1"), ("", b"0"))),
            Record(b"k", b"v", (("dlq-reason", b"x" * 5_000),)),
        ],
        ids=range(8),
    )
    def test_every_byte_comes_back(self, log: Log, topic: str, record: Record) -> None:
        plain = Record(b"p", b"q")
        log.append([put_records(topic, [plain, record, plain])])
        log.append([put(topic, b"without headers"), put_records(topic, [record])])
        assert contents(read_partition(log, topic)) == [
            plain,
            record,
            plain,
            Record(b"k", b"without headers"),
            record,
        ]

    def test_no_headers_at_all_are_none(self, log: Log, topic: str) -> None:
        log.append([put(topic, b"a", b"b")])
        assert read_partition(log, topic).headers is None

    def test_ten_megabytes_come_back_with_their_neighbours(self, log: Log, topic: str) -> None:
        large = random.Random(1).randbytes(10_000_000)
        log.append([put(topic, b"before", large, b"after", b"x" * 10_000_000)])
        assert values(log, topic) == [b"before", large, b"after", b"x" * 10_000_000]

    def test_many_records_in_one_append_keep_their_order(self, log: Log, topic: str) -> None:
        items = [b"%d" % number for number in range(100_000)]
        log.append([put(topic, *items)])
        assert values(log, topic) == items

    def test_nothing_to_append_is_fine(self, log: Log, topic: str) -> None:
        log.append([])
        log.append([put(topic)])
        assert values(log, topic) == []

    def test_order_and_offsets_within_a_partition(self, log: Log, topic: str) -> None:
        for number in range(50):
            log.append([put(topic, b"%d a" % number), put(topic, b"%d b" % number)])
        records = read_partition(log, topic)
        assert records.values == [b"%d %c" % (n, c) for n in range(50) for c in b"ab"]
        assert (np.diff(records.offsets) > 0).all()
        low, high = log.offsets(topic, 0)
        assert low <= records.offsets[0]
        assert records.offsets[-1] < high
        assert (records.topic, records.partition) == (topic, 0)

    def test_arrival_times_are_the_logs_and_never_go_back(self, log: Log, topic: str) -> None:
        before = time.time() * 1e6
        for _ in range(20):
            log.append([put(topic, b"a", b"b")])
        arrival_us = read_partition(log, topic).arrival_us
        assert (np.diff(arrival_us) >= 0).all()
        assert before - 2e6 <= arrival_us[0] <= arrival_us[-1] <= time.time() * 1e6 + 2e6


class TestPartitions:
    def test_a_key_decides(self, log: Log, wide: str) -> None:
        keys: list[bytes | None] = [*(b"user %d" % n for n in range(200)), None, b""]
        items: list[bytes | None] = [b"%d" % n for n in range(len(keys))]
        log.append([published(wide, keys, items)])
        for partition in range(3):
            expected = [
                Record(k, v)
                for k, v in zip(keys, items, strict=True)
                if partition_for(k, 3) == partition
            ]
            assert contents(read_partition(log, wide, partition)) == expected

    def test_headers_follow_their_record(self, log: Log, wide: str) -> None:
        records = [Record(b"%d" % n, b"%d" % n, (("n", b"%d" % n),)) for n in range(50)]
        log.append([put_records(wide, records)])
        read = [record for p in range(3) for record in contents(read_partition(log, wide, p))]
        assert sorted(read) == sorted(records)

    def test_a_named_partition_overrides_the_key(self, log: Log, wide: str) -> None:
        for partition in range(3):
            log.append([put(wide, b"%d" % partition, partition=partition)])
        assert [values(log, wide, p) for p in range(3)] == [[b"0"], [b"1"], [b"2"]]


class TestReader:
    def test_starts_at_any_offset(self, log: Log, topic: str) -> None:
        for size in (1, 5, 1, 3):
            log.append([put(topic, *[b"%d" % n for n in range(size)])])
        everything = read_partition(log, topic)
        for index, offset in enumerate(everything.offsets.tolist()):
            rest = read_partition(log, topic, start=offset)
            assert rest.offsets.tolist() == everything.offsets[index:].tolist()
            assert contents(rest) == contents(everything)[index:]
        _, high = log.offsets(topic, 0)
        assert len(read_partition(log, topic, start=high)) == 0

    @pytest.mark.parametrize("max_records", [1, 2, 7, 100])
    def test_reads_at_most_so_many(self, log: Log, topic: str, max_records: int) -> None:
        for start in range(0, 60, 20):
            log.append([put(topic, *[b"%d" % n for n in range(start, start + 20)])])
        reader = log.reader(topic, 0, log.offsets(topic, 0)[0])
        seen: list[bytes | None] = []
        while reader.position < reader.high_watermark():
            records = reader.read(max_records)
            assert len(records) <= max_records
            seen += records.values
        assert seen == [b"%d" % n for n in range(60)]
        reader.close()

    def test_sees_what_is_appended_later(self, log: Log, topic: str) -> None:
        reader = log.reader(topic, 0, log.offsets(topic, 0)[1])
        assert len(reader.read(10)) == 0
        for number in range(5):
            log.append([put(topic, b"%d" % number)])
            assert drain(reader).values == [b"%d" % number]
            assert len(reader.read(10)) == 0
        reader.close()
        reader.close()

    def test_an_offset_never_written_is_refused(self, log: Log, topic: str) -> None:
        log.append([put(topic, b"a")])
        _, high = log.offsets(topic, 0)
        with pytest.raises(OffsetOutOfRange, match=f"{topic} partition 0.*{high + 1}"):
            log.reader(topic, 0, high + 1)


class TestRetention:
    def test_removes_what_arrived_before(
        self, backend: Backend, log: Log, wide: str, topic: str
    ) -> None:
        old = [put(wide, b"old", partition=partition) for partition in range(3)]
        log.append([*old, put(topic, b"kept: its topic is not named")])
        time.sleep(0.01)
        log.append([put(wide, b"new", partition=partition) for partition in range(3)])
        cut_us = min(int(read_partition(log, wide, p).arrival_us[-1]) for p in range(3))
        backend.remove(log, cut_us + 3_600_000_000, {wide: 3_600})
        for partition in range(3):
            left = read_partition(log, wide, partition)
            assert left.values == [b"new"]
            assert log.offsets(wide, partition)[0] <= left.offsets[0]
        assert len(values(log, topic)) == 1
        assert log.topics()[wide].records == 3

    def test_keeps_counting_when_all_is_gone(self, backend: Backend, log: Log, topic: str) -> None:
        log.append([put(topic, *[b"x"] * 10)])
        _, high = log.offsets(topic, 0)
        backend.remove(log, 2**52, {topic: 0})
        assert log.offsets(topic, 0) == (high, high)
        log.append([put(topic, b"y")])
        assert values(log, topic) == [b"y"]
        assert read_partition(log, topic).offsets[0] >= high

    def test_names_the_gap_to_who_comes_late(self, backend: Backend, log: Log, topic: str) -> None:
        log.append([put(topic, b"a", b"b")])
        start, _ = log.offsets(topic, 0)
        waiting = log.reader(topic, 0, start)
        backend.remove(log, 2**52, {topic: 0})
        log.append([put(topic, b"c")])
        low, high = log.offsets(topic, 0)
        with pytest.raises(OffsetOutOfRange, match=f"offsets {start}..{low - 1} were removed") as e:
            log.reader(topic, 0, start)
        assert (e.value.offset, e.value.low, e.value.high) == (start, low, high)
        with pytest.raises(OffsetOutOfRange):
            drain(waiting)
        waiting.close()


class TestWriter:
    def test_marker_and_outputs_appear_together(
        self, log: Log, topic: str, wide: str, slot: str
    ) -> None:
        writer = log.writer(slot)
        assert writer.marker is None
        assert slot not in log.markers()
        marker = Marker(
            seq=1,
            first_offset=5,
            next_offset=7,
            watermark_us=-(2**62),
            arrival_us=1_700_000_000_000_000,
            counts={"2026-11-23": {"good": 2, "failed.not_json": 1}},
        )
        writer.commit([put(topic, b"a", b"b"), put(wide, b"c", partition=2)], marker)
        assert writer.marker == marker
        assert log.markers()[slot] == marker
        assert values(log, topic) == [b"a", b"b"]
        assert values(log, wide, 2) == [b"c"]
        writer.close()
        writer.close()

    def test_the_next_writer_goes_on_from_the_marker(self, log: Log, topic: str, slot: str) -> None:
        for number in range(1, 4):
            writer = log.writer(slot)
            assert (writer.marker.seq if writer.marker else 0) == number - 1
            writer.commit([put(topic, b"%d" % number)], Marker(seq=number, next_offset=number))
            writer.close()
        assert values(log, topic) == [b"1", b"2", b"3"]

    def test_a_marker_needs_no_outputs(self, log: Log, topic: str, slot: str) -> None:
        writer = log.writer(slot)
        writer.commit([], Marker(seq=1, next_offset=9))
        writer.commit([put(topic)], Marker(seq=2, next_offset=9))
        assert log.markers()[slot].seq == 2
        writer.close()

    def test_a_marker_never_goes_back(self, log: Log, topic: str, slot: str) -> None:
        writer = log.writer(slot)
        writer.commit([], Marker(seq=1, next_offset=9))
        with pytest.raises(ValueError, match="from offset 9 to 8"):
            writer.commit([put(topic, b"lost")], Marker(seq=2, next_offset=8))
        assert values(log, topic) == []
        writer.commit([put(topic, b"kept")], Marker(seq=2, next_offset=10))
        assert values(log, topic) == [b"kept"]
        writer.close()

    def test_a_newer_writer_fences_the_older(self, log: Log, topic: str, slot: str) -> None:
        first = log.writer(slot)
        first.commit([put(topic, b"first")], Marker(seq=1, next_offset=1))
        second = log.writer(slot)
        assert second.marker == first.marker
        for _ in range(2):
            with pytest.raises(Fenced, match=slot):
                first.commit([put(topic, b"zombie")], Marker(seq=2, next_offset=2))
        second.commit([put(topic, b"second")], Marker(seq=2, next_offset=2))
        with pytest.raises(Fenced):
            first.commit([put(topic, b"zombie")], Marker(seq=3, next_offset=3))
        assert values(log, topic) == [b"first", b"second"]
        first.close()
        second.close()

    def test_a_zombie_hears_of_it_whatever_the_client_is_doing(
        self, log: Log, topic: str, wide: str
    ) -> None:
        """Of Kafka's client one in eight said something else."""
        slot = f"flow.{topic}.0"
        outputs = [put(wide, *[b"x" * 200] * 200, partition=partition) for partition in range(3)]
        first = log.writer(slot)
        for seq in range(1, 41):
            second = log.writer(slot)
            with pytest.raises(Fenced, match="another process has taken it over"):
                first.commit(outputs, Marker(seq=seq, next_offset=seq))
            first.close()
            second.commit([], Marker(seq=seq, next_offset=seq))
            first = second
        first.close()

    def test_slots_that_were_prepared_publish_as_others_do(
        self, backend: Backend, log: Log, topic: str
    ) -> None:
        slots = [backend.name("slot") for _ in range(3)]
        for _ in range(2):
            log.prepare(slots, [topic])
        assert not log.markers().keys() & set(slots)
        for slot in slots:
            writer = log.writer(slot)
            writer.commit([put(topic, b"x")], Marker(seq=1, next_offset=1))
            writer.close()
        assert values(log, topic) == [b"x"] * 3
        assert log.markers(slots[1]).keys() == {slots[1]}
        assert log.markers().keys() >= set(slots)

    def test_slots_do_not_fence_each_other(self, backend: Backend, log: Log, topic: str) -> None:
        writers = [log.writer(backend.name("slot")) for _ in range(3)]
        for number, writer in enumerate(writers):
            writer.commit([put(topic, b"%d" % number)], Marker(seq=1, next_offset=1))
        assert values(log, topic) == [b"0", b"1", b"2"]
        for writer in writers:
            writer.close()


class TestProcesses:
    def test_several_append_at_once(self, backend: Backend, log: Log, topic: str) -> None:
        names = ("red", "green", "blue")
        processes = [start("append", backend.url, topic, name, "300") for name in names]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(60) for process in processes] == [0, 0, 0]
        everything = [value.decode().split() for value in values(log, topic) if value]
        for name in names:
            numbers = [int(number) for who, number in everything if who == name]
            assert numbers == list(range(300 * log_publishing.BATCH))

    def test_threads_may_share_a_log(self, log: Log, topic: str) -> None:
        def append(name: int) -> None:
            for number in range(30):
                log.append([put(topic, b"%d %d" % (name, number))])

        threads = [threading.Thread(target=append, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(values(log, topic), key=str) == sorted(
            (b"%d %d" % (name, number) for name in range(4) for number in range(30)), key=str
        )

    @pytest.mark.parametrize("seed", [1])
    def test_kill_at_any_moment_leaves_marker_and_outputs_in_agreement(
        self, backend: Backend, log: Log, topic: str, wide: str, slot: str, seed: int
    ) -> None:
        moments = random.Random(seed)
        promised = 0
        for _ in range(8):
            process = start("commit", backend.url, slot, topic, wide)
            assert process.stdout is not None
            promised = int(process.stdout.readline())
            time.sleep(moments.uniform(0, 0.05))
            process.kill()
            promised = max([promised, *map(int, process.stdout.read().split())])
            process.wait()
            backend.settle(log, slot)
            marker = log.markers()[slot]
            assert marker.next_offset >= promised
            assert marker.counts == {"all": {"good": marker.next_offset}}
            expected = [b"%d" % n for n in range(marker.next_offset)]
            assert values(log, topic) == expected
            keyed = [value for partition in range(3) for value in values(log, wide, partition)]
            assert sorted(keyed, key=lambda value: int(value or b"")) == expected
        assert promised > 0

    def test_a_process_is_fenced_while_it_commits(
        self, backend: Backend, log: Log, topic: str, wide: str, slot: str
    ) -> None:
        zombie = start("commit", backend.url, slot, topic, wide)
        assert zombie.stdout is not None
        zombie.stdout.readline()
        writer = log.writer(slot)
        taken_over = values(log, topic)
        zombie.stdout.read()
        assert zombie.wait(60) == log_publishing.FENCED
        assert writer.marker is not None
        assert len(taken_over) == writer.marker.next_offset
        assert values(log, topic) == taken_over
        writer.close()


def start(*arguments: str) -> subprocess.Popen[str]:
    script = Path(log_publishing.__file__)
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(HOUSE)},
    )


def test_a_log_that_is_opened_again_has_everything(
    backend: Backend, log: Log, topic: str, slot: str
) -> None:
    writer = log.writer(slot)
    writer.commit([put(topic, b"a")], Marker(seq=1, next_offset=1))
    writer.close()
    log.close()
    again = open_log(backend.url)
    assert values(again, topic) == [b"a"]
    assert again.markers()[slot] == Marker(seq=1, next_offset=1)
    assert again.topics()[topic].records == 1 + backend.offsets_a_commit
    again.close()
