"""A tiny shop's lake, the totals of its flows and its truth, which all agree."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from dataflows.connectors.lake import LakeWriter
from dataflows.contracts.timestamps import format_timestamps
from services.report.facts import gather
from services.report.model import Day, Facts, LagSample, RunFigures, WarehouseFacts
from services.simulator.truth import FraudCase, GroundTruth, MisuseCase, SourceTruth
from services.status.slots import FlowTotals

TIME = pa.timestamp("us", "UTC")
MONEY = pa.decimal128(18, 2)
REASON = pa.struct([("rule", pa.string()), ("weight", pa.float64()), ("text", pa.string())])
HOUR = 3_600_000_000
START = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z, in microseconds

SESSION_COLUMNS = {
    "session_id": pa.string(),
    "started_at": TIME,
    "ended_at": TIME,
    "event_count": pa.int64(),
    "funnel_stage": pa.string(),
    "capped": pa.bool_(),
    "revision": pa.int64(),
    "superseded_by": pa.string(),
}

SCORE_COLUMNS = {
    "transaction_id": pa.string(),
    "event_timestamp": TIME,
    "total_amount": pa.float64(),
    "score": pa.float64(),
    "decision": pa.string(),
}
LABEL_COLUMNS = {
    "transaction_id": pa.string(),
    "event_timestamp": TIME,
    "verdict": pa.string(),
    "lateness": pa.string(),
}


def at(hours: float) -> int:
    return START + int(hours * HOUR)


def write(
    lake: Path, table: str, columns: dict[str, pa.DataType], rows: Sequence[Sequence[Any]]
) -> None:
    """Adds rows to a table, by the day of their first time column (else the first day)."""
    values = [[row[i] for row in rows] for i in range(len(columns))]
    arrays = {
        name: pa.array(column, pa.int64()).cast(kind) if kind == TIME else pa.array(column, kind)
        for (name, kind), column in zip(columns.items(), values, strict=True)
    }
    times = next((v for v, k in zip(values, columns.values(), strict=True) if k == TIME), None)
    days = np.array(times or [START] * len(rows), "datetime64[us]").astype("datetime64[D]")
    writer = LakeWriter(lake, table, "slot")
    start = writer.next_offset or 0
    writer.write(pa.table(arrays), days, start, start + len(rows))


def write_sessions(lake: Path, rows: Sequence[Sequence[Any]]) -> None:
    write(lake, "sessions", SESSION_COLUMNS, rows)


def write_lake(lake: Path) -> None:
    """6 clicks on time, 2 late, 1 buffered; 5 payments, one of them buffered, one a refund."""
    events = {"event_timestamp": TIME, "lateness": pa.string()}
    clicks = [(at(h), "on_time") for h in (0.1, 0.2, 0.3, 1.5, 1.6, 26)]
    clicks += [(at(0.25), "late"), (at(1.55), "late"), (at(25), "buffered")]
    write(lake, "clickstream", events, clicks)
    write(
        lake,
        "transactions",
        {**events, "total_amount": MONEY, "status": pa.string()},
        [
            (at(0.4), "on_time", Decimal("10.10"), "captured"),
            (at(1.7), "on_time", Decimal("0.20"), "authorized"),
            (at(2), "on_time", Decimal("999.99"), "declined"),
            (at(2.1), "late", Decimal("10.10"), "refunded"),
            (at(0.1), "buffered", Decimal("5.00"), "captured"),
        ],
    )
    write_sessions(
        lake,
        [
            ("s1", at(0.1), at(0.2), 2, "visit", False, 1, None),
            ("s1", at(0.1), at(0.3), 4, "purchase", False, 2, None),
            ("s2", at(1.5), at(1.5), 1, "cart", False, 1, None),
            ("s3", at(1.6), at(1.6), 1, "visit", False, 1, None),
            ("s3", at(1.6), at(1.6), 1, "visit", False, 2, "s2"),
            ("s2", at(1.5), at(1.6), 3, "cart", False, 2, None),
            ("s4", at(26), at(26), 1, "product_view", True, 1, None),
        ],
    )
    write(
        lake,
        "scores",
        SCORE_COLUMNS,
        [
            ("t1", at(0.4), 10.1, 0.0, "allow"),
            ("t2", at(1.7), 0.2, 0.55, "review"),
            ("t3", at(2), 999.99, 1.0, "block"),
        ],
    )
    write_alerts(
        lake,
        [
            ("a2", "t2", "u1", None, at(1.7), 0.2, "EUR", 0.55, "low", "review", []),
            (
                *("a3", "t3", "u2", "d1", at(2), 999.99, "EUR", 1.0, "critical", "block"),
                [
                    {"rule": "many_cards", "weight": 0.4, "text": "4 cards in 10 min"},
                    {"rule": "dear", "weight": 0.7, "text": "12.4 times the usual amount"},
                ],
            ),
        ],
    )
    write_metrics(
        lake,
        [
            ("clicks", None, at(0), at(1), 4.0, None, None, None, 0.0, "v2"),
            ("clicks", None, at(1), at(2), 3.0, 40.0, 30.0, 61.0, 0.87, "v2"),
            ("clicks", "bot", at(0), at(1), 0.0, None, None, None, 0.0, "v2"),
        ],
    )
    write_anomalies(lake, [("n1", "clicks", None, at(1), 0.87, "clicks was 3, less than usual")])
    stuffed = "9 logins failed from 8 accounts within 10 minutes from device d1; 0 went through"
    write_incidents(
        lake,
        [
            ("i1", "scraping", "medium", "u1", None, at(1), at(1.2), 1, False, 1, "50 products"),
            ("i1", "scraping", "medium", "u1", None, at(1), at(1.4), 7, True, 2, "61 products"),
            *(
                ("i2", "credential_stuffing", "critical", None, "d1", at(2), at(2.1), n, over, r, s)
                for n, over, r, s in ((1, False, 1, "soon"), (5, True, 2, stuffed))
            ),
        ],
    )
    write(
        lake,
        "dead_letters",
        {"reason": pa.string(), "message": pa.string(), "contract": pa.string()},
        [
            ("missing_user", "$.user_id: no user, so no session", "clickstream/v1"),
            ("not_json", "JSON is malformed", "clickstream/v1"),
            ("not_json", "JSON is malformed", "transactions/v1"),
            ("too_late", "8.0 days behind the watermark", "transactions/v1"),
        ],
    )
    write(
        lake,
        "reprocess_requests",
        {"source": pa.string(), "late_events": pa.int64()},
        [("clickstream", 1), ("transactions", 1)],
    )


def write_alerts(lake: Path, rows: Sequence[Sequence[Any]]) -> None:
    columns = {
        **dict.fromkeys(("alert_id", "transaction_id", "user_id", "device_id"), pa.string()),
        "event_timestamp": TIME,
        "total_amount": pa.float64(),
        "currency": pa.string(),
        "score": pa.float64(),
        "severity": pa.string(),
        "decision": pa.string(),
        "reasons": pa.list_(REASON),
    }
    write(lake, "alerts", columns, rows)


def write_metrics(lake: Path, rows: Sequence[Sequence[Any]]) -> None:
    columns = {
        **dict.fromkeys(("metric", "segment"), pa.string()),
        **dict.fromkeys(("window_start", "window_end"), TIME),
        **dict.fromkeys(("value", "expected", "lower", "upper", "score"), pa.float64()),
        "version": pa.string(),
    }
    write(lake, "metrics", columns, rows)


def write_anomalies(lake: Path, rows: Sequence[Sequence[Any]]) -> None:
    columns = {
        **dict.fromkeys(("anomaly_id", "metric", "segment"), pa.string()),
        "window_start": TIME,
        "score": pa.float64(),
        "explanation": pa.string(),
    }
    write(lake, "anomalies", columns, rows)


def write_incidents(lake: Path, rows: Sequence[Sequence[Any]]) -> None:
    names = ("incident_id", "behaviour", "severity", "user_id", "device_id")
    columns = {
        **dict.fromkeys(names, pa.string()),
        **dict.fromkeys(("started_at", "ended_at"), TIME),
        "events": pa.int64(),
        "is_over": pa.bool_(),
        "revision": pa.int64(),
        "text": pa.string(),
    }
    write(lake, "incidents", columns, rows)


def totals() -> list[FlowTotals]:
    return [
        FlowTotals(
            flow="ingest",
            records_in=20,
            good=9,
            failed=3,
            late=6,
            duplicate=2,
            fates={
                "good": 9,
                "late": 3,
                "buffered": 2,
                "expired": 1,
                "duplicate": 2,
                "heartbeat": 7,
                "failed.missing_user": 1,
                "failed.not_json": 2,
            },
        ),
        FlowTotals(flow="sessionize", records_in=8, good=6, late=2, fates={"good": 6, "late": 2}),
        FlowTotals(flow="features", records_in=4, good=3, late=1, fates={"good": 3, "late": 1}),
        FlowTotals(flow="score", records_in=3, good=3, fates={"good": 3}),
        FlowTotals(flow="measure", records_in=12, good=9, late=3, fates={"good": 9, "late": 3}),
        FlowTotals(flow="detect", records_in=2, good=2, fates={"good": 2}),
        FlowTotals(
            flow="late",
            records_in=3,
            failed=1,
            late=2,
            fates={"buffered": 2, "failed.too_late": 1},
        ),
        FlowTotals(flow="watch", records_in=8, good=6, late=2, fates={"good": 6, "late": 2}),
        FlowTotals(flow="load", records_in=40, good=40, fates={"good": 40}),
    ]


def truth() -> GroundTruth:
    clicks = SourceTruth(
        total=13,
        good=6,
        late=2,
        buffered=1,
        duplicates=2,
        failed={"missing_user": 1, "not_json": 1},
    )
    payments = SourceTruth(total=7, good=3, late=1, buffered=1, expired=1, failed={"not_json": 1})
    return GroundTruth(
        seed=7,
        days=2,
        start="2026-01-01",
        end="2026-01-03",
        final_heartbeat="2026-01-03T02:00:00Z",
        partitions={"clickstream": 2, "transactions": 1},
        sources={"clickstream": clicks, "transactions": payments},
        visits=3,
        purchases=1,
        transactions=5,
        fraudulent_transactions=4,
        revenue="15.30",
        revenue_in_time="10.30",
        currency="EUR",
        frauds=[
            fraud("card_burst", "t3", "t5"),
            fraud("card_burst", "t9"),
            fraud("account_takeover", "t7"),
        ],
        bots=[],
        misuse=[
            misuse("credential_stuffing", at(2), "d1"),
            misuse("credential_stuffing", at(20), "d1"),
            misuse("cart_abuse", at(3), "d2"),
        ],
    )


def misuse(kind: str, at_us: int, device: str) -> MisuseCase:
    instant = format_timestamps(np.array([at_us]))[0]
    return MisuseCase(
        kind=kind,
        user_ids=["u3"],
        device_ids=[device],
        clicks=9,
        first_at=instant,
        last_at=instant,
    )


def fraud(kind: str, *payments: str) -> FraudCase:
    return FraudCase(
        kind=kind,
        user_ids=["u2"],
        device_ids=[],
        terminal_ids=[],
        transaction_ids=list(payments),
        first_at="2026-01-01T02:00:00Z",
        last_at="2026-01-01T03:00:00Z",
    )


FIGURES = RunFigures(
    events=20,
    wall_seconds=61.25,
    events_per_second=5_123.4,
    alert_latency_p50_ms=21.4,
    alert_latency_p99_ms=83.6,
    started_at="2026-01-03T12:00:00+00:00",
    seed=7,
    days=2,
)
LAG = [LagSample(0.5, "ingest", 12), LagSample(0.5, "load", 9), LagSample(1.0, "ingest", 0)]


WAREHOUSE = WarehouseFacts(
    seconds=12.0,
    models=29,
    tests=116,
    currency="EUR",
    days=[
        Day(date="2026-01-01", clicks=9, payments=3, purchases=2, revenue=Decimal("7.30")),
        Day(date="2026-01-02", clicks=5, payments=1, purchases=1, revenue=Decimal("3.00")),
    ],
)


def facts(lake: Path) -> Facts:
    """Of the tiny shop, after writing its lake."""
    write_lake(lake)
    return gather(lake, totals(), truth(), LAG, FIGURES)


def with_strings(facts: Facts, strings: Sequence[str]) -> Facts:
    """The facts, had customers sent these strings wherever they can send one."""
    alerts = [
        msgspec.structs.replace(
            alert,
            user_id=string,
            currency=string,
            transaction_id=string,
            device_id=string,
            decision=string,
            severity=string,
            reasons=[msgspec.structs.replace(r, text=string, rule=string) for r in alert.reasons],
        )
        for alert in facts.alerts.top
        for string in strings
    ]
    return msgspec.structs.replace(
        facts,
        alerts=msgspec.structs.replace(
            facts.alerts, top=alerts, highest=alerts, by_severity=dict.fromkeys(strings, 1)
        ),
        dead_letters=[
            msgspec.structs.replace(letters, reason=string, example=string, by_source={string: 1})
            for letters in facts.dead_letters
            for string in strings
        ],
        reprocessing=[
            msgspec.structs.replace(of, source=string)
            for of in facts.reprocessing
            for string in strings
        ],
    )
