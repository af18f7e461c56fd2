"""Declared features through both hops are those of `features build`, however they are computed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataflows.connectors.records import Output, Records
from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.predicates import compile_predicate
from dataflows.eventtime.snapshots import Buffer, SnapshotError
from dataflows.features.catalogue import CUSTOMER, DAY_US, HOUR_US
from dataflows.features.columns import Columns, Kind, as_rows, from_list, full
from dataflows.features.declared import NOTHING_DECLARED, DeclaredFeatures, parse_declared
from dataflows.features.spec import FeatureSpec
from dataflows.flows.features import CustomerHop, decode
from dataflows.flows.payments import (
    decode_requests,
    request_decoder,
    with_names,
)
from dataflows.flows.score import DeviceHop
from dataflows.runtime.config import EventTime
from services.features.build import compute_features
from services.features.events import EventTable

SPECS = {
    "customers.yaml": """\
time: event_timestamp
fields: {user_id: text, card_id: text, device_id: text, total_amount: number}
features:
  - {name: own_cards_2h, entity: user_id, aggregate: distinct, of: card_id, window: 2h}
  - {name: own_mean_5h, entity: user_id, aggregate: mean, of: total_amount, window: 5h}
  - {name: own_zscore, entity: user_id, aggregate: zscore, of: total_amount, window: 9h, delay: 1h}
""",
    "both.yaml": """\
time: event_timestamp
fields: {user_id: text, device_id: text, total_amount: number, customer_country: text,
  items_count: number, hour_of_day: number}
features:
  - {name: own_since, entity: user_id, aggregate: time_since, window: 6h}
  - {name: there_countries_6h, entity: device_id, aggregate: distinct, of: customer_country,
     window: 6h, filter: total_amount > 20}
  - {name: there_items_max, entity: device_id, aggregate: max, of: items_count, window: 3h}
  - {name: there_count, entity: device_id, aggregate: count, window: 4h, otherwise: 0}
  - {name: at_night, calendar: night}
