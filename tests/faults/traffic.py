"""Clicks and payments of a small shop: the same for the same seed, a few percent of them trouble.

Late by seconds, hours and days; repeated; broken in ways of which each has its own reason. They go
to the raw topics with a producer of the test's own, whatever befalls the flows meanwhile.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zlib import crc32

from confluent_kafka import KafkaError, Message, Producer

START = datetime(2026, 3, 2, tzinfo=UTC)
EVERY_S = 20.0  # event time between two events
BETWEEN_CLICKS_S = 1200.0  # of one user, on average
TURN = 50  # events, then other users have their turn
PAYMENTS = 0.15
LATE_S = (31.0, 3 * 3600.0)
LONG_AGO_S = 8 * 86_400.0
STAGES = ("page_view", "product_view", "add_to_cart", "view_cart", "checkout_start", "purchase")
HEARTBEAT = "tidegate-heartbeat"
END_OF_TIME_US = 2**62

_QUIET = logging.getLogger("traffic")  # librdkafka has a line for each attempt to reconnect
_QUIET.setLevel(logging.CRITICAL)


class Shares(NamedTuple):
    """Which share of the events is not as it should be."""

    late: float = 0.02
    long_ago: float = 0.002
    repeated: float = 0.01
    poison: float = 0.01


class Event(NamedTuple):
    """A record for `raw.<source>`."""

    source: str
    partition: int
    key: bytes
    value: bytes


class Traffic:
    """An endless stream of events; `next` takes some more of it.

    Args:
        every_s: of event time between two of them.
        start: event time of the first.
    """

    def __init__(
        self,
        seed: int,
        partitions: dict[str, int],
        users: int = 60,
        shares: Shares | None = None,
        every_s: float = EVERY_S,
        start: datetime = START,
    ):
        self._random = random.Random(seed)
        self._partitions = partitions
        self._users, self._active = users, round(BETWEEN_CLICKS_S / every_s)
        self._every_s, self._start = every_s, start
        self._shares = shares or Shares()
        self._count = 0
        self._recent: list[Event] = []

    def next(self, count: int) -> list[Event]:
        return [self._event() for _ in range(count)]

    def _event(self) -> Event:
        chance, shares = self._random.random(), self._shares
        if chance < shares.repeated and self._recent:
            return self._random.choice(self._recent)
        self._count += 1
        source = "transactions" if self._random.random() < PAYMENTS else "clickstream"
        turn = self._count // TURN * self._active
        user = f"u{(turn + self._random.randrange(self._active)) % self._users}"
        document = self._payment(user) if source == "transactions" else self._click(user)
        behind_s = self._random.uniform(0.0, min(EVERY_S, self._every_s))
        if chance > 1.0 - shares.long_ago:
            behind_s = LONG_AGO_S
        elif chance > 1.0 - shares.long_ago - shares.late:
            behind_s = self._random.uniform(*LATE_S)
        at = self._start + timedelta(seconds=self._count * self._every_s - behind_s)
        document["event_timestamp"] = at.isoformat(timespec="milliseconds")
        poisoned = shares.repeated <= chance < shares.repeated + shares.poison
        value = self._spoilt(document) if poisoned else json.dumps(document).encode()
        partition = crc32(user.encode()) % self._partitions[source]
        event = Event(source, partition, user.encode(), value)
        self._recent = [*self._recent[-9:], event]
        return event

    def _click(self, user: str) -> dict[str, object]:
        return {
            "event_id": f"e{self._count}",
            "event_type": self._random.choice(STAGES),
            "user_id": user,
        }

    def _payment(self, user: str) -> dict[str, object]:
        cents = self._random.randrange(100, 60_000)
        return {
            "transaction_id": f"t{self._count}",
            "user_id": user,
            "total_amount": f"{cents // 100}.{cents % 100:02d}",
            "currency": "EUR",
            "status": self._random.choice(("authorized", "captured", "declined", "refunded")),
            "payment": {"method": "card", "card_id": f"card{self._random.randrange(4)}-{user}"},
            "device": {"device_id": f"d{self._random.randrange(40)}"},
            "shipping_country": self._random.choice(("AT", "DE", "FR")),
        }

    def _spoilt(self, document: dict[str, object]) -> bytes:
        kind = self._random.randrange(5)
        if kind == 0:
            return b'{"event_id": "' + bytes(self._random.randrange(256) for _ in range(12))
        if kind == 1:
            document["event_timestamp"] = "2099-01-01T00:00:00Z"
        elif kind == 2:
            document["event_timestamp"] = "yesterday"
        elif kind == 3:
            document["user_id"] = None
        else:
            document.pop("event_id", None)
            document.pop("transaction_id", None)
        return json.dumps(document).encode()


class Publisher:
    """Writes events to the raw topics of a broker, each once, in order, however long it takes."""

    def __init__(self, servers: str):
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "message.timeout.ms": 0,
                "linger.ms": 5,
                "logger": _QUIET,
            }
        )
        self._refused: list[str] = []

    def send(self, events: Sequence[Event]) -> None:
        for event in events:
            topic, value, key = f"raw.{event.source}", event.value, event.key
            while True:
                try:
                    self._producer.produce(
                        topic, value, key, event.partition, on_delivery=self._delivered
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self._producer.poll(0)

    def end(self, partitions: dict[str, int]) -> None:
        """Event time comes to its end in every partition: whatever is open closes."""
        for source, count in partitions.items():
            for partition in range(count):
                self._producer.produce(
                    f"raw.{source}",
                    None,
                    None,
                    partition,
                    on_delivery=self._delivered,
                    headers=[(HEARTBEAT, b"%d" % END_OF_TIME_US)],
                )
        self.flush()

    def flush(self) -> None:
        assert self._producer.flush(300) == 0, "the broker does not take the input"
        assert not self._refused, self._refused[:3]

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._refused.append(str(error))
