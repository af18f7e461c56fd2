"""Files, pipes and compressed data as lines, and everything that can be wrong with them."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publishing import contract, publish, publish_text

from dataflows.connectors.records import Output
from services.publisher import PublishError, PublishOptions, publish_files
from services.publisher.files import MAX_RECORD_BYTES, Block, Fault, line_blocks, open_inputs

LINE = b'{"event_id":"e1","user_id":"u1","event_timestamp":"2026-01-01T00:00:00Z"}\n'


def _error(*files: str | Path, **options: Any) -> str:
    with pytest.raises(PublishError) as caught:
        publish("clickstream", *files, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=12) | st.sampled_from([b"\n", b"\xef\xbb\xbf", b"a\nb"])))
def test_blocks_are_the_lines_whatever_the_chunks(chunks: list[bytes]) -> None:
    data = b"".join(chunks).removeprefix(b"\xef\xbb\xbf")
    lines: list[bytes] = []
    for block in line_blocks(chunks):
        assert isinstance(block, Block)
        assert block.first_line == len(lines) + 1
        assert b"\n".join(block.lines) == block.data
        lines += block.lines
    assert lines == (data.removesuffix(b"\n").split(b"\n") if data else [])


@pytest.mark.parametrize("size", [1 << 16, 1 << 20])
def test_an_endless_line_is_a_fault_and_its_neighbours_are_not(size: int) -> None:
    data = b"first\n" + b"x" * (MAX_RECORD_BYTES + 1) + b"\nlast\n" + b"y" * (MAX_RECORD_BYTES + 1)
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    found = list(line_blocks(chunks))
    assert [f.line for f in found if isinstance(f, Fault)] == [2, 4]
    assert [(b.first_line, b.data) for b in found if isinstance(b, Block)] == [
        (1, b"first"),
        (3, b"last"),
    ]


def test_a_line_as_long_as_a_record_may_be_passes() -> None:
    line = b'{"a":"' + b"x" * (MAX_RECORD_BYTES - 8) + b'"}'
    done = publish_text("clickstream", line)
    assert done.values == [line]


def test_a_missing_file_names_a_near_one(tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl").write_bytes(LINE)
    message = _error(tmp_path / "order.jsonl")
    assert "there is no such file" in message
    assert "did you mean" in message
    assert "orders.jsonl" in message


def test_a_directory_an_empty_and_a_misnamed_file_are_refused(tmp_path: Path) -> None:
    assert "is a directory" in _error(tmp_path)
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    assert "the file is empty" in _error(empty)
    empty.write_bytes(b"\n \n\n")
    assert "the file is empty" in _error(empty)
    misnamed = tmp_path / "plain.jsonl.gz"
    misnamed.write_bytes(LINE)
    assert "is not gzip although it is called .gz" in _error(misnamed)
    wide = tmp_path / "wide.jsonl"
    wide.write_bytes(LINE.decode().encode("utf-16"))
    assert "UTF-16" in _error(wide)


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert _error(path) == f"{path}: cannot be read: Permission denied"


def test_nothing_is_published_when_any_file_is_unusable(tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    good.write_bytes(LINE)
    assert "there is no such file" in _error(good, tmp_path / "absent.jsonl")


def test_no_file_and_standard_input_twice_are_refused() -> None:
    assert "name at least one" in _error()
    assert "twice" in _error("-", "-")


def test_gzip_is_read_by_name_and_by_content_and_in_several_members(tmp_path: Path) -> None:
    compressed = gzip.compress(LINE) + gzip.compress(LINE) + b"\0" * 512
    for name in ("a.jsonl.gz", "a.jsonl"):
        (tmp_path / name).write_bytes(compressed)
        assert publish("clickstream", tmp_path / name).values == [LINE.rstrip()] * 2
    assert publish_text("clickstream", compressed).values == [LINE.rstrip()] * 2


@pytest.mark.parametrize("damage", ["cut off", "wrong checksum"])
def test_damaged_gzip_gives_what_comes_before_and_a_place(tmp_path: Path, damage: str) -> None:
    noise = Random(7)
    lines = [b'{"n":"%s"}' % noise.randbytes(32).hex().encode() for _ in range(20_000)]
    compressed = bytearray(gzip.compress(b"\n".join(lines) + b"\n"))
    if damage == "cut off":
        compressed = compressed[: len(compressed) // 2]
    else:
        compressed[-6] ^= 0xFF
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(compressed)
    done = publish("clickstream", path)
    (bad,) = done.report.bad_lines
    assert "the compressed data" in bad.reason
    assert bad.line == done.report.accepted + 1 > 5_000
    assert done.values == lines[: done.report.accepted]


def test_a_small_damaged_gzip_is_refused_before_anything_is_published(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(LINE)[:20])
    assert "the compressed data" in _error(path)


def test_a_pipe_is_read_once_and_its_lines_are_not_held_back(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(LINE * 3,))
    writer.start()
    done = publish("clickstream", fifo)
    writer.join()
    assert done.values == [LINE.rstrip()] * 3


def test_lines_of_a_live_pipe_are_published_as_they_come() -> None:
    reading, writing = os.pipe()
    received: list[bytes | None] = []
    first_arrived = threading.Event()

    def write() -> None:
        os.write(writing, LINE)
        first_arrived.wait(10)
        os.write(writing, LINE)
        os.close(writing)

    def append(outputs: list[Output]) -> None:
        received.extend(outputs[0].values)
        first_arrived.set()

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as stream:
        publish_files(contract("clickstream"), ["-"], PublishOptions(), append, stdin=stream)
    writer.join()
    assert first_arrived.is_set()
    assert received == [LINE.rstrip()] * 2


def test_a_byte_order_mark_is_not_part_of_the_first_record() -> None:
    done = publish_text("clickstream", b"\xef\xbb\xbf" + LINE)
    assert done.values == [LINE.rstrip()]


def test_whole_files_may_be_empty_or_compressed(tmp_path: Path) -> None:
    packed = gzip.compress(LINE)
    (tmp_path / "a.gz").write_bytes(packed)
    (tmp_path / "b").write_bytes(b"")
    done = publish("clickstream", tmp_path / "a.gz", tmp_path / "b", whole_file=True)
    assert done.values == [packed, b""]
    assert done.keys == [None, None]


def test_inputs_know_their_size_for_progress(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE)
    (file,) = open_inputs([str(path)], whole=False)
    assert file.size == len(LINE)
    assert b"".join(file.chunks()) == LINE
    assert file.position == len(LINE)
