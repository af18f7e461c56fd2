"""Any sequence of operations: the log behaves like plain lists."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from log_backends import Backend
from log_reading import Record, contents, drain, read_partition

from dataflows.connectors.log import Fenced, Log, Marker, OffsetOutOfRange, Reader, Writer
from dataflows.connectors.records import Headers, Output, partition_for, published

PARTITIONS = 3

maybe_bytes = st.none() | st.binary(max_size=8)
headers: st.SearchStrategy[Headers] = st.lists(
    st.tuples(st.text("abc", max_size=2), st.binary(max_size=3)), max_size=2
).map(tuple)
records = st.lists(st.builds(Record, maybe_bytes, maybe_bytes, st.just(()) | headers), max_size=12)
batches = st.lists(st.tuples(records, st.none() | st.integers(0, PARTITIONS - 1)), max_size=3)
partitions = st.integers(0, PARTITIONS - 1)


class LogMachine(RuleBasedStateMachine):
    """One topic, one slot; the model is a list a partition and the marker."""

    def __init__(self, backend: Backend, log: Log):
        super().__init__()
        self.backend, self.log = backend, log
        self.topic, self.slot = backend.name("topic"), backend.name("slot")
        log.create_topics({self.topic: PARTITIONS})
        self.lists: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        self.removed = [0] * PARTITIONS
        self.marker: Marker | None = None
        self.fenced: list[Writer] = []
        self.writer = log.writer(self.slot)
        self.reader: Reader | None = None
        self.reader_partition = self.reader_index = 0

    def outputs(self, chosen: list[tuple[list[Record], int | None]]) -> list[Output]:
        made = []
        for batch, partition in chosen:
            keys, values, headers = (
                [list(column) for column in zip(*batch, strict=True)] if batch else ([], [], [])
            )
            made.append(published(self.topic, keys, values, headers, partition))
            for record in batch:
                place = partition_for(record.key, PARTITIONS) if partition is None else partition
                self.lists[place].append(record)
        return made

    @rule(chosen=batches)
    def append(self, chosen: list[tuple[list[Record], int | None]]) -> None:
        self.log.append(self.outputs(chosen))

    @rule(chosen=batches, step=st.integers(0, 5))
    def commit(self, chosen: list[tuple[list[Record], int | None]], step: int) -> None:
        last = self.marker or Marker(seq=0, next_offset=0)
        self.marker = Marker(seq=last.seq + 1, next_offset=last.next_offset + step)
        self.writer.commit(self.outputs(chosen), self.marker)

    @rule()
    def take_over(self) -> None:
        self.fenced.append(self.writer)
        self.writer = self.log.writer(self.slot)
        assert self.writer.marker == self.marker

    @rule(chosen=records)
    def zombies_are_fenced(self, chosen: list[Record]) -> None:
        lost = published(self.topic, [None] * len(chosen), [b"lost"] * len(chosen))
        for zombie in self.fenced:
            with pytest.raises(Fenced):
                zombie.commit([lost], Marker(seq=99, next_offset=10**6))

    @rule(partition=partitions, data=st.data())
    def open_reader(self, partition: int, data: st.DataObject) -> None:
        offsets = read_partition(self.log, self.topic, partition).offsets.tolist()
        index = data.draw(st.integers(0, len(offsets)))
        _, high = self.log.offsets(self.topic, partition)
        if self.reader is not None:
            self.reader.close()
        self.reader = self.log.reader(self.topic, partition, [*offsets, high][index])
        self.reader_partition, self.reader_index = partition, self.removed[partition] + index

    @rule(max_records=st.integers(1, 15))
    def read(self, max_records: int) -> None:
        if self.reader is None or self.reader_index < self.removed[self.reader_partition]:
            return
        read = contents(self.reader.read(max_records))
        stop = self.reader_index + len(read)
        assert len(read) <= max_records
        assert read == self.lists[self.reader_partition][self.reader_index : stop]
        self.reader_index = stop

    @rule()
    def read_to_the_end(self) -> None:
        if self.reader is None:
            return
        rest = self.lists[self.reader_partition][self.reader_index :]
        try:
            read = contents(drain(self.reader))
        except OffsetOutOfRange:
            assert self.reader_index < self.removed[self.reader_partition]
            self.reader.close()
            self.reader = None
        else:
            assert read == rest
            self.reader_index += len(read)

    @rule()
    def remove_everything(self) -> None:
        self.backend.remove(self.log, 2**52, {self.topic: 0})
        self.removed = [len(records) for records in self.lists]

    @invariant()
    def holds_what_the_lists_hold(self) -> None:
        for partition in range(PARTITIONS):
            held = contents(read_partition(self.log, self.topic, partition))
            assert held == self.lists[partition][self.removed[partition] :]
        assert self.log.markers().get(self.slot) == self.marker

    def teardown(self) -> None:
        for closing in (self.reader, self.writer, *self.fenced):
            if closing is not None:
                closing.close()


def test_a_log_behaves_like_lists(backend: Backend, log: Log) -> None:
    class Bound(LogMachine):
        def __init__(self) -> None:
            super().__init__(backend, log)

    run_state_machine_as_test(
        Bound,
        settings=settings(
            deadline=None,
            max_examples=backend.model_examples,
            stateful_step_count=25,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
