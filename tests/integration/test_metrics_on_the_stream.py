"""Metrics on the stream: their figures are those of SQL over all timely events, whichever partition
they were in, and what goes wrong in the shop is told."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command_line import CommandLine
from flow_bench import Bench

from dataflows.connectors.records import heartbeat
from dataflows.detection.anomalies import ALERT_AT
from dataflows.flows.opening import builder
from dataflows.runtime.slot import run_slot
from services.status.slots import flow_totals, slot_statuses

Make = Callable[..., Bench]
FLOWS = ("measure", "detect")
START = datetime(2026, 3, 2, tzinfo=UTC)

# The metrics that come with Tidegate, as SQL: rows (metric, segment, window, figure).
OF_TRANSACTIONS = """
    WITH paid AS (FROM events WHERE status IN ('authorized', 'captured'))
    SELECT 'orders', NULL, hour, count(*)::DOUBLE FROM paid GROUP BY hour
    UNION ALL SELECT 'orders', CASE WHEN shipping_country IN ('DE', 'FR', 'GB', 'PL')
        THEN shipping_country ELSE '(other)' END AS of, hour, count(*) FROM paid GROUP BY of, hour
    UNION ALL SELECT 'revenue', NULL, hour, sum(total_amount)::DOUBLE
        FROM paid WHERE currency = 'EUR' GROUP BY hour
    UNION ALL SELECT 'revenue', coalesce(payment.method, '(other)') AS of, hour, sum(total_amount)
        FROM paid WHERE currency = 'EUR' GROUP BY of, hour
    UNION ALL SELECT 'order_value', NULL, hour, sum(total_amount)::DOUBLE / count(*)
        FROM paid WHERE currency = 'EUR' GROUP BY hour HAVING count(*) >= 10
    UNION ALL SELECT 'declined_payments', payment.method AS of, hour,
        count(*) FILTER (status = 'declined') / count(*)
        FROM events WHERE status <> 'refunded' AND of IN ('card', 'paypal', 'bank_transfer')
        GROUP BY of, hour HAVING count(*) >= 10
"""
OF_CLICKS = """
    SELECT 'clicks', NULL, hour, count(*)::DOUBLE FROM events GROUP BY hour
    UNION ALL SELECT 'clicks', CASE WHEN device_class IN ('desktop', 'mobile', 'tablet', 'bot')
        THEN device_class ELSE '(other)' END AS of, hour, count(*) FROM events GROUP BY of, hour
    UNION ALL SELECT 'late_clicks', NULL, hour, count(*) FILTER (lateness = 'late') / count(*)
        FROM events GROUP BY hour HAVING count(*) >= 50
    UNION ALL SELECT 'conversion', NULL, hour, count(*) FILTER (event_type = 'purchase')
        / count(*) FILTER (event_type = 'checkout_start')
        FROM events GROUP BY hour HAVING count(*) FILTER (event_type = 'checkout_start') >= 10
"""
Figures = dict[tuple[str, str | None, datetime], float]


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Some days of the shop; clicks come in two partitions."""
    bench = Bench(tmp_path_factory.mktemp("shop"))
    bench.simulate(days=6, events=30_000)
    bench.run("ingest", *FLOWS)
    yield bench
    bench.log.close()


def documents(bench: Bench, topic: str) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in bench.records(topic) if record.value]


def by_sql(bench: Bench, source: str, query: str, directory: Path) -> Figures:
    file = directory / f"{source}.jsonl"
    file.write_text("\n".join(map(json.dumps, documents(bench, f"events.{source}"))))
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.execute(
            f"""CREATE TABLE events AS SELECT * REPLACE (
                    {
                "total_amount::DECIMAL(18, 2) AS total_amount"
                if source == "transactions"
                else "event_id AS event_id"
            }
                ), date_trunc('hour', event_timestamp::TIMESTAMPTZ) AS hour
                FROM read_json('{file}', sample_size = -1)"""
        )
        rows = database.execute(query).fetchall()
    return {(metric, segment, hour): figure for metric, segment, hour, figure in rows}


