"""`tidegate replay`: how anyone audits the engine, with another's cases and with broken files."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from places import EVENTS, Place

VECTORS = ("beam_testSimple", "beam_testConsecutive", "beam_testMerging", "beam_testTimeUnit")
START = datetime(2026, 5, 1, tzinfo=UTC)
Session = tuple[str, int, int, int]  # user, first and last event in ms, how many


@pytest.fixture
def tidegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capfd)


def event(user: str, ms: int) -> dict[str, object]:
    at = START + timedelta(milliseconds=ms)
    return {"user_id": user, "event_type": "page_view", "event_timestamp": at.isoformat()}


def written(file: Path, events: Sequence[dict[str, object]]) -> Path:
    file.write_text("".join(json.dumps(one) + "\n" for one in events))
    return file


def rows(directory: Path, topic: str = "sessions") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / f"{topic}.jsonl").read_text().splitlines()]


def final_sessions(revisions: Sequence[dict[str, Any]]) -> list[Session]:
    """The last revision of each id, without those that were merged away."""
    last = {row["session_id"]: row for row in sorted(revisions, key=lambda row: row["revision"])}
    return sorted(
        (row["user_id"], ms(row["started_at"]), ms(row["ended_at"]), row["event_count"])
        for row in last.values()
        if row["superseded_by"] is None
    )


def ms(text: str) -> int:
    return round((datetime.fromisoformat(text) - START) / timedelta(milliseconds=1))


# --- sessions that another engine's tests state --------------------------------------------------


def stated(vector: dict[str, Any]) -> list[Session]:
    """What the vector says, with its one difference: exactly one gap apart belongs together."""
    sessions: list[Session] = []
    for one in sorted(vector["emitted"], key=lambda one: (one["key"], one["first"])):
        session = (one["key"], one["first"], one["last"], one["count"])
        before = sessions[-1] if sessions else None
        if before and before[0] == session[0] and session[1] - before[2] <= vector["gap"]:
            sessions[-1] = (before[0], before[1], session[2], before[3] + session[3])
        else:
            sessions.append(session)
    return sessions


@pytest.mark.parametrize("name", VECTORS)
def test_sessions_are_those_that_another_engine_states(
    name: str, shared_data: Path, tidegate: CommandLine, tmp_path: Path
) -> None:
    lines = (shared_data / "session_vectors.jsonl").read_text().splitlines()
    vectors = {vector["id"]: vector for vector in map(json.loads, lines)}
    assert set(vectors) == set(VECTORS)
    vector = vectors[name]
    file = written(tmp_path / "in.jsonl", [event(*step["ev"][:2]) for step in vector["steps"]])
    settings = [f"gap={vector['gap']}ms", "bound=1h", "lateness=1h"]
    options = [part for setting in settings for part in ("--set", setting)]
    done = tidegate("replay", "sessionize", "--in", file, "--out", "out", "--final", *options)
    assert done.code == 0, done.err
    sessions = final_sessions(rows(tmp_path / "out"))
    assert sessions == stated(vector)
    same = [(s["key"], s["first"], s["last"], s["count"]) for s in vector["emitted"]] == sessions
    assert same == (name != "beam_testSimple")


# --- what is written, and when -------------------------------------------------------------------


def test_a_row_has_what_an_auditor_needs_and_merges_are_told(
    tidegate: CommandLine, tmp_path: Path
) -> None:
    """The user's two sessions are one when the event between them has come, late."""
    file = written(
        tmp_path / "in.jsonl",
        [event("u", 0), event("u", 15), event("v", 60), event("u", 8), event("v", 200)],
    )
    settings = ("--set", "gap=10ms", "--set", "bound=20ms", "--set", "lateness=1h")
    assert tidegate("replay", "sessionize", "--in", file, "--out", "out", *settings).code == 0
    found = rows(tmp_path / "out")
    wanted = ["session_id", "user_id", "started_at", "ended_at", "event_count", "revision"]
    assert all({*wanted, "superseded_by"} <= set(row) for row in found)
    assert final_sessions(found) == [("u", 0, 15, 3), ("v", 60, 60, 1)]
    first, second = (row["session_id"] for row in found[:2])
    assert first != second
    (merged,) = [row for row in found if row["superseded_by"]]
    assert (merged["session_id"], merged["superseded_by"]) == (second, first)
    assert [row["revision"] for row in found if row["session_id"] == first] == [1, 2]


def test_without_final_nothing_that_is_open_is_written(
    tidegate: CommandLine, tmp_path: Path
) -> None:
    file = written(tmp_path / "in.jsonl", [event("u", 0), event("u", 10_000), event("v", 60_000)])
    command = ("replay", "sessionize", "--in", file, "--set", "bound=30s", "--set")
    assert tidegate(*command, "gap=30m", "--out", "open").code == 0
    assert rows(tmp_path / "open") == []
    assert tidegate(*command, "gap=15s", "--out", "partly").code == 0
    assert final_sessions(rows(tmp_path / "partly")) == [("u", 0, 10_000, 2)]
    assert tidegate(*command, "gap=30m", "--out", "final", "--final").code == 0
    assert final_sessions(rows(tmp_path / "final")) == [
        ("u", 0, 10_000, 2),
        ("v", 60_000, 60_000, 1),
    ]


