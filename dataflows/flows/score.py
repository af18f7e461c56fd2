"""score: scoring.requests -> scores, alerts, dlq.score; the second hop of scoring

    read -> decode -> device features -> rules -> decide -> publish

Requests are keyed by device here and carry their customer's features. Every payment gets a score;
one that is not simply allowed raises an alert that says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import msgspec
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.operators import map_value
from numpy.typing import NDArray

from dataflows.connectors.records import Output, Records
from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.alerts import Alert
from dataflows.detection.decision import DECISIONS, SEVERITIES, DecisionPolicy, alert_id
from dataflows.detection.rules import RuleSet
from dataflows.detection.scoring import Scorer, Scores
from dataflows.features.catalogue import CUSTOMER, DEVICE, payment_columns
from dataflows.features.columns import Column, Columns, from_list
from dataflows.features.rolling import Payments, RollingFeatures
from dataflows.flows.dead_letters import dead_letters
from dataflows.flows.decoding import Events, decode_events
from dataflows.flows.entity_hop import EntityHop
from dataflows.flows.payments import Request
from dataflows.flows.shop import Shop
from dataflows.runtime import fates
from dataflows.runtime.config import EventTime
from dataflows.runtime.sink import Processed, publish
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.state import keep_state

TEXTS = (
    "currency",
    "status",
    "payment_method",
    "card_country",
    "shipping_country",
    "customer_country",
    "customer_segment",
)


def score(slot: Slot, shop: Shop) -> Dataflow:
    rules = shop.rules
    slot.replay_with["rule set"] = rules.version
    flow = Dataflow("score")
    records = read("read", flow, slot)
    requests = map_value("decode", records, partial(decode_events, _decoder))
    featured = keep_state("device", requests, slot, partial(DeviceHop, slot.config.event_time))
    judged = map_value("judge", featured, Judge(rules).judge)
    publish("publish", judged, slot)
    return flow


class Scored(msgspec.Struct, kw_only=True):
    """What was thought of a payment, alert or not."""

    transaction_id: str
    user_id: str
    device_id: str | None
    event_timestamp: str
    total_amount: str
    currency: str | None
    score: float
    decision: str
    rules: list[str]
    shadow_rules: list[str]
    rule_set: str


class PublishedAlert(Alert, frozen=True, kw_only=True):
    """An alert, and when its payment arrived, so that the way from event to alert can be timed."""

    arrived_at: str | None = None


@dataclass(frozen=True, slots=True)
class Featured:
    """A batch with its payments and the columns that rules read, one entry a payment."""

    decoded: Events[Request]
    rows: NDArray[np.int64]
    requests: list[Request]
    columns: Columns
    watermark_us: int


_decoder = msgspec.json.Decoder(Request)
_encode = msgspec.json.Encoder().encode


class DeviceHop(EntityHop):
    """The slot's state: what was paid from each device."""

    def __init__(self, settings: EventTime, blob: bytes | None):
        super().__init__(settings, RollingFeatures(DEVICE, int(settings.lateness)), blob)

    def process(self, decoded: Events[Request]) -> Featured:
        events, codes = decoded.events, decoded.fates
        watermarks_us = self.advance(decoded.times_us, codes)
        payments = np.array([event is not None for event in events], np.bool_)
        payments &= codes < fates.DUPLICATE
        cents = np.array([e.cents if e else 0 for e in events], np.int64)
        device = self._rolling.process(
            Payments(
                fields={
                    "device_id": [e.device_id if e else None for e in events],
                    "user_id": [e.user_id if e else None for e in events],
                },
                amounts_cents=cents,
                times_us=decoded.times_us,
                watermarks_us=watermarks_us,
                counts=payments,
            )
        )
        rows = np.flatnonzero(payments)
        requests = [request for row in rows.tolist() if (request := events[row])]
        columns = {
            **{name: Column(c.values[rows], c.valid[rows]) for name, c in device.items()},
            **_customer_columns(requests),
            **payment_columns(
                cents[rows],
                decoded.times_us[rows],
                [request.items_count for request in requests],
                {name: list(map(attrgetter(name), requests)) for name in TEXTS},
            ),
        }
        return Featured(decoded, rows, requests, columns, int(watermarks_us[-1]))


