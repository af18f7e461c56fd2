from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.connectors.records import (
    END_OF_TIME_US,
    HEARTBEAT_HEADER,
    Headers,
    Output,
    Records,
    heartbeat,
    heartbeat_headers,
    heartbeat_time,
    partition_for,
    published,
)


def records(
    start: int, values: list[bytes | None], headers: list[Headers] | None = None
) -> Records:
    offsets = np.arange(start, start + len(values))
    return Records("t", 1, offsets, offsets * 10, [b"k"] * len(values), values, headers)


class TestRecords:
    def test_slices_every_column(self) -> None:
        part = records(5, [b"a", b"b", b"c"], [(), (("h", b"1"),), ()]).slice(1, 9)
        assert part.offsets.tolist() == [6, 7]
        assert part.arrival_us.tolist() == [60, 70]
        assert part.values == [b"b", b"c"]
        assert part.headers == [(("h", b"1"),), ()]
        assert len(part) == 2

    def test_concat_is_the_inverse_of_slice(self) -> None:
        whole = records(5, [b"a", None, b"c", b""], [(("h", b"1"),), (), (), ()])
        again = Records.concat([whole.slice(0, 1), whole.slice(1, 1), whole.slice(1, 4)])
        assert again.offsets.tolist() == whole.offsets.tolist()
        assert again.arrival_us.tolist() == whole.arrival_us.tolist()
        assert (again.keys, again.values) == (whole.keys, whole.values)
        assert again.headers == whole.headers

    def test_concat_gives_headers_to_all_or_none(self) -> None:
        plain, with_header = records(0, [b"a"]), records(1, [b"b"], [(("h", b""),)])
        assert Records.concat([plain, plain]).headers is None
        assert Records.concat([plain, with_header]).headers == [(), (("h", b""),)]

    def test_columns_must_be_of_one_length(self) -> None:
        with pytest.raises(ValueError, match=r"t: columns of different lengths \[1, 2\]"):
            Records("t", 0, np.arange(2), np.arange(2), [None], [None, None])
        with pytest.raises(ValueError, match="different lengths"):
            published("t", [b"k"], [b"v"], [(), ()])


class TestOutput:
    @pytest.mark.parametrize(("next_offset", "left"), [(0, 4), (3, 4), (4, 2), (5, 1), (6, 0)])
    def test_caused_from_drops_what_is_published(self, next_offset: int, left: int) -> None:
        values: list[bytes | None] = [b"a", b"b", b"c", b"d"]
        headers: list[Headers] = [((value.decode(), b""),) for value in (b"a", b"b", b"c", b"d")]
        output = Output("t", np.array([3, 3, 4, 5]), list(values), values, headers, 2)
        rest = output.caused_from(next_offset)
        assert len(rest) == left
        assert rest.values == rest.keys == values[4 - left :]
        assert rest.headers == headers[4 - left :]
        assert rest.partition == 2
        assert (rest.causes >= next_offset).all()


@given(key=st.binary(), partitions=st.integers(1, 50))
def test_a_key_belongs_where_librdkafka_puts_it(key: bytes, partitions: int) -> None:
    assert partition_for(key, partitions) == crc32(key) % partitions


def test_no_key_belongs_to_partition_zero() -> None:
    assert partition_for(None, 7) == 0


class TestHeartbeats:
    @given(time_us=st.integers(-END_OF_TIME_US, END_OF_TIME_US))
    def test_tell_the_time(self, time_us: int) -> None:
        assert heartbeat_time(heartbeat_headers(time_us)) == time_us
        assert heartbeat_time((("other", b"1"), *heartbeat_headers(time_us))) == time_us

    def test_are_records_without_key_and_value(self) -> None:
        beat = heartbeat("t", 3, 17, cause=4)
        assert (beat.keys, beat.values, beat.partition) == ([None], [None], 3)
        assert beat.causes.tolist() == [4]
        assert beat.headers == [((HEARTBEAT_HEADER, b"17"),)]

    @pytest.mark.parametrize(
        "text", [b"", b"1.5", b" 1", b"1_0", b"+1", b"0x1", b"9" * 19, b"9" * 30, b"\xff", b"1\n"]
    )
    def test_garbage_is_no_heartbeat(self, text: bytes) -> None:
        assert heartbeat_time(((HEARTBEAT_HEADER, text),)) is None

    @settings(max_examples=50)
    @given(headers=st.lists(st.tuples(st.text(), st.binary())).map(tuple))
    def test_other_headers_are_no_heartbeat(self, headers: Headers) -> None:
        if all(name != HEARTBEAT_HEADER for name, _ in headers):
            assert heartbeat_time(headers) is None
