"""Server logs: the real one, and every way a line can deviate."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publishing import Published, contract, publish, publish_text

from services.publisher import PublishError

LINE = (
    '1.2.3.4 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=1 HTTP/1.0" 200 2326'
    ' "http://x/" "Mozilla/4.08 [en]"'
)


def _log(text: str | bytes, source: str = "clickstream", **options: Any) -> Published:
    return publish_text(source, text, format="combined-log", **options)


def test_a_request_becomes_a_page_view_and_nothing_is_lost() -> None:
    done = _log(LINE + "\n")
    (record,) = done.records
    assert len(record.pop("event_id")) == 32
    assert record == {
        "event_type": "page_view",
        "event_timestamp": "2000-10-10T20:55:36.000000Z",
        "user_id": "1.2.3.4",
        "page_url": "/a?b=1",
        "referrer": "http://x/",
        "device": {"user_agent": "Mozilla/4.08 [en]"},
        "user": "frank",
        "method": "GET",
        "protocol": "HTTP/1.0",
        "status": 200,
        "bytes": 2326,
    }
    assert done.keys == [b"1.2.3.4"]
    decoded = contract("clickstream").decode([*done.values])
    assert decoded.failures == []


def test_a_dash_is_nothing() -> None:
    done = _log('h - - [10/Oct/2000:13:55:36 +0000] "-" 408 - "-" "-"\n')
    (record,) = done.records
    assert set(record) == {"event_id", "event_type", "event_timestamp", "user_id", "status"}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("GET /", {"method": "GET", "page_url": "/"}),
        ("GET /a b HTTP/1.1", {"method": "GET", "page_url": "/a b", "protocol": "HTTP/1.1"}),
        (r"GET /\"q\" HTTP/1.1", {"method": "GET", "page_url": '/"q"', "protocol": "HTTP/1.1"}),
        (r"GET /\\n\t HTTP/1.1", {"method": "GET", "page_url": "/\\n\t", "protocol": "HTTP/1.1"}),
        (r"GET /\xc3\xbc HTTP/2", {"method": "GET", "page_url": "/ü", "protocol": "HTTP/2"}),
        (r"GET /\xfc HTTP/2", {"method": "GET", "page_url": r"/\xfc", "protocol": "HTTP/2"}),
        (r"\x16\x03\x01", {"request": "\x16\x03\x01"}),
        ("", {}),
    ],
)
def test_unusual_requests(request_: str, expected: dict[str, str]) -> None:
    done = _log(f'h - - [10/Oct/2000:13:55:36 +0000] "{request_}" 400 0 "-" "-"\n')
    (record,) = done.records
    names = {"method", "page_url", "protocol", "request"}
    assert {name: record[name] for name in names & set(record)} == expected


@pytest.mark.parametrize(
    ("bad", "column", "words"),
    [
        ("x", 1, "expected the host"),
        ("h - - 10/Oct/2000", 5, "expected the user"),
        (LINE.replace("[10", "10").replace("[en]", ""), 11, "expected the user"),
        (LINE.replace("-0700]", "-0700"), 17, "expected the time in square brackets"),
        (LINE.replace('"GET', "GET"), 46, "expected the request in double quotes"),
        (LINE.replace(" 200 ", " 20x "), 68, "expected the status of three digits"),
        (LINE.replace(" 2326 ", " many "), 72, "expected the number of bytes"),
        (LINE.replace('"http', "http"), 77, "expected the referrer in double quotes"),
        (LINE[:76], 77, "expected the referrer in double quotes: the line ends"),
        (LINE + " 0.01", 109, "expected the end of the line after the agent"),
        (LINE.replace("Oct", "Okt"), 18, "is not a time written as"),
        (LINE.replace(":36 ", ":66 "), 18, "is not a time written as"),
        (LINE.encode().replace(b"frank", b"fr\xffnk"), 13, "byte 0xff is not UTF-8"),
        (b"\xff", 1, "expected the host"),
    ],
)
def test_a_line_that_deviates_is_named_and_its_neighbours_arrive(
    bad: str | bytes, column: int, words: str
) -> None:
    raw = bad if isinstance(bad, bytes) else bad.encode()
    text = b"\n".join([LINE.encode(), raw, b"", LINE.encode(), b""])
    for content in (text, text.replace(b"\n", b"\r\n")):
        done = _log(content)
        assert done.places == [(2, column)]
        assert words in done.reasons[0]
        assert done.report.accepted == 2
        assert done.report.skipped_blank == 1


def test_an_agent_without_its_closing_quote_is_published_with_a_remark() -> None:
    cut = LINE[:-4]
    done = _log(f"{cut}\n{LINE}\n")
    assert done.report.accepted == 2
    assert done.records[0]["device"] == {"user_agent": "Mozilla/4.08 ["}
    assert [str(line) for line in done.report.odd_lines] == [
        "stdin:1:89: expected the agent in double quotes: the quote is never closed"
    ]
    assert "1 line published with a remark:" in done.report.summary()


def test_a_last_line_that_is_still_being_written_is_not_published() -> None:
    done = _log(f"{LINE}\n{LINE[:-4]}")
    assert done.report.accepted == 1
    assert done.places == [(2, 89)]
    assert _log(f"{LINE}\n{LINE}").report.accepted == 2


def test_mappings_override_the_usual_ones() -> None:
    done = _log(
        LINE + "\n",
        mapping=["user_id=user", "ip_address=host", "quantity=status"],
        constants=["event_type=search"],
    )
    (record,) = done.records
    assert record["user_id"] == "frank"
    assert record["ip_address"] == "1.2.3.4"
    assert record["quantity"] == 200
    assert record["event_type"] == "search"
    assert "status" not in record
    assert "host" not in record


def test_other_sources_say_what_a_log_does_not_have() -> None:
    with pytest.raises(PublishError) as caught:
        _log(LINE, source="transactions")
    assert "nothing fills total_amount, currency" in str(caught.value)
    assert "the columns are host, ident, user, time" in str(caught.value)


def test_nginx_with_iso_times() -> None:
    line = LINE.replace("10/Oct/2000:13:55:36 -0700", "2000-10-10T13:55:36-07:00")
    done = _log(line + "\n", timestamp_format="%Y-%m-%dT%H:%M:%S%z")
    assert done.records[0]["event_timestamp"] == "2000-10-10T20:55:36.000000Z"


QUOTED = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda text: text != "-"
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(QUOTED, QUOTED), min_size=1, max_size=5))
def test_quoted_parts_hold_any_text(cells: list[tuple[str, str]]) -> None:
    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"')

    prefix = 'h - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1" 200 1'
    lines = [f'{prefix} "{escape(first)}" "{escape(second)}"' for first, second in cells]
    done = _log("\n".join(lines) + "\n")
    assert done.report.rejected == 0
    assert [(r["referrer"], r["device"]["user_agent"]) for r in done.records] == cells


def test_the_real_log_arrives_whole(shared_data: Path) -> None:
    path = shared_data / "apache_access_log.gz"
    done = publish("clickstream", path, format="combined-log")
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert done.report.accepted == len(lines) == 10_000
    assert done.report.rejected == 0
    assert [line.line for line in done.report.odd_lines] == [8_899]
    expected: Counter[tuple[str, int, str]] = Counter()
    for line in lines:
        host, time, path_ = re.match(r'(\S+) .*?\[(.*?)\] "\w+ (\S+)', line).groups()  # type: ignore[union-attr]
        instant = datetime.strptime(time, "%d/%b/%Y:%H:%M:%S %z")
        expected[host, int(instant.timestamp()) * 1_000_000, path_] += 1
    decoded = contract("clickstream").decode([*done.values])
    assert decoded.failures == []
    found = zip(decoded.events, decoded.times_us.tolist(), strict=True)
    assert Counter((e.user_id, us, e.page_url) for e, us in found) == expected
    assert decoded.times_us.tolist() == sorted(decoded.times_us.tolist())
    assert len({event.event_id for event in decoded.events}) == 10_000


def test_in_file_order_the_report_tells_how_far_events_are_out_of_order(shared_data: Path) -> None:
    path = shared_data / "apache_access_log.gz"
    report = publish("clickstream", path, format="combined-log", order="file").report
    assert report.behind_us == 59_000_000
    late = publish(
        "clickstream", path, format="combined-log", order="file", late_after_us=30_000_000
    ).report
    assert late.too_late > 0
    assert any("--order time" in line for line in late.summary())
