"""Declared features are the same on the stream, in history and from `features build`, and rules and
models read them.

Payments come shuffled within the lateness, and the flows are restarted between the parts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flow_bench import Bench
from payments_to_score import card_of

from dataflows.contracts.timestamps import format_timestamps, parse_timestamps
from dataflows.detection.models import ModelError, linear_model
from dataflows.detection.payment_model import NAME
from dataflows.detection.registry import Registry
from dataflows.detection.rules import RuleError, rule_texts
from dataflows.features.declared import DeclaredFeatures
from dataflows.features.spec import SpecError
from dataflows.flows.payments import declared_of, request_decoder
from dataflows.runtime.config import HOUSE, load_config
from dataflows.runtime.recovery import reset_recovery
from services.backtest.backtest import backtest
from services.explain.explain import explain
from services.features.build import compute_features
from services.features.events import load_events
from services.history.features import History, open_history
from services.models.standing import put_in_force
from services.rules.apply import apply, find_rule_set
from services.training.examples import examples_of_past

SHIPPED = HOUSE / "features" / "payments"
CUSTOMERS = """\
time: event_timestamp
id: transaction_id
fields: {user_id: text, card_id: text, shipping_country: text, total_amount: number}
features:
  - {name: own_cards_2d, entity: user_id, aggregate: distinct, of: card_id, window: 2d}
  - {name: own_abroad_mean_3d, entity: user_id, aggregate: mean, of: total_amount, window: 3d,
     delay: 1h, filter: shipping_country <> 'DE'}