def told(bench: Bench) -> Figures:
    found = documents(bench, "metrics")
    figures = {
        (f["metric"], f["segment"], datetime.fromisoformat(f["window_start"])): f["value"]
        for f in found
    }
    assert len(figures) == len(found), "a window was told twice"
    return figures


@pytest.mark.parametrize(
    ("source", "query", "windows"),
    [("transactions", OF_TRANSACTIONS, 300), ("clickstream", OF_CLICKS, 500)],
)
def test_figures_are_those_of_sql(
    source: str, query: str, windows: int, month: Bench, tmp_path: Path
) -> None:
    figures = told(month)
    wanted = by_sql(month, source, query, tmp_path)
    last = max(start for _, _, start in figures)
    closed = {key: figure for key, figure in wanted.items() if key[2] <= last}
    assert len(closed) > windows
    for key, figure in closed.items():
        assert figures[key] == pytest.approx(figure, rel=1e-12), key
    names = {metric for metric, _, _ in wanted}
    zeros = {k: v for k, v in figures.items() if k[0] in names and k not in closed}
    assert all(not value or k[1] in _UNASKED for k, value in zeros.items())


# Segments that the queries above leave out.
_UNASKED = {None, "(other)"}


def test_it_adds_up(month: Bench) -> None:
    timely = sum(len(documents(month, f"events.{source}")) for source in month.shop.contracts)
    measure, detect = flow_totals(slot_statuses(month.shop, FLOWS))
    assert (measure.records_in, measure.difference, measure.lag_records) == (timely, 0, 0)
    assert (detect.good, detect.difference) == (len(documents(month, "metrics.parts")), 0)
    assert not month.records("dlq.measure")
    assert not month.records("dlq.detect")
    anomalies, figures = documents(month, "anomalies"), documents(month, "metrics")
    assert len(anomalies) == sum(figure["score"] >= ALERT_AT for figure in figures)


# --- what goes wrong -----------------------------------------------------------------------------


def payments(hours: int, outage: range, seed: int) -> list[bytes | None]:
    """A shop with a day's rhythm; in the hours of the outage cards are declined, and few buy."""
    noise = random.Random(seed)
    values: list[bytes | None] = []
    for hour in range(hours):
        usual = 60 - 40 * math.cos(2 * math.pi * hour / 24)
        count = round(max(0, noise.gauss(usual / 6 if hour in outage else usual, 4)))
        for number in range(count):
            at = START + timedelta(hours=hour, seconds=3_600 * number / count)
            declined = noise.random() < (0.9 if hour in outage else 0.05)
            document = {
                "transaction_id": f"{hour}-{number}",
                "user_id": f"u{number}",
                "event_timestamp": at.isoformat(),
                "total_amount": f"{noise.gauss(100, 10):.2f}",
                "currency": "EUR",
                "status": "declined" if declined else "captured",
                "payment": {"method": "card"},
                "shipping_country": "DE",
            }
            values.append(json.dumps(document).encode())
    return values


def test_an_outage_is_told_with_what_was_expected(bench: Make) -> None:
    shop = bench()
    outage = range(12 * 24 + 10, 12 * 24 + 13)
    shop.publish("events.transactions", payments(14 * 24, outage, seed=7))
    shop.run(*FLOWS)
    anomalies = documents(shop, "anomalies")
    begin, end = (START + timedelta(hours=hour) for hour in (outage.start, outage.stop + 1))
    inside = [a for a in anomalies if begin <= datetime.fromisoformat(a["window_start"]) < end]
    orders = next(a for a in inside if a["metric"] == "orders" and a["segment"] is None)
    assert orders["value"] < orders["lower"] < orders["expected"] < orders["upper"]
    assert orders["score"] >= ALERT_AT
    assert orders["explanation"].startswith(f"orders was {orders['value']:g} from 2026-03-14 1")
    assert "less than the " in orders["explanation"]
    assert {"declined_payments", "orders"} <= {a["metric"] for a in inside}
    assert len({a["anomaly_id"] for a in anomalies}) == len(anomalies)
    assert len(anomalies) - len(inside) <= 5, "ordinary hours were told, too"