""",
}
START_US = 1_780_000_000_000_000
EVENT_TIME = EventTime()
LATENESS_US = int(EVENT_TIME.lateness)
COUNTRIES = ("DE", "FR", "IT")


DECLARED = parse_declared(SPECS, compile_predicate)


def payments(count: int, seed: int) -> list[dict[str, Any]]:
    """In order of arrival: late by up to the lateness, and some of them by more than the bound."""
    rng = np.random.default_rng(seed)
    times_us = START_US + np.sort(rng.integers(0, DAY_US, count))
    late_us = rng.integers(0, LATENESS_US, count) * (rng.random(count) < 0.4)
    order = np.argsort(times_us + late_us, kind="stable")
    made = []
    for number, time_us in zip(order.tolist(), times_us[order].tolist(), strict=True):
        device = int(rng.integers(0, 4))
        made.append(
            {
                "transaction_id": f"t{number}",
                "user_id": f"u{rng.integers(0, 4)}",
                "event_timestamp": format_timestamps(np.array([time_us]))[0],
                "total_amount": f"{rng.integers(1, 10_000) / 100:.2f}",
                "items": [{}] * int(rng.integers(0, 5)),
                "payment": {"card_id": f"c{rng.integers(0, 3)}"} if rng.random() < 0.8 else {},
                "device": {"device_id": f"d{device}"} if device else {},
                "customer": {"address": {"country": COUNTRIES[int(rng.integers(0, 3))]}},
                "time_us": time_us,
            }
        )
    return made


def records(topic: str, values: Sequence[bytes | None], first: int = 0) -> Records:
    offsets = np.arange(first, first + len(values), dtype=np.int64)
    nothing = np.zeros(len(values), np.int64)
    return Records(topic, 0, offsets, nothing, [None] * len(values), list(values))


class Hops:
    """Both hops, one behind the other, each going on from some frames."""

    def __init__(
        self,
        customers: DeclaredFeatures,
        devices: DeclaredFeatures,
        frames: tuple[Iterable[Buffer], Iterable[Buffer]] = ((), ()),
    ) -> None:
        of_customers = customers.of_customers
        self.customers = CustomerHop(EVENT_TIME, 1, frames[0], declared=of_customers)
        self.devices = DeviceHop(EVENT_TIME, frames[1], declared=devices)

    def requests(self, paid: Sequence[dict[str, Any]]) -> list[bytes | None]:
        values = [msgspec.json.encode(payment) for payment in paid]
        output = self.customers.process(decode(records("events.transactions", values))).outputs[0]
        assert isinstance(output, Output)
        return output.values

    def process(self, paid: Sequence[dict[str, Any]]) -> Columns:
        passed = records("scoring.requests", self.requests(paid))
        return self.devices.process(decode_requests(passed)).columns

    def saved(self) -> tuple[Iterable[Buffer], Iterable[Buffer]]:
        return [self.customers.snapshot()], [self.devices.snapshot()]


class Journals:
    """The frames that each hop wrote, as few of them as have to be kept."""

    def __init__(self, hops: Hops) -> None:
        self.kept: tuple[list[bytes], list[bytes]] = ([], [])
        self._since: tuple[list[bytes], list[bytes]] = ([], [])
        self.write(hops, everything=True)

    def write(self, hops: Hops, everything: bool = False) -> None:
        of_hops = (hops.customers, hops.devices)
        for kept, since, hop in zip(self.kept, self._since, of_hops, strict=True):
            changes = hop.changes(everything)
            since.append(b"".join(changes.parts))
            kept.append(since[-1])
            if changes.complete:
                kept[:] = since
                since.clear()

    def go_on(self, customers: DeclaredFeatures, devices: DeclaredFeatures) -> Hops:
        """After a restart rounds begin anew."""
        for since in self._since:
            since.clear()
        return Hops(customers, devices, self.kept)


def built(specs: Sequence[FeatureSpec], paid: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """What `features build --order file` makes of the payments: [n, features of all specs]."""
    times_us = np.array([payment["time_us"] for payment in paid])
    texts = {
        "user_id": [payment["user_id"] for payment in paid],
        "card_id": [payment["payment"].get("card_id") for payment in paid],
        "device_id": [payment["device"].get("device_id") for payment in paid],
        "customer_country": [payment["customer"]["address"]["country"] for payment in paid],
    }
    fields = {name: from_list(Kind.TEXT, values) for name, values in texts.items()} | {
        "total_amount": full(np.array([float(payment["total_amount"]) for payment in paid])),
        "items_count": full(np.array([float(len(payment["items"])) for payment in paid])),
        "hour_of_day": full((times_us // HOUR_US % 24).astype(np.float64)),
    }
    never = np.full(len(paid), np.iinfo(np.int64).min)
    parts = []
    for spec in specs:
        mine = {name: fields[name] for name in spec.fields}
        events = EventTable("here", times_us, mine, None, None, never)
        made = compute_features(spec, events, int(EVENT_TIME.bound), LATENESS_US)
        parts.append(as_rows(made, spec.names))
    return np.concatenate(parts, axis=1)


def names(of: DeclaredFeatures) -> list[str]:
    return [name for spec in of.specs for name in spec.names]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_stream_makes_what_features_build_makes(data: st.DataObject) -> None:
    paid = payments(data.draw(st.integers(1, 150)), data.draw(st.integers(0, 2**20)))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(paid)), max_size=8)) | {0, len(paid)})
    hops, rows = Hops(DECLARED, DECLARED), []
    journals = Journals(hops)
    for first, last in pairwise(cuts):
        columns = hops.process(paid[first:last])
        rows.append(as_rows(columns, names(DECLARED)))
        journals.write(hops)
        match data.draw(st.sampled_from(("go on", "snapshot", "journal"))):
            case "snapshot":
                hops = Hops(DECLARED, DECLARED, hops.saved())
                journals = Journals(hops)
            case "journal":
                hops = journals.go_on(DECLARED, DECLARED)
    np.testing.assert_array_equal(np.concatenate(rows), built(DECLARED.specs, paid))


def test_many_frames_of_a_journal_add_up() -> None:
    paid = payments(600, seed=11)
    hops, rows, lengths = Hops(DECLARED, DECLARED), [], []
    journals = Journals(hops)
    for first in range(0, len(paid), 3):
        columns = hops.process(paid[first : first + 3])
        rows.append(as_rows(columns, names(DECLARED)))
        journals.write(hops)
        lengths.append(max(map(len, journals.kept)))
        if first % 7 == 0:
            hops = journals.go_on(DECLARED, DECLARED)
    np.testing.assert_array_equal(np.concatenate(rows), built(DECLARED.specs, paid))
    assert 3 < max(lengths[100:]) <= max(lengths[:100])  # what is kept does not grow


def test_a_spec_that_was_away_begins_empty() -> None:
    paid = payments(150, seed=13)
    hops = Hops(DECLARED, DECLARED)
    journals = Journals(hops)
    hops.process(paid[:50])
    journals.write(hops)
    without = journals.go_on(NOTHING_DECLARED, NOTHING_DECLARED)
    without.process(paid[50:100])
    journals.write(without)
    back = journals.go_on(DECLARED, DECLARED)
    journals.write(back)
    again = journals.go_on(DECLARED, DECLARED)  # frames of before its absence are still there
    fresh = Hops(DECLARED, DECLARED).process(paid[100:])
    for hops in (back, again):
        found = hops.process(paid[100:])
        np.testing.assert_array_equal(
            as_rows(found, names(DECLARED)), as_rows(fresh, names(DECLARED))
        )


def test_without_declared_features_nothing_is_another() -> None:
    paid = payments(60, seed=3)
    plain, hops = Hops(NOTHING_DECLARED, NOTHING_DECLARED), Hops(DECLARED, DECLARED)
    said, more = plain.requests(paid), hops.requests(paid)
    for value, declaring in zip(said, more, strict=True):
        request, carrying = (request_decoder.decode(each or b"") for each in (value, declaring))
        assert request.declared == {}
        assert carrying.declared.keys() == {spec.version for spec in DECLARED.of_customers}
        assert msgspec.structs.replace(carrying, declared={}) == request
    hop = CustomerHop(EVENT_TIME, 1, [])
    hop.process(decode(records("events.transactions", [msgspec.json.encode(paid[0])])))
    assert hop.snapshot()[:1] == b"\x92"  # as every earlier version wrote it


def test_a_request_of_another_spec_is_null_not_misread() -> None:
    changed = {n: text.replace("window: 5h", "window: 4h") for n, text in SPECS.items()}
    others = parse_declared(changed, compile_predicate)
    columns = Hops(others, DECLARED).process(payments(40, seed=5))
    ours = [name for spec in DECLARED.of_customers for name in spec.names]
    assert not any(columns[name].valid.any() for name in ours[:3])  # of the file that differs
    assert columns["own_since"].valid.any()
    assert columns["there_countries_6h"].valid.any()


@pytest.mark.parametrize("row", [b"", b"short", b"\x00" * 8 * 4])
def test_values_of_another_length_are_null(row: bytes) -> None:
    (first, second), paid = DECLARED.of_customers, payments(1, seed=1)
    (value,) = Hops(DECLARED, DECLARED).requests(paid)
    request = request_decoder.decode(value or b"")
    spoilt = msgspec.structs.replace(request, declared=request.declared | {first.version: row})
    passed = records("scoring.requests", [msgspec.json.encode(spoilt)])
    hop = DeviceHop(EVENT_TIME, [], declared=DECLARED)
    columns = hop.process(decode_requests(passed)).columns
    assert [columns[name].valid[0] for name in first.names] == [False] * 3
    assert second.names == ["own_since"]


def test_for_people_declared_values_are_numbers() -> None:
    (value,) = Hops(DECLARED, DECLARED).requests(payments(1, seed=1))
    (payment,) = with_names(value or b"")
    named = msgspec.json.decode(payment)
    assert list(named["features"]) == list(CUSTOMER.specs)
    (first, second) = DECLARED.of_customers
    assert named["declared"].keys() == {first.version, second.version}
    assert named["declared"][second.version] == [None]  # there was no payment before


def test_a_changed_spec_begins_empty_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    paid = payments(120, seed=7)
    hops = Hops(DECLARED, DECLARED)
    hops.process(paid[:80])
    changed = {n: text.replace("window: 6h,", "window: 7h,") for n, text in SPECS.items()}
    others = parse_declared(changed, compile_predicate)
    with caplog.at_level(logging.WARNING):
        again = Hops(others, others, hops.saved())
    (said,) = caplog.messages
    assert said.startswith("both.yaml: there_countries_6h, there_items_max, there_count, at_night")
    found = again.process(paid[80:])
    expected = Hops(DECLARED, DECLARED, hops.saved()).process(paid[80:])
    alone = Hops(others, others).process(paid[80:])
    for name in names(DECLARED):
        wanted = alone if name.startswith("there") else expected
        np.testing.assert_array_equal(as_rows(found, [name]), as_rows(wanted, [name]))
    assert (as_rows(alone, ["there_count"]) != as_rows(expected, ["there_count"])).any()


def test_what_is_declared_later_begins_empty_beside_what_there_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    paid = payments(120, seed=9)
    before = Hops(NOTHING_DECLARED, NOTHING_DECLARED)
    before.process(paid[:80])
    with caplog.at_level(logging.WARNING):
        later = Hops(DECLARED, DECLARED, before.saved())
    assert len(caplog.messages) == 3  # one for each spec that keeps something in a hop
    catalogue = list(CUSTOMER.specs)
    found, expected = later.process(paid[80:]), before.process(paid[80:])
    np.testing.assert_array_equal(as_rows(found, catalogue), as_rows(expected, catalogue))
    caplog.clear()
    Hops(NOTHING_DECLARED, NOTHING_DECLARED, later.saved())
    assert not caplog.messages


def test_a_damaged_state_of_declared_features_is_refused() -> None:
    hops = Hops(DECLARED, DECLARED)
    hops.process(payments(10, seed=1))
    whole = hops.customers.snapshot()
    with pytest.raises(SnapshotError, match="damaged"):
        CustomerHop(EVENT_TIME, 1, [whole[:-9]], declared=DECLARED.of_customers)
