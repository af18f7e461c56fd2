"""Specs of payments: what the stream can compute is taken, anything else is refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dataflows.detection.predicates import compile_predicate
from dataflows.features.catalogue import CATALOGUE, OBSERVED
from dataflows.features.columns import Kind
from dataflows.features.declared import (
    FIELDS,
    NOTHING_DECLARED,
    DeclaredFeatures,
    load_declared,
    parse_declared,
)
from dataflows.features.declared_state import DeclaredState
from dataflows.features.rolling import Payments
from dataflows.features.spec import SpecError
from dataflows.runtime.config import HOUSE

SHIPPED = HOUSE / "features" / "payments"
SPEC = """\
time: event_timestamp
id: transaction_id
fields: {user_id: text, device_id: text, total_amount: number, shipping_country: text}
features:
  - {name: own_sum_2h, entity: user_id, aggregate: sum, of: total_amount, window: 2h}
  - {name: there_3h, entity: device_id, aggregate: distinct, of: shipping_country, window: 3h}
  - {name: weekend, calendar: weekend}
"""
CARDS = """\
time: event_timestamp
fields: {user_id: text, card_id: text}
features:
  - {name: own_cards_7d, entity: user_id, aggregate: distinct, of: card_id, window: 7d}
"""


def declared(*texts: str) -> DeclaredFeatures:
    named = {f"features/{n}.yaml": text for n, text in enumerate(texts)}
    return parse_declared(named, compile_predicate)


def test_each_hop_computes_its_part() -> None:
    made = declared(SPEC, CARDS)
    assert [spec.names for spec in made.of_customers] == [["own_sum_2h"], ["own_cards_7d"]]
    assert [spec.names for spec in made.of_devices] == [["there_3h", "weekend"]]
    assert list(made.columns) == ["own_sum_2h", "there_3h", "weekend", "own_cards_7d"]
    assert made.columns["weekend"].kind is Kind.BOOLEAN
    assert made.catalogue == CATALOGUE | made.columns


def test_nothing_declared_leaves_everything_as_it_is() -> None:
    assert NOTHING_DECLARED.catalogue == CATALOGUE
    assert not NOTHING_DECLARED.of_customers + NOTHING_DECLARED.of_devices


def versions(text: str) -> tuple[str, str]:
    made = declared(text)
    (customers,), (devices,) = made.of_customers, made.of_devices
    return customers.version, devices.version


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("window: 2h", "window: 3h", (True, False)),
        ("window: 3h", "window: 2h, filter: total_amount > 5", (False, True)),
        ("calendar: weekend", "calendar: night", (False, False)),  # keeps nothing
        ("window: 2h", "window: 2h, description: money", (False, False)),
        ("shipping_country: text", "shipping_country: text, currency: text", (False, False)),
    ],
)
def test_only_a_part_that_keeps_or_tells_something_else_has_another_version(
    old: str, new: str, changed: tuple[bool, bool]
) -> None:
    before, after = versions(SPEC), versions(SPEC.replace(old, new))
    assert (before[0] != after[0], before[1] != after[1]) == changed


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("time: event_timestamp", "time: paid_at", ":1: time: the time of a payment is event_time"),
        ("id: transaction_id", "id: number", ":2: id: the id of a payment is transaction_id, not"),
        (
            "id: trans",
            "label: {field: fraud, delay: 7d}\nid: trans",
            ":2: label: the stream brings",
        ),
        (
            "shipping_country",
            "shiping_country",
            ":3: fields.shiping_country: payments have no such field: did you mean shipping_",
        ),
        ("total_amount: number", "total_amount: number, mood: text", "fields.mood: payments have"),
        ("shipping_country: text", "shipping_country: number", "is a text of payments, not a"),
        (
            "entity: device_id",
            "entity: shipping_country",
            ":4: features: there_3h: payments do not meet by shipping_country: the entity must be",
        ),
        (
            "device_id: text",
            "device_id: text, card_id: text",
            ":3: fields.card_id: is known where payments meet by user_id alone",
        ),
        ("own_sum_2h", "customer_count_1h", "customer_count_1h: payments have a column of this"),
        ("own_sum_2h", "model_score", "model_score: payments have a column of this name"),
        ("own_sum_2h", "card_id", "card_id: payments have a column of this name: rename"),
        ("own_sum_2h", "is_fraud", "is_fraud: payments have a column of this name: rename"),
        ("own_sum_2h", "there_3h", "there_3h is there twice: rename one"),
    ],
)
def test_what_the_stream_cannot_compute_is_refused_by_name(old: str, new: str, says: str) -> None:
    changed = SPEC.replace(old, new, 1)
    if old == "shipping_country":
        changed = SPEC.replace(old, new)
    if old == "shipping_country: text":
        changed = re.sub(r"aggregate: distinct, of: shipping_country", "aggregate: count", changed)
    with pytest.raises(SpecError, match=re.escape(says)) as error:
        declared(changed)
    assert str(error.value).startswith("features/0.yaml")
    assert "\n" not in str(error.value)


def test_a_card_is_for_customers_alone_whatever_else_there_is() -> None:
    with pytest.raises(SpecError, match=r"fields.card_id: is known where payments meet by user_id"):
        declared(CARDS + "  - {name: weekend, calendar: weekend}\n")


def test_a_name_that_another_file_has_is_refused() -> None:
    with pytest.raises(SpecError, match=r"features/1.yaml: own_sum_2h: features/0.yaml declares"):
        declared(SPEC, SPEC)


def test_a_folder_is_read_or_refused_by_name(tmp_path: Path) -> None:
    def load(folder: Path) -> DeclaredFeatures:
        return load_declared(folder, compile_predicate)

    with pytest.raises(SpecError, match=r"nowhere: no specs can be read here"):
        load(tmp_path / "nowhere")
    with pytest.raises(SpecError, match="no specs here; add a file"):
        load(tmp_path)
    (tmp_path / "b.yaml").write_text(SPEC)
    (tmp_path / "a.yaml").write_text(CARDS)
    assert [Path(spec.source).name for spec in load(tmp_path).specs] == ["a.yaml", "b.yaml"]
    (tmp_path / "c.yml").write_text(SPEC)
    with pytest.raises(SpecError, match=r"c.yml: name it c.yaml"):
        load(tmp_path)


def test_what_is_shipped_can_be_declared() -> None:
    assert list(load_declared(SHIPPED, compile_predicate).columns) == ["device_countries_6h"]


def test_fields_are_what_payments_say_and_never_features() -> None:
    assert not FIELDS.keys() & {name for name in OBSERVED if name.startswith(("customer_n", "dev"))}


def paid(cents: list[int]) -> Payments:
    n = len(cents)
    times_us = np.arange(n, dtype=np.int64) * 1_000_000
    fields = dict.fromkeys(("user_id", "device_id", "shipping_country"), ["a"] * n)
    return Payments(fields, np.array(cents, np.int64), times_us, np.zeros(n + 1, np.int64))


def test_an_amount_beyond_a_billion_is_null_to_declared_features_alone() -> None:
    state = DeclaredState(declared(SPEC).of_customers, 0)
    column = state.process(paid([100, 10**14 - 1, 10**11, 10**11 + 1]))["own_sum_2h"]
    assert column.values.tolist() == [1.0, 1.0, 1_000_000_001.0, 1_000_000_001.0]


def test_a_batch_without_payments_lets_state_expire() -> None:
    state = DeclaredState(declared(SPEC).of_customers, 0)
    for number in range(50):
        one = paid([100] * 20)
        ids = [f"c{number}-{n}" for n in range(20)]
        state.process(Payments({**one.fields, "user_id": ids}, *_rest(one)))
    before = sum(map(len, state.snapshot().values()))
    for _ in range(100):
        state.process(Payments(paid([]).fields, *_rest(paid([]), 10**12)))
    assert sum(map(len, state.snapshot().values())) < before / 10


def _rest(payments: Payments, watermark_us: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return payments.amounts_cents, payments.times_us, payments.watermarks_us + watermark_us
