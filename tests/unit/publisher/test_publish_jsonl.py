"""JSON lines: bytes untouched without --map and --set, members moved with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publishing import contract, publish, publish_text

from dataflows.connectors.records import Output
from services.publisher import PublishError, parse_options, publish_files

EVENT = {
    "event_id": "e1",
    "event_type": "page_view",
    "event_timestamp": "2026-01-01T00:00:00Z",
    "user_id": "u1",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_bytes_are_kept_exactly() -> None:
    lines = [
        b'{"user_id" : "u1","x":1.0e0,  "event_timestamp":"2026-01-01T00:00:00Z"}',
        '{"user_id":"ü","user_id":"ö"}'.encode(),
        b'{"user_id":"\\u00fc"}',
        b"[1, 2]",
        b'  "text" ',
        b"12345678901234567890123",
    ]
    done = publish_text("clickstream", b"\r\n".join(lines))
    assert done.values == lines
    assert done.keys == [b"u1", "ö".encode(), "ü".encode(), None, None, None]
    assert done.report.bytes == sum(map(len, lines))


def test_lines_that_are_not_json_are_named_and_the_rest_is_published() -> None:
    good = json.dumps(EVENT).encode()
    lines = [good, b'{"a":1,}', b"", good, b"\xff", b" \t ", b'{"a":"x', good, b"[" * 100_000]
    done = publish_text("clickstream", b"\n".join(lines))
    assert done.values == [good] * 3
    assert done.places == [(2, 8), (5, 1), (7, 6), (9, 100_001)]
    assert done.report.rejected == 4
    assert done.report.skipped_blank == 2
    assert str(done.report.bad_lines[0]).startswith("stdin:2:8: expected a name")


def test_only_the_first_bad_lines_are_kept_but_all_are_counted() -> None:
    done = publish_text("clickstream", b"no\n" * 1_000 + b"{}")
    assert done.report.rejected == 1_000
    assert len(done.report.bad_lines) == 20
    assert "  and 980 more" in done.report.summary()


@pytest.mark.parametrize(
    "line",
    [
        b'{"user_id":"\\ud800"}',
        b'{"user_id":1e999}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"user_id":["a"],"event_timestamp":{"a":1}}',
        b'{"user_id":"","event_timestamp":true}',
        b'{"user_id":7,"event_timestamp":"yesterday"}',
    ],
)
def test_json_that_breaks_the_contract_is_published_without_key_and_time(line: bytes) -> None:
    done = publish_text("clickstream", line)
    assert done.values == [line]
    assert done.keys == [None]
    assert (done.report.unkeyed, done.report.untimed) == (1, 1)
    assert done.report.first_us is None


def test_event_times_are_read_in_all_their_forms() -> None:
    times: list[Any] = ["2026-01-01T01:00:00+01:00", 1_767_225_600_000, 1_767_225_600_000.5]
    text = "\n".join(json.dumps({**EVENT, "event_timestamp": time}) for time in times)
    report = publish_text("clickstream", text).report
    assert (report.first_us, report.last_us) == (1_767_225_600_000_000, 1_767_225_600_000_500)


@settings(deadline=None, max_examples=200)
@given(st.lists(JSON, max_size=8))
def test_any_json_values_arrive_as_they_are(values: list[Any]) -> None:
    def refuse(name: str) -> None:
        raise ValueError(name)

    lines = [json.dumps(value).encode() for value in values] or [b"{}"]
    kept = []
    for line in lines:
        try:
            json.loads(line, parse_constant=refuse)
        except ValueError:
            continue
        kept.append(line)
    done = publish_text("clickstream", b"\n".join(lines))
    assert done.values == kept
    assert done.report.rejected == len(lines) - len(kept)


def test_naughty_strings_arrive_byte_for_byte(shared_data: Path, tmp_path: Path) -> None:
    strings = json.loads((shared_data / "naughty_strings.json").read_bytes())
    lines = [json.dumps({**EVENT, "page_title": s}, ensure_ascii=False) for s in strings]
    lines += [json.dumps(string) for string in strings]
    path = tmp_path / "naughty.jsonl"
    path.write_bytes("\n".join(lines).encode())
    done = publish("clickstream", path)
    assert done.values == [line.encode() for line in lines]
    assert done.report.rejected == 0
    decoded = contract("clickstream").decode([*done.values[: len(strings)]])
    assert [e.page_title for e in decoded.events if e is not None] == [
        s for s in strings if len(s) <= 512
    ]


def test_naughty_strings_as_whole_files(shared_data: Path, tmp_path: Path) -> None:
    strings = json.loads((shared_data / "naughty_strings.json").read_bytes())
    paths = [tmp_path / f"{number:03}" for number in range(len(strings))]
    for path, string in zip(paths, strings, strict=True):
        path.write_bytes(string.encode())
    done = publish("clickstream", *paths, whole_file=True)
    assert done.values == [string.encode() for string in strings]


def test_whole_files_keep_any_bytes(tmp_path: Path) -> None:
    contents = [b"\xff\x00\n\r\n", b"x" * 10_000_000, json.dumps(EVENT, indent=2).encode()]
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    done = publish("clickstream", *paths, whole_file=True)
    assert done.values == contents
    assert done.keys == [None, None, b"u1"]
    huge = tmp_path / "huge"
    huge.write_bytes(b"x" * (16 * 1024 * 1024 + 1))
    assert publish("clickstream", huge, whole_file=True).places == [(1, 1)]


def test_records_travel_in_batches_of_five_thousand(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text(
        "".join(json.dumps({**EVENT, "event_id": str(i)}) + "\n" for i in range(12_001))
    )
    done = publish("clickstream", path)
    assert [len(output) for output in done.outputs] == [5_000, 5_000, 2_001]
    assert all(output.topic == "raw.clickstream" for output in done.outputs)
    assert all(output.partition is None and not output.causes.any() for output in done.outputs)
    assert [record["event_id"] for record in done.records] == [str(i) for i in range(12_001)]


def test_a_dry_run_counts_and_appends_nothing() -> None:
    done = publish_text("clickstream", json.dumps(EVENT), dry_run=True)
    assert done.outputs == []
    assert done.report.accepted == 1
    assert done.report.summary()[0].startswith("1 record would be published to raw.clickstream")


def test_members_are_moved_set_and_coerced_and_the_others_kept() -> None:
    line = (
        b'{"id":7,"who":{"name":"u1","age":1.50},"at":1767225600000,"n":"3","big":1e999,'
        b'"paid":12.5,"page_url":"/a","device":{"kind":"tv"}}'
    )
    done = publish_text(
        "clickstream",
        line,
        mapping=[
            "event_id=id",
            "user_id=who.name",
            "event_timestamp=at",
            "quantity=n",
            "cart.value=paid",
            "device.language=page_url",
        ],
        constants=["event_type=page_view"],
    )
    assert done.values == [
        b'{"who":{"age":1.50},"big":1e999,"device":{"kind":"tv","language":"/a"},"event_id":"7",'
        b'"user_id":"u1","event_timestamp":"2026-01-01T00:00:00.000000Z","quantity":3,'
        b'"cart":{"value":"12.50"},"event_type":"page_view"}'
    ]
    assert done.keys == [b"u1"]
    assert done.report.last_us == 1_767_225_600_000_000


def test_what_a_moved_member_displaces_is_kept() -> None:
    done = publish_text(
        "clickstream",
        '{"user_id":"old","login":"new","event_type":"x"}',
        mapping=["user_id=login"],
        constants=["event_type=search"],
    )
    (record,) = done.records
    assert record["user_id"] == "new"
    assert record["original_user_id"] == "old"
    assert (record["event_type"], record["original_event_type"]) == ("search", "x")


def test_a_member_that_does_not_fit_is_named_by_its_place() -> None:
    lines = [
        '{"when":"2026-01-01","n":1}',
        '{"n":2,"when":"soon"}',
        '{"n":{"a":1},"when":"2026-01-01"}',
        '{"n":1',
        '{"when":1767225600,"n":4}',
        '{"device":"tv","lang":"de","when":"2026-01-01"}',
    ]
    done = publish_text(
        "clickstream",
        "\n".join(lines),
        mapping=["event_timestamp=when", "quantity=n", "device.language=lang"],
    )
    assert [record["quantity"] for record in done.records] == [1]
    assert done.places == [(2, 15), (3, 6), (4, 7), (5, 9), (6, 11)]
    assert "'soon' is not a time" in done.reasons[0]
    assert "an object cannot fill quantity" in done.reasons[1]
    assert "--timestamp-format %s" in done.reasons[3]
    assert "device is not an object" in done.reasons[4]


def test_ids_are_made_where_a_mapped_record_has_none() -> None:
    text = "\n".join(['{"u":"a"}', '{"u":"a"}', '{"u":"a","event_id":"mine"}'])
    first, again = (publish_text("clickstream", text, mapping=["user_id=u"]) for _ in range(2))
    ids = [record["event_id"] for record in first.records]
    assert ids[1] == f"{ids[0]}-1"
    assert ids[2] == "mine"
    assert first.values == again.values


def test_lines_that_cannot_be_taken_apart_go_through_as_they_are() -> None:
    lines = [b'{"u":"\\ud800"}', b"[1]", b'{"u":"a"}']
    done = publish_text("clickstream", b"\n".join(lines), mapping=["user_id=u"])
    assert done.values[:2] == lines[:2]
    assert done.records[2]["user_id"] == "a"
    assert done.keys == [None, None, b"a"]


def test_a_column_that_no_record_has_is_refused() -> None:
    with pytest.raises(PublishError) as caught:
        publish_text("clickstream", '{"custmer":"a","n":1}', mapping=["user_id=customer"])
    message = str(caught.value)
    assert message.startswith("stdin: --map user_id=customer: none of the first 1 records has")
    assert "did you mean custmer?" in message
    assert message.endswith("there are custmer, n")


def test_a_timestamp_format_needs_a_mapping() -> None:
    with pytest.raises(PublishError, match="needs --map event_timestamp=FIELD"):
        publish_text("clickstream", "{}", timestamp_format="%Y%m%d")


def test_progress_is_told_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text((json.dumps(EVENT) + "\n") * 20_000)
    seen: list[tuple[int, int | None, int]] = []
    publish_files(
        contract("clickstream"),
        [str(path)],
        parse_options(),
        lambda outputs: None,
        lambda progress: seen.append((progress.position, progress.size, progress.accepted)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == (path.stat().st_size, path.stat().st_size, 20_000)


def test_causes_are_zeros() -> None:
    outputs: list[Output] = publish_text("clickstream", "{}").outputs
    np.testing.assert_array_equal(outputs[0].causes, np.zeros(1, np.int64))
