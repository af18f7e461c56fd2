"""A person's own data, through `publish` and the flows, against DuckDB over the original file.

The oracle reads the file with expressions of its own: it shares no code with Tidegate.
"""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command_line import CommandLine
from places import Place

from services.status.peek import Record, peek_records

EVERY_BYTE = bytes(range(256)) * 5 + b"\n\r\n\x00\xff\xfe"


def records(place: Place, topic: str) -> list[Record]:
    shop = place.open()
    found = [r for r in peek_records(shop.log, topic, None, 0, 2**40) if r.value is not None]
    shop.log.close()
    return found


def documents(place: Place, topic: str) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in records(place, topic)]


def take_in(place: Place, *flows: str) -> None:
    """Runs the flows until they have taken in what was published."""
    running = place.start("run", *flows)
    place.wait_until_drained(*flows)
    assert running.stop() == 0, running.stderr


# --- a web server's log --------------------------------------------------------------------------

SESSIONS_OF_LOG = """
WITH requests AS (
    SELECT
        regexp_extract(line, '^([^ ]+) ', 1) AS host,
        strptime(regexp_extract(line, '[[]([^]]+)[]]', 1), '%d/%b/%Y:%H:%M:%S %z') AS moment
    FROM read_csv(?, columns = {'line': 'VARCHAR'}, header = false, auto_detect = false,
                  delim = '\x01', quote = '', escape = '', new_line = '\\n')
),
steps AS (
    SELECT host, moment, lag(moment) OVER by_host AS before
    FROM requests WINDOW by_host AS (PARTITION BY host ORDER BY moment)
),
numbered AS (
    SELECT host, moment, count(*) FILTER (before IS NULL OR moment - before > INTERVAL 30 MINUTE)
        OVER (PARTITION BY host ORDER BY moment) AS session
    FROM steps
)
SELECT host, min(moment) AT TIME ZONE 'UTC', max(moment) AT TIME ZONE 'UTC', count(*)
FROM numbered GROUP BY host, session ORDER BY ALL
"""


def test_a_web_servers_log_gives_the_sessions_that_sql_gives(
    place: Place, shared_data: Path
) -> None:
    log = shared_data / "apache_access_log.gz"
    done = place.tidegate("publish", "clickstream", log, "--format", "combined-log", "--complete")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("10,000 records published")
    take_in(place, "ingest", "sessionize")
    expected = duckdb.execute(SESSIONS_OF_LOG, [str(log)]).fetchall()
    assert len(expected) > 2_000
    assert sum(count for *_, count in expected) == 10_000
    found = [
        (s["user_id"], instant(s["started_at"]), instant(s["ended_at"]), s["event_count"])
        for s in documents(place, "sessions")
    ]
    assert sorted(found) == expected
    assert records(place, "dlq.clickstream") == records(place, "late.clickstream") == []


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


# --- a shop's purchases --------------------------------------------------------------------------


PURCHASES_OF_CUSTOMERS = """
WITH lines AS (
    SELECT regexp_extract_all(unnest(string_split(content, chr(10))[2:]), '[^ \\r]+') AS cells
    FROM read_text(?)
)
SELECT cells[1], count(*), sum(cells[4]::DECIMAL(18, 2)), min(cells[2]), max(cells[2])
FROM lines WHERE len(cells) = 4 GROUP BY ALL
"""


