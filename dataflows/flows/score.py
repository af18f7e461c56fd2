"""score: scoring.requests -> scores, alerts, floods, dlq.score; the second hop of scoring

    read -> decode -> device features -> rules -> decide -> publish

Requests are keyed by device here and carry their customer's features. Every payment gets a score;
one that is not simply allowed raises an alert that says why, unless the rules that raise it flood.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.operators import map_value
from numpy.typing import NDArray

from dataflows.connectors.records import Output, Records
from dataflows.contracts.money import format_money
from dataflows.contracts.timestamps import format_timestamps
from dataflows.decodable import make_decodable
from dataflows.detection.alert_groups import AlertGroups, Group, Place
from dataflows.detection.alerts import Alert
from dataflows.detection.decision import DECISIONS, SEVERITIES, DecisionPolicy, alert_id
from dataflows.detection.floods import Flood, Floods, Hour
from dataflows.detection.payment_model import Panel, PaymentModel, model_column
from dataflows.detection.scoring import Payers, Scorer, Scores
from dataflows.eventtime.snapshots import Buffer
from dataflows.features.catalogue import DEVICE, MODEL_SCORE, payment_columns
from dataflows.features.columns import ColumnsOnDemand
from dataflows.features.declared import NOTHING_DECLARED, DeclaredFeatures
from dataflows.features.rolling import RollingFeatures
from dataflows.flows.dead_letters import dead_letters
from dataflows.flows.entity_hop import Accepted, EntityHop
from dataflows.flows.in_force import (
    Applied,
    AppliedAt,
    AppliedRules,
    InForce,
    applied_before,
    decode_control,
    decode_in_force,
    open_applied,
)
from dataflows.flows.payments import (
    REQUEST_PAYMENTS,
    Requested,
    declared_of,
    decode_requests,
    features_of,
)
from dataflows.flows.shop import Shop
from dataflows.runtime.config import EventTime
from dataflows.runtime.handover import controlled
from dataflows.runtime.sink import Processed, publish
from dataflows.runtime.slot import Slot
from dataflows.runtime.source import read
from dataflows.runtime.state import keep_large_state, keep_state


def score(slot: Slot, shop: Shop) -> Dataflow:
    judge = partial(Judge, slot, shop, applied_before(shop))
    flow = Dataflow("score")
    records = read("read", flow, slot, rows_a_record=REQUEST_PAYMENTS)
    requests = map_value("decode", records, decode_requests)
    restore = partial(DeviceHop, slot.config.event_time, declared=shop.declared)
    featured = keep_large_state("device", requests, slot, restore)
    judged = keep_state("judge", featured, slot, judge, is_handed_over=False)
    publish("publish", judged, slot)
    return flow


class Thought(msgspec.Struct, gc=False):
    """What a challenger thinks of a payment."""

    model: str
    score: float


class Scored(msgspec.Struct, gc=False, omit_defaults=True):
    """What was thought of a payment, alert or not; by a model only where there is a champion."""

    transaction_id: str
    user_id: str
    device_id: str | None
    event_timestamp: str
    total_amount: str
    currency: str | None
    score: float
    decision: str
    rules: Sequence[str]
    shadow_rules: Sequence[str]
    rule_set: str
    model_score: float | None = None
    model: str | None = None
    challengers: Sequence[Thought] = ()


class PublishedAlert(Alert, frozen=True, kw_only=True):
    """An alert, when its payment arrived, so that the way from event to alert can be timed, and
    where it stands among those of its device."""

    arrived_at: str | None = None
    group_id: str
    group_alerts: int


@dataclass(frozen=True, slots=True)
class Featured:
    """The payments of a batch, and the columns that rules read, one entry a payment."""

    payments: Accepted[Requested]
    names: list[str]
    payers: Payers
    currencies: list[str | None]
    arrivals: list[str | None]
    times: list[str]
    amounts: list[str]
    columns: ColumnsOnDemand

    @property
    def records(self) -> Records:
        return self.requested.records

    @property
    def requested(self) -> Requested:
        return self.payments.decoded


_encode = msgspec.json.Encoder().encode
_DECISIONS = np.array([decision.value for decision in DECISIONS], object)


class DeviceHop(EntityHop):
    """The slot's state: what was paid from each device."""

    def __init__(
        self,
        settings: EventTime,
        frames: Iterable[Buffer],
        declared: DeclaredFeatures = NOTHING_DECLARED,
    ):
        rolling = RollingFeatures(DEVICE, int(settings.lateness))
        super().__init__(settings, rolling, frames, declared.of_devices)
        self._carried = declared.of_customers
        # dict: a field that both read is taken once
        self._fields = list(dict.fromkeys((DEVICE.entity, *DEVICE.others, *self.declared_fields)))

    def process(self, requested: Requested) -> Featured:
        payments, cents = self.accept(requested), requested.cents
        fields = {name: requested.each(name) for name in self._fields}
        device = self.features(payments, fields, cents)
        columns = ColumnsOnDemand(
            {
                **{name: partial(device.__getitem__, name) for name in device},
                **features_of(requested.requests),
                **declared_of(requested.requests, self._carried),
                **payment_columns(cents, payments.times_us, requested.each),
            }
        )
        return Featured(
            payments,
            requested.each("transaction_id"),
            Payers(requested.each("user_id"), requested.each("device_id"), payments.times_us),
            requested.each("currency"),
            requested.each("arrived_at"),
            format_timestamps(payments.times_us),
            format_money(cents),
            columns,
        )