def _customer_columns(requests: list[Request]) -> dict[str, Column]:
    """The first hop's features; null where a request came without."""
    features = [request.features for request in requests]
    return {
        name: from_list(spec.kind, list(map(attrgetter(name), features)))
        for name, spec in CUSTOMER.specs.items()
    }


class Judge:
    """Scores the payments of a batch and gives reasons for those that raise an alert."""

    def __init__(self, rules: RuleSet):
        self._scorer = Scorer(rules, DecisionPolicy())
        self._ids = [compiled.rule.id for compiled in rules.live]

    def judge(self, featured: Featured) -> Processed:
        records = featured.decoded.records
        outputs = [
            dead_letters("dlq.score", records, featured.decoded.rejections, "scoring.requests")
        ]
        if len(featured.rows):
            scores = self._scorer.score(featured.columns)
            outputs += [self._scores(featured, scores), self._alerts(featured, scores)]
        return Processed(
            offsets=records.offsets,
            arrival_us=records.arrival_us,
            fates=featured.decoded.fates,
            outputs=outputs,
            watermark_us=featured.watermark_us,
        )

    def _scores(self, featured: Featured, scores: Scores) -> Output:
        requests = featured.requests
        times = format_timestamps(featured.decoded.times_us[featured.rows])
        values: list[bytes | None] = []
        for i, (request, value, decision) in enumerate(
            zip(requests, scores.score.tolist(), scores.decision.tolist(), strict=True)
        ):
            values.append(
                _encode(
                    Scored(
                        transaction_id=request.transaction_id,
                        user_id=request.user_id,
                        device_id=request.device_id,
                        event_timestamp=times[i],
                        total_amount=_money(request.cents),
                        currency=request.currency,
                        score=value,
                        decision=DECISIONS[decision],
                        rules=[self._ids[rule] for rule in scores.rules[i]],
                        shadow_rules=self._scorer.shadow_rules(scores, i),
                        rule_set=self._scorer.rules.version,
                    )
                )
            )
        return _output("scores", featured.decoded.records, featured.rows, requests, values)

    def _alerts(self, featured: Featured, scores: Scores) -> Output:
        found = scores.alerts
        rows = featured.rows[found]
        requests = [featured.requests[i] for i in found.tolist()]
        times = format_timestamps(featured.decoded.times_us[rows])
        values: list[bytes | None] = [
            _encode(self._alert(request, time, featured, scores, i))
            for request, time, i in zip(requests, times, found.tolist(), strict=True)
        ]
        return _output("alerts", featured.decoded.records, rows, requests, values)

    def _alert(
        self, request: Request, time: str, featured: Featured, scores: Scores, i: int
    ) -> PublishedAlert:
        return PublishedAlert(
            alert_id=alert_id(request.transaction_id),
            transaction_id=request.transaction_id,
            user_id=request.user_id,
            device_id=request.device_id,
            event_timestamp=time,
            arrived_at=request.arrived_at,
            total_amount=_money(request.cents),
            currency=request.currency or "",
            score=scores.score.item(i),
            decision=DECISIONS[scores.decision.item(i)],
            severity=SEVERITIES[scores.severity.item(i)],
            reasons=self._scorer.reasons(scores, featured.columns, i),
            rule_set=self._scorer.rules.version,
        )


def _output(
    topic: str,
    records: Records,
    rows: NDArray[np.int64],
    requests: list[Request],
    values: list[bytes | None],
) -> Output:
    return Output(
        topic=topic,
        causes=records.offsets[rows],
        keys=[request.user_id.encode() for request in requests],
        values=values,
        partition=records.partition,
    )


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