def test_a_shops_purchases_give_each_customers_own(place: Place, purchases: Path) -> None:
    lines = [",".join(line.split()) for line in purchases.read_text().splitlines()[1:]]
    table = place.directory / "purchases.csv"
    table.write_text("\n".join(["customer,day,discs,dollars", *lines]))
    maps = ("user_id=customer", "total_amount=dollars", "event_timestamp=day")
    done = place.tidegate(
        *("publish", "transactions", "purchases.csv"),
        *(part for each in maps for part in ("--map", each)),
        *("--set", "currency=USD", "--timestamp-format", "%Y%m%d", "--complete"),
    )
    assert done.returncode == 0, done.stderr
    take_in(place, "ingest")
    found: dict[str, list[Any]] = {}
    for event in documents(place, "events.transactions"):
        found.setdefault(event["user_id"], []).append(event)
    expected = duckdb.execute(PURCHASES_OF_CUSTOMERS, [str(purchases)]).fetchall()
    assert len(expected) == 23_570
    assert {
        (
            customer,
            len(events),
            sum(Decimal(event["total_amount"]) for event in events),
            min(event["event_timestamp"] for event in events)[:10].replace("-", ""),
            max(event["event_timestamp"] for event in events)[:10].replace("-", ""),
        )
        for customer, events in found.items()
    } == set(expected)
    assert records(place, "dlq.transactions") == records(place, "late.transactions") == []


# --- files that are not as they should be --------------------------------------------------------


@pytest.fixture
def tidegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capfd)


def visit(number: int) -> str:
    return json.dumps(
        {
            "event_id": f"e{number}",
            "event_type": "page_view",
            "user_id": "u",
            "event_timestamp": "2026-05-01T12:00:00Z",
        }
    )


def sale(day: str, dollars: str) -> str:
    return f"c1,{day},{dollars}"


MALFORMED: dict[str, tuple[tuple[str, ...], list[str], dict[int, int]]] = {
    "visits.jsonl": (
        ("clickstream",),
        [visit(1), '{"event_id": "e2",, }', visit(3), '{"event_id": "e4"'],
        {2: 19, 4: 18},
    ),
    "sales.csv": (
        (
            "transactions",
            *("--map", "user_id=customer", "--map", "total_amount=dollars"),
            *("--map", "event_timestamp=day", "--timestamp-format", "%Y%m%d"),
            *("--set", "currency=USD"),
        ),
        [
            "customer,day,dollars",
            sale("19970101", "11.77"),
            sale("never", "12.00"),
            sale("19970102", "1.00"),
        ],
        {3: 4},
    ),
    "access.log": (
        ("clickstream",),
        [
            '1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 7 "-" "agent"',
            "1.2.3.4 - - nonsense",
        ],
        {2: 11},
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_told_by_line_and_column_and_the_rest_is_published(
    name: str, tidegate: CommandLine
) -> None:
    (source, *options), lines, wrong = MALFORMED[name]
    (tidegate.directory / name).write_text("\n".join(lines) + "\n")
    done = tidegate("publish", source, name, *options)
    assert done.code == 65
    accepted = len(lines) - len(wrong) - name.endswith(".csv")
    assert f"{accepted:,} record" in done.out.splitlines()[0]
    for line, column in wrong.items():
        assert f"{name}:{line}:{column}: " in done.out
    assert f"{len(wrong)} line" in done.out
    checked = tidegate("publish", source, name, *options, "--dry-run", "--json")
    assert checked.code == 65
    bad = [(found["line"], found["column"]) for found in json.loads(checked.out)["bad_lines"]]
    assert bad == list(wrong.items())
    held = json.loads(tidegate("topics", "--json").out)[f"raw.{source}"]["records"]
    assert held >= accepted


def test_whole_files_arrive_byte_for_byte_and_no_byte_is_lost_further_on(place: Place) -> None:
    contents = [EVERY_BYTE, b"", gzip.compress(b"x"), b"\xef\xbb\xbf{}", b"x" * 2_000_000]
    names = [f"file{number}.gz" for number in range(len(contents))]
    for name, content in zip(names, contents, strict=True):
        (place.directory / name).write_bytes(content)
    done = place.tidegate("publish", "clickstream", *names, "--whole-file")
    assert done.returncode == 0, done.stderr
    assert [record.value for record in records(place, "raw.clickstream")] == contents
    take_in(place, "ingest")
    assert [letter.value for letter in records(place, "dlq.clickstream")] == contents
