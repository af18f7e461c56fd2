"""Metric files: what they say, and one line about each that cannot be used."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from command_line import CommandLine

from dataflows.contracts import Contract, load_contracts
from dataflows.detection.metrics import (
    MOST_SERIES,
    MetricError,
    event_fields,
    load_metrics,
    parse_metric,
)
from dataflows.runtime.config import load_config

GOOD = """\
id: orders
description: What goes through.
owner: payments
source: transactions
where: status = 'captured'
aggregate: sum
of: total_amount
window: 1h
segments: {by: payment_method, values: [card, paypal]}
"""


@pytest.fixture(scope="module")
def contracts() -> Mapping[str, Contract]:
    return load_contracts(Path(load_config().schemas))


def test_those_that_come_with_tidegate_can_be_used(contracts: Mapping[str, Contract]) -> None:
    metrics = load_metrics(Path(load_config().metrics), contracts)
    assert {"orders", "revenue", "clicks", "conversion"} <= {each.metric.id for each in metrics}
    assert len({each.version for each in metrics}) == len(metrics)


def test_what_a_metric_reads(contracts: Mapping[str, Contract]) -> None:
    metric = parse_metric(GOOD, "orders.yaml", contracts)
    assert {name: field.path for name, field in metric.reads.items()} == {
        "status": "status",
        "total_amount": "total_amount",
        "payment_method": "payment.method",
    }
    assert (metric.window_us, metric.series) == (3_600_000_000, 4)


def test_words_for_people_make_no_new_version(contracts: Mapping[str, Contract]) -> None:
    metric = parse_metric(GOOD, "orders.yaml", contracts)
    told = parse_metric(GOOD.replace("goes through", "is paid"), "orders.yaml", contracts)
    other = parse_metric(GOOD.replace("captured", "declined"), "orders.yaml", contracts)
    assert told.version == metric.version != other.version


def test_fields_of_items_cannot_be_read(contracts: Mapping[str, Contract]) -> None:
    fields = event_fields(contracts["transactions"])
    assert "payment_card_country" in fields
    assert not [name for name in fields if name.startswith("items")]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("id: orders", "id: Orders", "m.yaml:1: id: expected `str` matching regex"),
        ("owner: payments\n", "", "m.yaml: object missing required field `owner`"),
        ("window", "windows", "m.yaml:8: windows: there is no such field: there are id,"),
        ("sum", "total", "m.yaml:6: aggregate: 'total' is none of count, sum, mean, rate"),
        ("source: transactions", "source: sales", "m.yaml:4: source: there is no source 'sales'"),
        ("status =", "state =", "m.yaml:5: where: unknown column state: did you mean"),
        ("status = 'captured'", "status > 1", "m.yaml:5: where: status > 1: status is a text"),
        ("status = 'captured'", "1 = 1", "m.yaml:5: where: names no field"),
        ("of: total_amount\n", "", "m.yaml:6: aggregate: a sum needs `of`, the field it is of"),
        ("of: total_amount", "of: total", "m.yaml:7: of: unknown column total: did you mean"),
        ("of: total_amount", "of: status", "m.yaml:7: of: status is neither money nor an integer"),
        ("aggregate: sum", "aggregate: count", "m.yaml:7: of: a count is of events"),
        ("aggregate: sum", "aggregate: rate", "m.yaml:7: of: total_amount is a number, not a"),
        ("of: total", "per: status = 'x'\nof: total", "m.yaml:7: per: belongs to a rate alone"),
        ("window: 1h", "window: hourly", "m.yaml:8: window: 'hourly' is no duration"),
        ("window: 1h", "window: 7h", "m.yaml:8: window: 7h does not divide a day"),
        ("window: 1h", "window: 10s", "m.yaml:8: window: 10s does not divide a day"),
        ("window: 1h", "window: 7d", "m.yaml:8: window: 7d does not divide a day"),
        ("window: 1h", "window: 1h\nat_least: 0", "m.yaml:9: at_least: expected `int` >= 1"),
        ("window: 1h", "window: 1h\nat_least: 5", "m.yaml:9: at_least: a sum of few events is"),
        ("by: payment_method", "by: method", "m.yaml:9: segments.by: unknown column method"),
        ("by: payment_method", "by: total_amount", "m.yaml:9: segments.by: total_amount is a numb"),
        ("[card, paypal]", "[card, cash]", "segments.values[1]: payment_method is never 'cash'"),
        ("[card, paypal]", "[card, card]", "segments.values[1]: card is there twice"),
        ("[card, paypal]", "[]", "m.yaml:9: segments.values: expected `array` of length >= 1"),
        (
            "by: payment_method, values: [card, paypal]",
            "by: shipping_country, values: [DE, (other)]",
            "segments.values[1]: (other) is what all values not listed are called",
        ),
        ("where:", "where: [", "m.yaml:6: not YAML"),
        ("owner: payments", "owner: payments\nowner: me", "m.yaml:4: owner: given twice"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_by_line_and_field(
    old: str, new: str, said: str, contracts: Mapping[str, Contract]
) -> None:
    assert old in GOOD
    with pytest.raises(MetricError) as refused:
        parse_metric(GOOD.replace(old, new, 1), "m.yaml", contracts)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_is_refused_with_what_to_do(
    tmp_path: Path, contracts: Mapping[str, Contract]
) -> None:
    assert load_metrics(tmp_path, contracts) == ()
    with pytest.raises(MetricError, match="no metrics can be read here"):
        load_metrics(tmp_path / "nowhere", contracts)
    (tmp_path / "sales.yaml").write_text(GOOD)
    with pytest.raises(MetricError, match=r"sales\.yaml: id: orders belongs in orders\.yaml"):
        load_metrics(tmp_path, contracts)
    (tmp_path / "sales.yaml").write_bytes(b"\xff")
    with pytest.raises(MetricError, match=r"sales\.yaml: cannot be read"):
        load_metrics(tmp_path, contracts)
    (tmp_path / "sales.yaml").unlink()
    values = ", ".join(f"v{n}" for n in range(50))
    by_terminal = f"segments: {{by: terminal_id, values: [{values}]}}"
    many = GOOD.replace("segments: {by: payment_method, values: [card, paypal]}", by_terminal)
    for number in range(MOST_SERIES // 50):
        text = many.replace("id: orders", f"id: orders_{number}")
        (tmp_path / f"orders_{number}.yaml").write_text(text)
    with pytest.raises(MetricError, match="1,040 series; 1,000 at most"):
        load_metrics(tmp_path, contracts)


def test_shipped_metrics_that_do_not_fit_are_not_counted_and_named(
    tmp_path: Path,
    contracts: Mapping[str, Contract],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shop = tmp_path / "schemas"
    shutil.copytree(load_config().schemas, shop)
    shutil.rmtree(shop / "customer_support")
    monkeypatch.setenv("TIDEGATE_SCHEMAS", str(shop))
    tidegate = CommandLine(tmp_path, monkeypatch, capfd)
    listed = tidegate("metrics", "list")
    assert listed.code == 0
    assert "tickets" not in listed.out
    assert "7 metrics, " in listed.out
    assert "tidegate: not counted: " in listed.err
    assert "there is no source 'customer_support'" in listed.err
    assert "7 metrics, " in tidegate("doctor").out

    own = tmp_path / "metrics"
    shutil.copytree(load_config().metrics, own)
    monkeypatch.setenv("TIDEGATE_METRICS", str(own))
    refused = tidegate("metrics", "list")
    assert (refused.code, "no source 'customer_support'" in refused.err) == (78, True)
