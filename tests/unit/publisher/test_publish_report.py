"""The whole command: formats by name, order, reports, interruptions and heartbeats."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from publishing import contract, publish, publish_text

from dataflows.connectors.records import END_OF_TIME_US, Output, heartbeat_time
from dataflows.contracts import TidegateError
from services.publisher import (
    PublishError,
    PublishInterrupted,
    completion_time,
    heartbeats,
    parse_options,
    publish_files,
)

HEADER = "transaction_id,user_id,event_timestamp,total_amount,currency\n"
LOG_LINE = 'h - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1" 200 1 "-" "-"\n'


def _event(number: int, time: object = "2026-01-01T00:00:00Z") -> str:
    return json.dumps({"event_id": f"e{number}", "user_id": "u", "event_timestamp": time}) + "\n"


def test_the_format_goes_by_the_name_unless_given(tmp_path: Path) -> None:
    (tmp_path / "a.CSV").write_text(HEADER + "t1,u1,2026-01-01,1,EUR\n")
    assert publish("transactions", tmp_path / "a.CSV").records[0]["total_amount"] == "1.00"
    (tmp_path / "access.log").write_text(LOG_LINE)
    assert publish("clickstream", tmp_path / "access.log").keys == [b"h"]
    (tmp_path / "a.txt").write_text(_event(1))
    assert publish("clickstream", tmp_path / "a.txt").keys == [b"u"]
    assert publish("transactions", tmp_path / "a.CSV", format="jsonl").report.rejected == 2


def test_several_files_are_one_publication(tmp_path: Path) -> None:
    for name, day in (("b", 1), ("a", 2)):
        text = f"{HEADER}{name},u1,2026-01-0{day},1,EUR\nx,u1,2026-01-09,y,EUR\n"
        (tmp_path / f"{name}.csv").write_text(text)
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    done = publish("transactions", *files)
    assert [record["transaction_id"] for record in done.records] == ["b", "a"]
    assert [(line.file, line.line) for line in done.report.bad_lines] == [
        (str(files[0]), 3),
        (str(files[1]), 3),
    ]
    in_order = publish("transactions", *files, order="file")
    assert [record["transaction_id"] for record in in_order.records] == ["a", "b"]
    assert len(in_order.outputs) == 1
    assert in_order.report.files == 2


def test_json_lines_keep_the_order_of_the_file_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(_event(1, 3_000) + _event(2, "?") + _event(3, 1_000) + _event(4, 2_000))
    ids = [record["event_id"] for record in publish("clickstream", path).records]
    assert ids == ["e1", "e2", "e3", "e4"]
    ids = [record["event_id"] for record in publish("clickstream", path, order="time").records]
    assert ids == ["e3", "e4", "e1", "e2"]


def test_the_report_for_people_and_for_programs(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(_event(1, 1_000) + "\n{\n" + _event(2, 2_500) + '{"a":1}\n' + _event(3, 9_000))
    report = publish("clickstream", path, not_after_us=5_000_000).report
    assert report.summary() == [
        f"4 records published to raw.clickstream ({report.bytes} bytes)",
        "event times from 1970-01-01T00:00:01.000000Z to 1970-01-01T00:00:02.500000Z",
        "1 blank line skipped",
        "1 line not published:",
        f"  {path}:3:2: expected a name in double quotes, but the line ends",
        "1 record without a usable key: see dlq.clickstream",
        "1 record without a readable event time: see dlq.clickstream",
        "1 record with an event time in the future: see dlq.clickstream",
    ]
    parsed: Any = json.loads(json.dumps(report.to_json()))
    assert parsed["accepted"] == 4
    assert parsed["last_event_time"] == "1970-01-01T00:00:02.500000Z"
    assert parsed["bad_lines"] == [
        {
            "file": str(path),
            "line": 3,
            "column": 2,
            "reason": "expected a name in double quotes, but the line ends",
        }
    ]


def test_the_wrong_format_is_suggested_against() -> None:
    report = publish_text("clickstream", LOG_LINE).report
    assert (report.accepted, report.rejected) == (0, 1)
    assert "does --format (jsonl, csv or combined-log) fit the file?" in report.summary()[-1]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device;"),
        (OSError(errno.EIO, "Input/output error", "/log"), "Input/output error: /log;"),
        (TidegateError("the log is held"), "the log is held;"),
    ],
)
def test_a_log_that_fails_half_way_is_told_with_what_was_published(
    tmp_path: Path, error: Exception, words: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(_event(number) for number in range(12_000)))
    with pytest.raises(PublishInterrupted) as caught:
        publish_files(contract("clickstream"), [str(path)], parse_options(), _failing(error, 2))
    assert words in str(caught.value)
    assert "10,000 records had been published" in str(caught.value)
    assert caught.value.report.accepted == 10_000


def _failing(error: Exception, successes: int) -> Callable[[list[Output]], None]:
    calls = iter(range(successes))

    def append(_: list[Output]) -> None:
        if next(calls, None) is None:
            raise error

    return append


def test_a_mistake_in_the_last_file_publishes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "t1,u1,2026-01-01,1,EUR\n")
    (tmp_path / "b.csv").write_text("t,u\n1,2\n")
    with pytest.raises(PublishError, match="nothing fills user_id"):
        publish_files(
            contract("transactions"),
            [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")],
            parse_options(),
            _failing(AssertionError("published"), 0),
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "jsnol"}, "did you mean jsonl?): use one of jsonl, csv, combined-log"),
        ({"order": "random"}, "use one of file, time"),
        ({"whole_file": True, "format": "csv"}, "leave out --format"),
        ({"whole_file": True, "mapping": ["a=b"]}, "leave out --map"),
        ({"whole_file": True, "timestamp_format": "%Y"}, "leave out --timestamp-format"),
    ],
)
def test_contradicting_options_are_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PublishError) as caught:
        parse_options(**options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_heartbeat_for_each_raw_partition() -> None:
    beats = heartbeats(contract("clickstream"), 123)
    assert [(beat.topic, beat.partition) for beat in beats] == [
        ("raw.clickstream", 0),
        ("raw.clickstream", 1),
    ]
    assert [heartbeat_time((beat.headers or [()])[0]) for beat in beats] == [123, 123]
    assert [(beat.keys, beat.values) for beat in beats] == [([None], [None])] * 2


def test_completion_is_past_gap_lateness_and_bound() -> None:
    last, gap, lateness, bound = 1_000, 100, 10, 1
    time = completion_time(last, gap, lateness, bound)
    assert time - bound > last + gap + lateness
    assert completion_time(END_OF_TIME_US, gap, lateness, bound) == END_OF_TIME_US