def test_silence_is_told_once_time_goes_on_without_events(bench: Make) -> None:
    shop = bench()
    shop.publish("events.transactions", payments(14 * 24, range(0), seed=7))
    hours = range(14 * 24, 14 * 24 + 12)
    beats = [START + timedelta(hours=hour, minutes=1) for hour in hours]
    for beat in beats:
        shop.log.append([heartbeat("events.transactions", 0, int(beat.timestamp() * 1e6))])
    shop.run(*FLOWS)
    figures = [f for f in documents(shop, "metrics") if f["metric"] == "orders"]
    assert [f["value"] for f in figures if f["segment"] is None][-9:] == [0] * 9
    told = [a for a in documents(shop, "anomalies") if a["metric"] == "orders"]
    assert any(a["value"] == 0 and a["window_start"] >= "2026-03-16" for a in told)


# --- files ---------------------------------------------------------------------------------------


def test_a_metric_of_ones_own_runs_and_a_broken_one_is_refused_at_the_start(
    bench: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    text = (
        "id: big_orders\ndescription: d\nowner: me\nsource: transactions\nwindow: 10m\n"
        "aggregate: count\nwhere: total_amount > 100\n"
    )
    (folder / "big_orders.yaml").write_text(text)
    shop = bench(metrics=str(folder))
    shop.publish("events.transactions", payments(5, range(0), seed=7))
    shop.run(*FLOWS)
    figures = documents(shop, "metrics")
    assert {f["metric"] for f in figures} == {"big_orders"}
    assert len(figures) >= 15
    (folder / "big_orders.yaml").write_text(text.replace("total_amount", "totl_amount"))
    broken = bench(metrics=str(folder))
    (slot,) = (s for s in broken.shop.slots("measure") if s.topic == "events.transactions")
    with pytest.raises(Exception, match=r"big_orders\.yaml:7: where: unknown column totl_amount"):
        run_slot(slot, builder(broken.shop, "measure"))


@pytest.fixture
def tidegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capfd)


def test_the_commands(tidegate: CommandLine, tmp_path: Path) -> None:
    listed = tidegate("metrics", "list")
    assert listed.code == 0
    assert "8 metrics, 33 series" in listed.out
    (first, *_) = json.loads(tidegate("metrics", "check", "--json").out)
    assert (first["id"], first["series"]) == ("clicks", 6)
    (tmp_path / "draft.yaml").write_text("id: draft\nsource: nowhere\n")
    refused = tidegate("metrics", "check", "draft.yaml")
    assert refused.code == 78
    assert refused.err.startswith("tidegate: draft.yaml: object missing required field")
    assert "8 metrics" in tidegate("doctor").out


def test_a_series_is_drawn_from_the_lake(
    month: Bench, tidegate: CommandLine, tmp_path: Path
) -> None:
    month.run("load", topic="metrics")
    data = month.shop.config.data_path
    drawn = tidegate("-d", data, "metrics", "plot", "clicks", "--segment", "bot", "--out", "p.html")
    assert drawn.code == 0, drawn.err
    windows = [f for f in documents(month, "metrics") if f["metric"] == "clicks"]
    count = sum(f["segment"] == "bot" for f in windows)
    assert drawn.out.startswith(f"{count} windows of clicks of bot, ")
    assert "Anomalies of <bdi>clicks of bot</bdi>" in (tmp_path / "p.html").read_text()
    for words, said in (
        (["sales"], "has no windows of a metric 'sales'; there are clicks, conversion, "),
        (["clicks", "--segment", "bots"], "of clicks of 'bots'; its segments are (other), bot, "),
        (["conversion", "--segment", "DE"], "it has no segments: leave --segment out"),
    ):
        refused = tidegate("-d", data, "metrics", "plot", *words, "--out", "p.html")
        assert refused.code == 78
        assert said in refused.err
    nothing = tidegate("-d", tmp_path / "empty", "metrics", "plot", "clicks", "--out", "p.html")
    assert "let `tidegate up` run until it has judged some" in nothing.err