def test_standard_input_and_compressed_files_are_read(place: Place) -> None:
    lines = b"".join(json.dumps(event("u", n)).encode() + b"\n" for n in range(3))
    (place.directory / "in.jsonl.gz").write_bytes(gzip.compress(lines))
    for number, given in enumerate((("-", lines), ("in.jsonl.gz", b""))):
        name, stdin = given
        out = f"out{number}"
        done = place.tidegate(
            "replay", "sessionize", "--in", name, "--out", out, "--final", stdin=stdin
        )
        assert done.returncode == 0, done.stderr
        assert "in 3 = good 3" in done.stdout
        assert final_sessions(rows(place.directory / out)) == [("u", 0, 2, 3)]


# --- broken input --------------------------------------------------------------------------------

BROKEN = [b"{", b'{"user_id":"\xff\xfe"}', b"[1]", b'{"user_id":"u","event_timestamp":"never"}']


def test_broken_lines_become_dead_letters_byte_for_byte(
    tidegate: CommandLine, tmp_path: Path
) -> None:
    good = json.dumps(event("u", 0)).encode()
    for flow, source in (("sessionize", "dlq.sessionize"), ("ingest", "dlq.clickstream")):
        file, out = tmp_path / f"{flow}.jsonl", tmp_path / flow
        file.write_bytes(b"\n".join([good, *BROKEN, b"", good]) + b"\n")
        done = tidegate("replay", flow, "--in", file, "--out", out, "--final")
        assert done.code == 0, done.err
        letters = rows(out, source)
        values = [
            base64.b64decode(letter["value_base64"])
            if "value_base64" in letter
            else letter["value"].encode()
            for letter in letters
        ]
        # ingest wants an event_id, too: there the good ones are refused as well
        assert [value for value in values if value != good] == BROKEN
        reasons = [
            next(h["value"] for h in letter["headers"] if h["name"] == "dlq-reason")
            for letter, value in zip(letters, values, strict=True)
            if value != good
        ]
        assert reasons[:2] == ["not_json", "not_utf8"]


BAD_RECORDS = [
    '{"value": "no arrival"}',
    '{"arrival_us": 1.5}',
    '{"arrival_us": -1}',
    '{"arrival_us": 1000000000000000000000000000000}',
    '{"arrival_us": 1, "value_base64": "@@"}',
    '{"arrival_us": 1, "headers": ["late"]}',
    '{"arrival_us": 1, "value": "\\ud800"}',
    "[1]",
]


@pytest.mark.parametrize("record", BAD_RECORDS)
def test_a_line_that_is_no_record_is_named(record: str, tidegate: CommandLine) -> None:
    (tidegate.directory / "in.jsonl").write_text('{"arrival_us": 1}\n' + record + "\n")
    refused = tidegate("replay", "ingest", "--records", "--in", "in.jsonl", "--out", "out")
    assert refused.code == 78
    assert refused.err.startswith("tidegate: in.jsonl:2: is no record (")


@pytest.mark.parametrize("told", ["soon", "9" * 30, ""])
def test_a_late_record_whose_watermark_cannot_be_read_is_still_buffered(
    told: str, tidegate: CommandLine
) -> None:
    value = json.dumps({**event("u", 0), "event_id": "e"})
    header = {"name": "late-watermark", "value": told}
    record = {"arrival_us": 2**50, "value": value, "headers": [header]}
    file = written(tidegate.directory / "in.jsonl", [record])
    done = tidegate("replay", "late", "--records", "--in", file, "--out", "out")
    assert done.code == 0, done.err
    (buffered,) = rows(tidegate.directory / "out", "buffered.clickstream")
    assert buffered["event_id"] == "e"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.gz", gzip.compress(b'{"user_id":"u"}\n' * 1_000, mtime=0)[:-20]),
        ("damaged.gz", gzip.compress(b'{"user_id":"u"}\n' * 1_000, mtime=0)[:30] + b"\xff" * 40),
        ("no.gz", b"plain text"),
    ],
)
def test_a_compressed_file_that_cannot_be_read_is_named(
    name: str, content: bytes, tidegate: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    refused = tidegate("replay", "sessionize", "--in", name, "--out", "out")
    assert refused.code == 78
    (line,) = refused.err.splitlines()
    assert line.startswith(f"tidegate: {name}: cannot be read")


def test_an_output_directory_that_cannot_be_made_is_named(
    tidegate: CommandLine, tmp_path: Path
) -> None:
    file = written(tmp_path / "in.jsonl", [event("u", 0)])
    (tmp_path / "out").write_text("a file")
    refused = tidegate("replay", "sessionize", "--in", file, "--out", "out")
    assert refused.code == 78
    (line,) = refused.err.splitlines()
    assert line.startswith("tidegate: out: ")


# --- peek and replay -----------------------------------------------------------------------------


def test_records_from_peek_replay_into_what_the_live_flows_published(place: Place) -> None:
    assert place.tidegate(*EVENTS).returncode == 0
    service = place.up()
    place.wait_until_drained()
    assert service.stop() == 0
    peek = ("peek", "events.clickstream", "--partition", "1", "--offset", "0", "-n", "99999")
    records = place.tidegate(*peek, "--json").stdout.encode()
    done = place.tidegate(
        "replay", "sessionize", "--records", "--in", "-", "--out", "out", stdin=records
    )
    assert done.returncode == 0, done.stderr
    peek = ("peek", "sessions", "--partition", "1", "--offset", "0", "-n", "99999")
    live = place.tidegate(*peek, "--json").stdout.splitlines()
    replayed = (place.directory / "out" / "sessions.jsonl").read_text().splitlines()
    assert len(replayed) > 100
    assert replayed == [json.loads(line)["value"] for line in live]
