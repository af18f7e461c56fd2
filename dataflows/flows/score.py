"""score: scoring.requests -> scores, alerts, floods, dlq.score; the second hop of scoring

    read -> decode -> device features -> rules -> decide -> publish

Requests are keyed by device here and carry their customer's features. Every payment gets a score;
one that is not simply allowed raises an alert that says why, unless the rules that raise it flood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
from dataflows.contracts.timestamps import canonical_timestamps
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
from dataflows.flows.decoding import Events, decode_events
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
    Request,
    declaring_decoder,
    request_decoder,
    unpack_declared,
    unpack_features,
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
    records = read("read", flow, slot)
    requests = map_value("decode", records, decoding(shop.declared))
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

    requests: Accepted[Request]
    times: list[str]
    amounts: list[str]
    columns: ColumnsOnDemand

    @property
    def records(self) -> Records:
        return self.requests.decoded.records


_encode = msgspec.json.Encoder().encode
_DECISIONS = np.array([decision.value for decision in DECISIONS], object)


def decode(records: Records) -> Events[Request]:
    """Requests, as the first hop wrote them."""
    return decode_events(request_decoder, records)


def decoding(declared: DeclaredFeatures) -> Callable[[Records], Events[Any]]:
    """How requests are decoded: with what they carry, where the shop declares such."""
    return partial(decode_events, declaring_decoder) if declared.of_customers else decode


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

    def process(self, decoded: Events[Request]) -> Featured:
        requests = self.accept(decoded)
        cents = np.array(requests.each("cents"), np.int64)
        fields = {name: requests.each(name) for name in self._fields}
        device = self.features(requests, fields, cents)
        carried = requests.each("declared") if self._carried else []
        columns = ColumnsOnDemand(
            {
                **{name: partial(device.__getitem__, name) for name in device},
                **unpack_features(requests.each("features")),
                **unpack_declared(carried, self._carried),
                **payment_columns(cents, requests.times_us, requests.each),
            }
        )
        times = canonical_timestamps(requests.each("event_timestamp"), requests.times_us)
        return Featured(requests, times, format_money(cents), columns)


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
        return open_applied(self._shop.log, version, self._shop.declared)

    def _judge(self, featured: Featured) -> Processed:
        requests = featured.requests
        decoded = requests.decoded
        records = decoded.records
        outputs = [dead_letters("dlq.score", records, decoded.rejections, "scoring.requests")]
        floods: list[tuple[int, Flood]] = []
        if count := len(requests.rows):
            scorer, panel = self._judges()
            columns = featured.columns
            columns.add(MODEL_SCORE.name, partial(model_column, panel.champion, columns, count))
            payers = Payers(requests.each("user_id"), requests.each("device_id"), requests.times_us)
            scores = scorer.score(columns, payers)
            admitted, floods = self._admit(requests, scorer, scores, payers)
            alerts = [
                _alert(featured, scorer, scores, payers, i, self._place(requests.payments[i], t))
                for i, t in zip(admitted, payers.times_us[admitted].tolist(), strict=True)
            ]
            outputs += [
                _scores(featured, scorer, panel, scores, payers),
                _alerts(records, requests.rows[admitted], alerts),
            ]
        floods += self._floods.close(requests.watermarks_us)
        self._groups.forget_before(requests.watermark_us - self._lateness_us)
        return Processed(
            offsets=records.offsets,
            arrival_us=records.arrival_us,
            fates=decoded.fates,
            outputs=[*outputs, _told(records, floods)],
            watermark_us=requests.watermark_us,
        )

    def _admit(
        self, requests: Accepted[Request], scorer: Scorer, scores: Scores, payers: Payers
    ) -> tuple[list[int], list[tuple[int, Flood]]]:
        """The payments whose alerts are published, and the floods that begin, with their rows."""
        admitted, floods = [], []
        denied = scorer.denied(scores)
        for i in scores.alerts.tolist():
            begun = None
            if not denied[i]:
                rules = [compiled.rule for compiled in scorer.fired(scores, i)]
                name = requests.payments[i].transaction_id
                begun = self._floods.admit(rules, payers.times_us.item(i), name)
            if begun is None:
                admitted.append(i)
            else:
                floods += [(requests.rows.item(i), flood) for flood in begun]
        return admitted, floods

    def _place(self, payment: Request, time_us: int) -> Place:
        return self._groups.add(payment.device_id, alert_id(payment.transaction_id), time_us)


def _scores(
    featured: Featured, scorer: Scorer, panel: Panel, scores: Scores, payers: Payers
) -> Output:
    requests = featured.requests
    scored = map(
        Scored,
        requests.each("transaction_id"),
        payers.users,
        payers.devices,
        featured.times,
        featured.amounts,
        requests.each("currency"),
        scores.score.tolist(),
        _DECISIONS[scores.decision].tolist(),
        scorer.rule_ids(scores),
        scorer.shadow_rule_ids(scores),
        repeat(scorer.rules.version),
        *_thoughts(featured, panel),
    )
    return Output(
        topic="scores",
        causes=requests.decoded.records.offsets[requests.rows],
        keys=list(map(str.encode, payers.users)),
        values=list(map(_encode, scored)),
        partition=requests.decoded.records.partition,
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


def _alerts(records: Records, rows: NDArray[np.int64], alerts: Sequence[PublishedAlert]) -> Output:
    return Output(
        topic="alerts",
        causes=records.offsets[rows],
        keys=[alert.user_id.encode() for alert in alerts],
        values=list(map(_encode, alerts)),
        partition=records.partition,
    )


def _told(records: Records, floods: Sequence[tuple[int, Flood]]) -> Output:
    """Floods, with the rows of a batch that caused them."""
    ordered = sorted(floods, key=lambda each: each[0])
    rows = np.array([row for row, _ in ordered], np.int64)
    return Output(
        topic="floods",
        causes=records.offsets[rows],
        keys=[flood.rule.encode() for _, flood in ordered],
        values=[_encode(flood) for _, flood in ordered],
        partition=records.partition,
    )


def _alert(
    featured: Featured, scorer: Scorer, scores: Scores, payers: Payers, i: int, place: Place
) -> PublishedAlert:
    request = featured.requests.payments[i]
    return PublishedAlert(
        alert_id=alert_id(request.transaction_id),
        transaction_id=request.transaction_id,
        user_id=request.user_id,
        device_id=request.device_id,
        event_timestamp=featured.times[i],
        arrived_at=request.arrived_at,
        total_amount=featured.amounts[i],
        currency=request.currency or "",
        score=scores.score.item(i),
        decision=DECISIONS[scores.decision.item(i)],
        severity=SEVERITIES[scores.severity.item(i)],
        reasons=scorer.reasons(scores, featured.columns, i, payers),
        rule_set=scorer.rules.version,
        group_id=place.group_id,
        group_alerts=place.number,
    )