"""
RULE = """\
id: {id}
description: Reads what is declared.
owner: tests
state: {state}
when: {when}
weight: 0.6
reason: "{{device_countries_6h}} countries at the device"
examples: {{fires: [{{device_countries_6h: 9, own_cards_2d: 9}}], silent: [{{}}]}}
"""
WHEN = {
    "many_countries": "device_countries_6h >= 3",
    "two_countries": "device_countries_6h >= 2",
    "many_cards": "own_cards_2d >= 2",
}
FEATURES = ("device_countries_6h", "own_cards_2d", "own_abroad_mean_3d")
ONE_PARTITION = {"partitions__transactions": 1}
PARTS = 4
COUNTRIES = ("DE", "FR", "IT", "PL")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Specs, rules and a champion that read them."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(SHIPPED, home / "features")
    (home / "features" / "customers.yaml").write_text(CUSTOMERS)
    shutil.copytree(load_config().rules, home / "rules")
    for name, when in WHEN.items():
        state = "live" if name == "many_countries" else "shadow"
        (home / "rules" / f"{name}.yaml").write_text(RULE.format(id=name, when=when, state=state))
    keep_model(home / "models")
    return {name: str(home / name) for name in ("features", "rules", "models")}


def keep_model(models: Path) -> None:
    """A champion that reads declared features alone."""
    weights = np.array([0.31, 0.57, -0.0123])
    model = linear_model(FEATURES, weights, np.full(3, 0.5), -1.0)
    card = card_of(model, {})
    registry = Registry(models)
    registry.add(card, model.arrays())
    registry.promote(NAME, card.version, "2026-03-01T00:00:00+00:00", "promoted")


def shuffled(events: list[dict[str, Any]], within_us: int) -> list[bytes | None]:
    """Payments of customers from some countries, who come up to that much late."""
    rng = np.random.default_rng(5)
    times_us, _ = parse_timestamps([event["event_timestamp"] for event in events])
    arrivals_us = times_us + rng.integers(0, within_us, len(events))
    order = np.argsort(arrivals_us, kind="stable")
    stamps = format_timestamps(arrivals_us[order])
    made: list[bytes | None] = []
    for number, arrived_at in zip(order.tolist(), stamps, strict=True):
        event = events[number]
        country = COUNTRIES[crc32(event["user_id"].encode()) % len(COUNTRIES)]
        more = {"arrived_at": arrived_at, "customer": {"address": {"country": country}}}
        made.append(json.dumps(event | more).encode())
    return made


class Scored:
    """A shop with declared features whose payments went through the flows into the lake."""

    def __init__(self, directory: Path, folders: dict[str, str]):
        source = Bench(directory / "source")
        source.simulate(days=6, events=15_000)
        source.run("ingest", topic="raw.transactions")
        records = source.records("events.transactions")
        events = [json.loads(record.value) for record in records if record.value]
        source.log.close()
        self.bench = Bench(directory / "data", **{"partitions.transactions": 1}, **folders)
        values = shuffled(events, int(self.bench.shop.config.event_time.lateness))
        for part in np.array_split(np.arange(len(values)), PARTS):
            self.bench.publish("events.transactions", [values[n] for n in part.tolist()])
            self.bench.run("features", "score")
        for topic in ("events.transactions", "scores", "alerts"):
            self.bench.run("load", topic=topic)
        self.declared: DeclaredFeatures = self.bench.shop.declared
        self.history: History = open_history(self.bench.shop.config)
        self.past: pa.Table = pq.read_table(self.history.payments)
        self.scores = {
            score["transaction_id"]: score
            for record in self.bench.records("scores")
            if record.value
            for score in [json.loads(record.value)]
        }

    def of_history(self, name: str) -> dict[str, Any]:
        """A column of the past, by payment."""
        ids = self.past["transaction_id"].to_pylist()
        return dict(zip(ids, self.past[name].to_pylist(), strict=True))

    def fired(self, rule: str) -> set[str]:
        return {
            name
            for name, score in self.scores.items()
            if rule in score["rules"] + score["shadow_rules"]
        }

    def events(self, directory: Path) -> Path:
        """What payments say, as they arrived, in a file of their own."""
        file = directory / "payments.parquet"
        lake = str(self.bench.shop.config.lake_path / "transactions" / "**" / "*.parquet")
        query = """
            COPY (
                SELECT transaction_id, user_id, event_timestamp, payment.card_id AS card_id,
                    shipping_country, device.device_id AS device_id,
                    total_amount::DOUBLE AS total_amount,
                    json_extract_string(customer, '$.address.country') AS customer_country
                FROM read_parquet($lake, union_by_name = true)
                WHERE _topic = 'events.transactions' AND status IS DISTINCT FROM 'refunded'
                ORDER BY _offset
            ) TO $file (FORMAT parquet)"""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(query, {"lake": lake, "file": str(file)})
        return file


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, str]) -> Iterator[Scored]:
    made = Scored(tmp_path_factory.mktemp("scored"), folders)
    yield made
    made.bench.log.close()


def test_the_stream_carries_what_history_computes(scored: Scored) -> None:
    values = [record.value for record in scored.bench.records("scoring.requests") if record.value]
    requests = [request_decoder.decode(value) for value in values]
    names = [name for request in requests for name in request.transaction_id]
    makers = declared_of(requests, scored.declared.of_customers)
    assert makers.keys() == {"own_cards_2d", "own_abroad_mean_3d"}
    for name, make in makers.items():
        column = make()
        found = {
            name: value if valid else None
            for name, value, valid in zip(
                names, column.values.tolist(), column.valid.tolist(), strict=True
            )
        }
        assert found == scored.of_history(name)
        assert len(set(found.values())) > 1
    assert len(names) > 1_000


def test_rules_fire_on_the_stream_where_history_says(scored: Scored) -> None:
    assert scored.scores.keys() == scored.of_history("total_amount").keys()
    for rule, when in WHEN.items():
        name, least = when.split(" >= ")
        column = scored.of_history(name)
        assert scored.fired(rule) == {
            id for id, value in column.items() if (value or 0) >= int(least)
        }
        assert scored.fired(rule)


def test_a_model_gives_the_same_scores_from_them(scored: Scored) -> None:
    said = {name: score["model_score"] for name, score in scored.scores.items()}
    assert said == scored.of_history("model_score")
    assert len(set(said.values())) > 10


def test_features_build_makes_the_same(scored: Scored, tmp_path: Path) -> None:
    time, file = scored.bench.shop.config.event_time, str(scored.events(tmp_path))
    for spec in scored.declared.specs:
        events = load_events(file, spec, {})
        made = compute_features(spec, events, int(time.bound), int(time.lateness))
        assert events.ids is not None
        for name in spec.names:
            column = made[name]
            pairs = zip(column.values.tolist(), column.valid.tolist(), strict=True)
            values = [value if valid else None for value, valid in pairs]
            assert dict(zip(events.ids.to_pylist(), values, strict=True)) == scored.of_history(name)


def test_they_are_those_of_a_join(scored: Scored, tmp_path: Path) -> None:
    query = """
        WITH arrived AS (
            SELECT *, epoch_us(event_timestamp) AS us, row_number() OVER () AS place
            FROM read_parquet(?)
        )
        SELECT a.transaction_id, count(DISTINCT b.customer_country)
        FROM arrived a JOIN arrived b ON b.device_id = a.device_id AND b.place <= a.place
            AND b.us <= a.us AND b.us > a.us - 6 * 3600 * 1000000::BIGINT
        GROUP BY a.transaction_id"""
    found = dict(duckdb.execute(query, [str(scored.events(tmp_path))]).fetchall())
    column = scored.of_history("device_countries_6h")
    assert found == {name: value for name, value in column.items() if value is not None}


def test_a_backtest_hits_what_the_stream_did(scored: Scored) -> None:
    rules = scored.bench.shop.rules
    (rule,) = (each for each in rules.rules if each.rule.id == "two_countries")
    answer = backtest(scored.history, rule, rules.live)
    assert answer.hits.payments == len(scored.fired("two_countries"))
    assert answer.cases[0].reason.endswith(" countries at the device")


def test_a_decision_is_explained_and_comes_out_the_same(scored: Scored) -> None:
    name = min(scored.fired("many_countries"))
    shop = scored.bench.shop
    found = explain(shop.config, scored.history, lambda _: shop.rules, lambda _: None, name)
    assert found.is_repeated
    (value,) = (value for value in found.values if value.name == "device_countries_6h")
    assert value.value == scored.of_history("device_countries_6h")[name]
    assert value.read_by == ["many_countries"]
    assert value.meaning == "different countries of customers who paid at the device within 6 hours"


def test_a_model_may_learn_from_them(scored: Scored) -> None:
    examples = examples_of_past(scored.history, 0)
    assert set(FEATURES) <= set(examples.names)
    plain = load_config(None, {}, {"data_dir": str(scored.bench.shop.config.data_path)})
    assert open_history(plain).version != scored.history.version


def test_rules_and_models_in_the_log_read_them(
    scored: Scored, folders: dict[str, str], bench: Callable[..., Bench]
) -> None:
    made = bench(**ONE_PARTITION, **folders)
    applied = apply(made.shop, rule_texts(Path(folders["rules"])), "")
    registry = Registry(Path(folders["models"]))
    (version,) = registry.versions(NAME)
    put_in_force(made.shop, registry, version, (), "")
    values = [record.value for record in scored.bench.records("scoring.requests")]
    made.publish("scoring.requests", values)
    made.run("score")
    for record in made.records("scores"):
        again = json.loads(record.value or b"")
        assert again == scored.scores[again["transaction_id"]]
    assert applied.version == scored.bench.shop.rules.version
    catalogue = made.shop.declared.catalogue
    assert find_rule_set(made.log, applied.version, catalogue) is not None
    with pytest.raises(RuleError, match="unknown column own_cards_2d"):
        find_rule_set(made.log, applied.version)


def test_after_a_reset_windows_are_full_of_what_the_log_holds(
    scored: Scored, folders: dict[str, str], bench: Callable[..., Bench]
) -> None:
    values = [record.value for record in scored.bench.records("events.transactions")]
    half = len(values) // 2
    before = bench(**ONE_PARTITION)
    before.publish("events.transactions", values[:half])
    before.run("features", "score")
    published = before.records("scores")
    for flow in ("features", "score"):
        for slot in before.shop.slots(flow):
            reset_recovery(slot.directory)
    after = bench(**ONE_PARTITION, **folders)
    after.publish("events.transactions", values[half:])
    after.run("features", "score")
    everything = after.records("scores")
    assert everything[: len(published)] == published
    later = [json.loads(record.value or b"") for record in everything[len(published) :]]
    assert len(later) > 500
    for score in later:
        assert score == scored.scores[score["transaction_id"]]


def test_what_is_declared_no_longer_is_missed_at_start_by_name(
    folders: dict[str, str], bench: Callable[..., Bench]
) -> None:
    with pytest.raises(RuleError, match=r"many_c.*yaml:5: when: unknown column"):
        bench(rules=folders["rules"]).run("score")
    with pytest.raises(ModelError, match="the model needs device_countries_6h, own_cards_2d, own"):
        bench(models=folders["models"]).run("score")


@pytest.mark.parametrize("flow", ["features", "score"])
def test_a_spec_that_cannot_be_used_is_refused_at_start_by_name(
    flow: str, tmp_path: Path, bench: Callable[..., Bench]
) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "own.yaml").write_text(CUSTOMERS.replace("card_id", "cart_id"))
    with pytest.raises(SpecError, match=r"own.yaml:3: fields.cart_id: .* did you mean card_id\?"):
        bench(features=str(tmp_path / "specs")).run(flow)


def test_times_are_shuffled_within_the_lateness(scored: Scored) -> None:
    """Or else the others would prove less than they say."""
    times_us = scored.past["event_us"].to_numpy()
    behind_us = np.maximum.accumulate(times_us) - times_us
    assert (behind_us > 30 * 60_000_000).sum() > 100