class _Judged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of a judge, as it is kept."""

    in_force: InForce
    hours: Sequence[Hour]
    groups: Sequence[Group]


make_decodable(_Judged)
_decode_judged = msgspec.json.Decoder(_Judged).decode


def _judged(saved: bytes) -> _Judged:
    """What a state says. Raises TidegateError."""
    try:
        return _decode_judged(saved)
    except msgspec.MsgspecError:
        return _Judged(decode_in_force(saved), (), ())  # before alerts were grouped


class Judge:
    """Scores the payments of a batch and gives reasons for those that raise an alert.

    Its state: what was applied last, as its control records have it, and the alerts of late.
    """

    def __init__(self, slot: Slot, shop: Shop, earlier: Sequence[AppliedAt], saved: bytes | None):
        self._shop = shop
        self._lateness_us = int(slot.config.event_time.lateness)
        state = _judged(saved or b"")
        self._in_force = state.in_force
        self._floods = Floods(f"{slot.topic}/{slot.partition}", self._lateness_us, state.hours)
        self._groups = AlertGroups(state.groups)
        # Whoever begins without state may begin behind control records that retention has removed.
        self._earlier = earlier if saved is None else ()
        self._scorer: Scorer | None = None
        self._panel: Panel | None = None

    def snapshot(self) -> bytes:
        return _encode(_Judged(self._in_force, self._floods.hours, self._groups.groups))

    def process(self, featured: Featured) -> Processed:
        if self._earlier:
            self._begin(featured.records)
        content = controlled(featured.records)
        if content is not None:
            self._put_in_force(decode_control(content))
        return self._judge(featured)

    def _begin(self, records: Records) -> None:
        first_us = records.arrival_us.item(0)
        for each in self._earlier:
            if each.arrival_us < first_us:
                self._put_in_force(each.applied)
        self._earlier = ()

    def _put_in_force(self, applied: Applied) -> None:
        self._in_force = self._in_force.after(applied)
        if isinstance(applied, AppliedRules):
            self._scorer = None
        else:
            self._panel = None

    def _judges(self) -> tuple[Scorer, Panel]:
        if self._scorer is None:
            rules = self._in_force.rules
            catalogue = self._shop.declared.catalogue
            chosen = rules.rule_set(catalogue) if rules else self._shop.rules
            self._scorer = Scorer(chosen, DecisionPolicy())
        if self._panel is None:
            self._panel = self._open_panel()
        return self._scorer, self._panel

    def _open_panel(self) -> Panel:
        models = self._in_force.models
        if models is None:
            return Panel(self._shop.champion)
        return Panel(
            self._open(models.champion) if models.champion else None,
            [self._open(version) for version in models.challengers],
        )

    def _open(self, version: str) -> PaymentModel:
        shop = self._shop
        return open_applied(shop.log, shop.config.models_path, version, shop.declared)

    def _judge(self, featured: Featured) -> Processed:
        payments, requested = featured.payments, featured.requested
        outputs = [
            dead_letters("dlq.score", requested.records, requested.rejections, "scoring.requests")
        ]
        floods: list[tuple[int, Flood]] = []
        if count := len(payments.rows):
            scorer, panel = self._judges()
            columns = featured.columns
            columns.add(MODEL_SCORE.name, partial(model_column, panel.champion, columns, count))
            scores = scorer.score(columns, featured.payers)
            admitted, floods = self._admit(featured, scorer, scores)
            alerts = [
                _alert(featured, scorer, scores, i, self._place(featured, i)) for i in admitted
            ]
            outputs += [
                _scores(featured, scorer, panel, scores),
                _alerts(requested, payments.rows[admitted], alerts),
            ]
        floods += self._floods.close(payments.watermarks_us)
        self._groups.forget_before(payments.watermark_us - self._lateness_us)
        return Processed(
            offsets=requested.offsets,
            arrival_us=requested.arrival_us,
            fates=requested.fates,
            outputs=[*outputs, _told(requested, floods)],
            watermark_us=payments.watermark_us,
        )

    def _admit(
        self, featured: Featured, scorer: Scorer, scores: Scores
    ) -> tuple[list[int], list[tuple[int, Flood]]]:
        """The payments whose alerts are published, and the floods that begin, with their rows."""
        admitted, floods = [], []
        denied = scorer.denied(scores)
        for i in scores.alerts.tolist():
            begun = None
            if not denied[i]:
                rules = [compiled.rule for compiled in scorer.fired(scores, i)]
                time_us = featured.payers.times_us.item(i)
                begun = self._floods.admit(rules, time_us, featured.names[i])
            if begun is None:
                admitted.append(i)
            else:
                floods += [(featured.payments.rows.item(i), flood) for flood in begun]
        return admitted, floods

    def _place(self, featured: Featured, i: int) -> Place:
        payers = featured.payers
        name = alert_id(featured.names[i])
        return self._groups.add(payers.devices[i], name, payers.times_us.item(i))


def _scores(featured: Featured, scorer: Scorer, panel: Panel, scores: Scores) -> Output:
    requested, payers = featured.requested, featured.payers
    scored = map(
        Scored,
        featured.names,
        payers.users,
        payers.devices,
        featured.times,
        featured.amounts,
        featured.currencies,
        scores.score.tolist(),
        _DECISIONS[scores.decision].tolist(),
        scorer.rule_ids(scores),
        scorer.shadow_rule_ids(scores),
        repeat(scorer.rules.version),
        *_thoughts(featured, panel),
    )
    return Output(
        topic="scores",
        causes=requested.offsets[featured.payments.rows],
        keys=list(map(str.encode, payers.users)),
        values=list(map(_encode, scored)),
        partition=requested.records.partition,
    )


def _thoughts(featured: Featured, panel: Panel) -> tuple[Iterable[Any], ...]:
    """The champion's score of each payment, its version, and what the challengers think."""
    columns, champion = featured.columns, panel.champion
    own: tuple[Iterable[Any], ...] = (repeat(None), repeat(None))
    if champion is not None:
        own = columns[MODEL_SCORE.name].for_json(), repeat(champion.version)
    others = [
        map(Thought, repeat(each.version), each.column(columns).values.tolist())
        for each in panel.challengers
    ]
    return (*own, zip(*others, strict=True) if others else repeat(()))


