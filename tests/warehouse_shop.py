"""A small shop's week as what its flows would have put into the lake, and as plain documents.

The documents are the truth that tests compute from: each is an event, session, score, alert,
incident or label that was delivered, some of them twice, some late.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from dataflows.connectors.lake import LakeWriter
from dataflows.connectors.records import Headers, Records
from dataflows.contracts import load_contracts
from dataflows.flows.load import LINEAGE
from dataflows.flows.tables import DeadLetterTable, DocumentTable, EventTable

HOUSE = Path(__file__).resolve().parents[1]
CONTRACTS = load_contracts(HOUSE / "schemas")
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 6
KEY = bytes(range(32))

CATEGORIES = ("shoes", "toys", "books", "garden")
PRODUCTS = {f"P{n}": CATEGORIES[n % len(CATEGORIES)] for n in range(16)}
EVENT_TYPES = (
    *("product_view",) * 8,
    *("category_view",) * 3,
    *("add_to_cart",) * 4,
    *("checkout_start",) * 2,
    "purchase",
    "search",
    "page_view",
)

Document = dict[str, Any]


@dataclass(frozen=True)
class Delivery:
    """A document on its way to a table: by the topic that carries it there, as it arrived."""

    topic: str
    document: Document
    arrived_at: datetime

    @property
    def table(self) -> str:
        kind, _, source = self.topic.partition(".")
        return source if kind in ("events", "buffered") else self.topic.replace(".", "_")


class Shop:
    """What happened, in order of arrival. The same seed gives the same week."""

    def __init__(self, seed: int, users: int = 40, clicks: int = 1_200, payments: int = 160):
        self._random = random.Random(seed)
        self.users = [f"C{n}" for n in range(users)]
        self.deliveries: list[Delivery] = []
        self._profiles()
        self._catalogue()
        self._clicks(clicks)
        self._payments(payments)
        self._tickets(30)
        self._repeats()
        self._incidents()
        self.deliveries.sort(key=lambda delivery: delivery.arrived_at)

    def of(self, table: str) -> list[Delivery]:
        return [delivery for delivery in self.deliveries if delivery.table == table]

    def _when(self) -> datetime:
        return MONDAY + timedelta(microseconds=self._random.randrange(DAYS * 86_400_000_000))

    def _id(self, prefix: str) -> str:
        return f"{prefix}-{self._random.randrange(10**12):012d}"

    def _event(self, source: str, when: datetime, document: Document) -> None:
        """Most are on time; some so late that they are buffered."""
        chance = self._random.random()
        delay = timedelta(seconds=self._random.randrange(1, 20))
        lateness, topic = "on_time", "events"
        if chance < 0.05:
            lateness, delay = "late", timedelta(minutes=self._random.randrange(5, 50))
        elif chance < 0.12:
            lateness, topic = "buffered", "buffered"
            delay = timedelta(hours=self._random.randrange(2, 60))
        arrived = when + delay
        document |= {
            "event_timestamp": when.isoformat(),
            "lateness": lateness,
            "arrived_at": arrived.isoformat(),
            "raw_offset": len(self.deliveries),
        }
        self.deliveries.append(Delivery(f"{topic}.{source}", document, arrived))

    def _profiles(self) -> None:
        pick = self._random.choice
        for user in self.users[: len(self.users) * 3 // 4]:
            for _ in range(self._random.randrange(1, 4)):
                closed = self._random.random() < 0.05
                when = self._when() if self._random.random() < 0.6 else MONDAY
                profile: Document = {
                    "event_id": self._id("profile"),
                    "user_id": user,
                    "email": f"{user.lower()}@shop.example",
                    "full_name": f"Name of {user}",
                    "address": {"city": pick(("Graz", "Łódź")), "country": pick(("AT", "PL"))},
                    "segment": pick(("new", "regular", "loyal", "vip")),
                    "marketing_opt_in": pick((True, False)),
                    "deleted_at": when.isoformat() if closed else None,
                }
                self._event("customer_profiles", when, profile)

    def _catalogue(self) -> None:
        for product, category in PRODUCTS.items():
            for change in range(self._random.randrange(1, 3)):
                document: Document = {
                    "event_id": self._id("product"),
                    "product_id": product,
                    "name": f'{category} "{product}"',
                    "category": category,
                    "price": f"{self._random.randrange(100, 20_000) / 100:.2f}",
                    "currency": "EUR",
                    "tags": ["new"] if change else [],
                    "attributes": {"colour": "grün"},
                }
                self._event("product_catalog", self._when() if change else MONDAY, document)

    def _clicks(self, count: int) -> None:
        for _ in range(count):
            kind = self._random.choice(EVENT_TYPES)
            click: Document = {
                "event_id": self._id("click"),
                "event_type": kind,
                "user_id": self._random.choice(self.users),
                "device": {"device_id": self._id("device")},
                "device_class": "phone",
            }
            if kind in ("product_view", "add_to_cart"):
                product = self._random.choice(list(PRODUCTS))
                click |= {"product_id": product, "category": PRODUCTS[product]}
            elif kind == "category_view":
                click["category"] = self._random.choice(CATEGORIES)
            if self._random.random() < 0.05:
                click["extras"] = {"experiment": "ü"}
            self._event("clickstream", self._when(), click)
            if self._random.random() < 0.3:
                self._session(click)

    def _session(self, click: Document) -> None:
        """A session that begins with this click; some are revised, some merged away."""
        start = datetime.fromisoformat(click["event_timestamp"])
        session: Document = {
            "session_id": self._id("session"),
            "user_id": click["user_id"],
            "started_at": start.isoformat(),
            "capped": False,
        }
        for revision in range(1, self._random.choice((1, 1, 1, 2, 3)) + 1):
            end = start + timedelta(minutes=10 * revision)
            merged = revision > 1 and self._random.random() < 0.3
            revised = session | {
                "ended_at": end.isoformat(),
                "event_count": revision,
                "revision": revision,
                "funnel_stage": self._random.choice(("visit", "cart", "purchase")),
                "superseded_by": "another" if merged else None,
            }
            self.deliveries.append(Delivery("sessions", revised, end + timedelta(hours=1)))
            if merged:
                break

    def _payments(self, count: int) -> None:
        for _ in range(count):
            when, user = self._when(), self._random.choice(self.users)
            items = [self._item() for _ in range(self._random.randrange(4))]
            total = sum((Decimal(item["amount"]) for item in items), Decimal("0.00"))
            amounts = {"total_amount": f"{total if items else Decimal('25.00')}"}
            payment: Document = {
                "transaction_id": self._id("payment"),
                "user_id": user,
                "currency": self._random.choice(("EUR", "EUR", "EUR", "USD")),
                "status": self._random.choice(("captured", "captured", "authorized", "declined")),
                "payment": {"method": "card", "card_country": "AT"},
                "order_id": self._id("order"),
                **({"items": items} if items else {}),
                **amounts,
            }
            self._event("transactions", when, payment)
            if payment["lateness"] != "buffered":
                self._score(payment, when)
            if self._random.random() < 0.2:
                for _ in range(self._random.choice((1, 2))):
                    self._label(payment, when)

    def _item(self) -> Document:
        quantity, cents = self._random.randrange(1, 4), self._random.randrange(100, 5_000)
        return {
            "product_id": self._random.choice(list(PRODUCTS)),
            "quantity": quantity,
            "unit_price": f"{Decimal(cents) / 100:.2f}",
            "amount": f"{Decimal(cents * quantity) / 100:.2f}",
        }

    def _score(self, payment: Document, when: datetime) -> None:
        score = round(self._random.random(), 3)
        scored: Document = {
            "transaction_id": payment["transaction_id"],
            "user_id": payment["user_id"],
            "device_id": None,
            "event_timestamp": when.isoformat(),
            "total_amount": payment["total_amount"],
            "currency": payment["currency"],
            "score": score,
            "decision": "review" if score > 0.7 else "allow",
            "rules": ["high_amount"] if score > 0.7 else [],
            "shadow_rules": [],
            "rule_set": "r1",
        }
        self.deliveries.append(Delivery("scores", scored, when + timedelta(seconds=30)))
        if score > 0.7:
            alert = {
                **{k: v for k, v in scored.items() if k not in ("rules", "shadow_rules")},
                "alert_id": self._id("alert"),
                "arrived_at": (when + timedelta(seconds=31)).isoformat(),
                "severity": "high",
                "reasons": [{"rule": "high_amount", "weight": 0.7, "text": "Much"}],
            }
            self.deliveries.append(Delivery("alerts", alert, when + timedelta(seconds=31)))

    def _label(self, payment: Document, when: datetime) -> None:
        label: Document = {
            "label_id": self._id("label"),
            "transaction_id": payment["transaction_id"],
            "user_id": payment["user_id"],
            "verdict": self._random.choice(("fraud", "legitimate")),
            "origin": "analyst",
        }
        later = when + timedelta(hours=self._random.randrange(1, 40))
        last = MONDAY + timedelta(days=DAYS, seconds=-1)
        self._event("labels", min(later, last), label)

    def _tickets(self, count: int) -> None:
        for _ in range(count):
            ticket, user, when = self._id("T"), self._random.choice(self.users), self._when()
            for kind in ("opened", "message", "resolved", "reopened", "rated"):
                if kind != "opened" and self._random.random() < 0.4:
                    continue
                step: Document = {
                    "event_id": self._id("step"),
                    "ticket_id": ticket,
                    "event_type": kind,
                    "user_id": user,
                    "category": self._random.choice(("delivery", "payment")),
                    "agent_id": self._random.choice(("anna", "bo")),
                }
                if kind == "rated":
                    step["satisfaction"] = self._random.randrange(1, 6)
                self._event("customer_support", when, step)
                when = min(
                    when + timedelta(hours=self._random.randrange(1, 20)),
                    MONDAY + timedelta(days=DAYS, seconds=-1),
                )

    def _repeats(self) -> None:
        """Some events arrive twice; a few of them say another time, on another day."""
        events = [d for d in self.deliveries if d.topic.startswith(("events", "buffered"))]
        for delivery in self._random.sample(events, len(events) // 20):
            arrived = delivery.arrived_at + timedelta(hours=self._random.randrange(3, 50))
            again = delivery.document | {
                "lateness": "buffered",
                "arrived_at": arrived.isoformat(),
                "raw_offset": 10**6 + len(self.deliveries),
            }
            if self._random.random() < 0.3:
                again["event_timestamp"] = self._when().isoformat()
            topic = f"buffered.{delivery.table}"
            self.deliveries.append(Delivery(topic, again, arrived))

    def _incidents(self) -> None:
        """Of some clicks' users, or devices; most are over, and some of those turned out to have
        begun the day before, some to be none."""
        clicks = [d.document for d in self.deliveries if d.topic == "events.clickstream"]
        for click in self._random.sample(clicks, min(30, len(clicks))):
            start = datetime.fromisoformat(click["event_timestamp"])
            device = click["device"]["device_id"] if self._random.random() < 0.3 else None
            began: Document = {
                "incident_id": self._id("incident"),
                "behaviour": "credential_stuffing" if device else "scraping",
                "owner": "account-security",
                "severity": self._random.choice(("low", "critical")),
                "weight": 0.9,
                "user_id": None if device else click["user_id"],
                "device_id": device,
                "started_at": start.isoformat(),
                "ended_at": start.isoformat(),
                "events": 1,
                "is_over": False,
                "revision": 1,
                "text": f"1 thing from device {device}, or {device}" if device else "1 thing",
                "rule_set": "b1",
            }
            self.deliveries.append(Delivery("incidents", began, start + timedelta(seconds=1)))
            if self._random.random() < 0.8:
                midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
                is_earlier = midnight > MONDAY and self._random.random() < 0.3
                first = midnight - timedelta(minutes=1) if is_earlier else start
                over = began | {
                    "started_at": first.isoformat(),
                    "ended_at": (start + timedelta(minutes=5)).isoformat(),
                    "events": self._random.choice((0, 7, 7)),
                    "is_over": True,
                    "revision": 2,
                    "text": began["text"].replace("1 thing", "7 things"),
                }
                self.deliveries.append(Delivery("incidents", over, start + timedelta(hours=3)))


def put(lake: Path, deliveries: Iterable[Delivery]) -> None:
    """Writes documents to the lake in this order, each topic as one slot, in a few files a date."""
    by_topic: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        by_topic.setdefault(delivery.topic, []).append(delivery)
    for topic, some in by_topic.items():
        _write(lake, topic, some)


def _write(lake: Path, topic: str, deliveries: Sequence[Delivery]) -> None:
    table_name = deliveries[0].table
    writer = LakeWriter(lake, table_name, f"{topic}.0")
    start = writer.next_offset or 0
    offsets = np.arange(start, start + len(deliveries))
    arrived = [int(d.arrived_at.timestamp() * 1_000_000) for d in deliveries]
    values = [msgspec.json.encode(d.document) for d in deliveries]
    records = Records(
        topic, 0, offsets, np.array(arrived), [None] * len(values), list(values), None
    )
    contract = CONTRACTS.get(table_name)
    table = EventTable(contract, KEY) if contract else DocumentTable(topic)
    made = table.rows(records, np.arange(len(values)))
    assert not made.rejections, made.rejections
    columns = (pa.repeat(topic, len(values)), pa.repeat(pa.scalar(0, pa.int64()), len(values)))
    rows = made.table
    for (name, kind), column in zip(LINEAGE, (*columns, pa.array(offsets)), strict=True):
        rows = rows.append_column(pa.field(name, kind, nullable=False), column)
    writer.write(rows, made.dates, start, start + len(values))


def put_dead_letters(lake: Path, reasons: Sequence[str]) -> None:
    """Dead letters of clicks, for these reasons, with bytes that are no UTF-8."""
    headers: list[Headers] = [
        (
            ("dlq-reason", reason.encode()),
            ("dlq-message", b"why"),
            ("dlq-topic", b"raw.clickstream"),
            ("dlq-partition", b"0"),
            ("dlq-offset", str(n).encode()),
            ("dlq-arrival", MONDAY.isoformat().encode()),
            ("dlq-contract", b"clickstream/v1"),
        )
        for n, reason in enumerate(reasons)
    ]
    count = len(reasons)
    bytes_ = [b"\xff\x00"] * count
    records = Records(
        "dlq.clickstream", 0, np.arange(count), np.zeros(count, np.int64), [None] * count,
        list(bytes_), headers,
    )  # fmt: skip
    made = DeadLetterTable().rows(records, np.arange(count))
    rows = made.table.append_column("_topic", pa.repeat("dlq.clickstream", count))
    rows = rows.append_column("_partition", pa.repeat(pa.scalar(0, pa.int64()), count))
    rows = rows.append_column("_offset", pa.array(range(count), pa.int64()))
    LakeWriter(lake, "dead_letters", "dlq.clickstream.0").write(rows, made.dates, 0, count)