def _alerts(
    requested: Requested, rows: NDArray[np.int64], alerts: Sequence[PublishedAlert]
) -> Output:
    return Output(
        topic="alerts",
        causes=requested.offsets[rows],
        keys=[alert.user_id.encode() for alert in alerts],
        values=list(map(_encode, alerts)),
        partition=requested.records.partition,
    )


def _told(requested: Requested, floods: Sequence[tuple[int, Flood]]) -> Output:
    """Floods, with the rows of a batch that caused them."""
    ordered = sorted(floods, key=lambda each: each[0])
    rows = np.array([row for row, _ in ordered], np.int64)
    return Output(
        topic="floods",
        causes=requested.offsets[rows],
        keys=[flood.rule.encode() for _, flood in ordered],
        values=[_encode(flood) for _, flood in ordered],
        partition=requested.records.partition,
    )


def _alert(
    featured: Featured, scorer: Scorer, scores: Scores, i: int, place: Place
) -> PublishedAlert:
    payers = featured.payers
    return PublishedAlert(
        alert_id=alert_id(featured.names[i]),
        transaction_id=featured.names[i],
        user_id=payers.users[i],
        device_id=payers.devices[i],
        event_timestamp=featured.times[i],
        arrived_at=featured.arrivals[i],
        total_amount=featured.amounts[i],
        currency=featured.currencies[i] or "",
        score=scores.score.item(i),
        decision=DECISIONS[scores.decision.item(i)],
        severity=SEVERITIES[scores.severity.item(i)],
        reasons=scorer.reasons(scores, featured.columns, i, payers),
        rule_set=scorer.rules.version,
        group_id=place.group_id,
        group_alerts=place.number,
    )
