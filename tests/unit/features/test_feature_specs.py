"""A spec that cannot be used is refused by file, line and field, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataflows.detection.predicates import compile_predicate
from dataflows.features.spec import FeatureSpec, SpecError, load_spec, parse_spec
from dataflows.runtime.config import HOUSE

SHIPPED = sorted((HOUSE / "features").glob("*.yaml"))

GOOD = """\
time: at
label: {field: bad, delay: 7d}
fields:
  who: text
  amount: number
  lat: number
features:
"""


def parsed(features: str, head: str = GOOD) -> FeatureSpec:
    return parse_spec(head + features, "my.yaml", compile_predicate)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_specs_can_be_used(path: Path) -> None:
    assert load_spec(path, compile_predicate).description


def test_a_feature_of_several_windows_is_several() -> None:
    spec = parsed("  - {name: 'n_{window}_x', entity: who, aggregate: count, windows: [1d, 90m]}\n")
    assert spec.names == ["n_1d_x", "n_90m_x"]


def test_the_version_is_that_of_what_is_computed() -> None:
    one = parsed("  - {name: n, entity: who, aggregate: count, window: 1d}\n")
    same = parsed("  - {window: 1d, aggregate: count, entity: who, name: n}\n", "# hm\n" + GOOD)
    other = parsed("  - {name: n, entity: who, aggregate: count, window: 2d}\n")
    assert one.version == same.version != other.version


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("{name: n}", "my.yaml:8: features[0]: give exactly one of value, calendar and aggregate"),
        ("{name: N, value: amount}", "my.yaml:8: features[0].name: expected `str` matching"),
        (
            "{name: n, value: who}",
            "my.yaml:8: features[0].value: who is a text field, and a number",
        ),
        (
            "{name: n, value: amuont}",
            "my.yaml:8: features[0].value: there is no field 'amuont' (did you mean amount?): "
            "fields has who, amount, lat",
        ),
        ("{name: n, value: amount, of: lat}", "features[0].of: a value feature has no of: remove"),
        ("{name: at, value: amount}", "features[0].name: at is the time, id or label itself"),
        (
            "{name: n, calendar: easter}",
            "my.yaml:8: features[0].calendar: 'easter' is none of weekend, night",
        ),
        ("{name: n, aggregate: count, window: 1d}", "features[0]: say whose events it is of"),
        (
            "{name: n, entity: who, aggregate: count, windw: 1d}",
            "my.yaml:8: features[0].windw: there is no such field: there are name, description,",
        ),
        (
            "{name: n, entity: who, aggregate: count}",
            "my.yaml:8: features[0]: give either window, e.g. 7d, or windows, e.g. [1d, 7d]",
        ),
        (
            "{name: n, entity: who, aggregate: count, windows: [1d, 7d]}",
            "my.yaml:8: features[0].name: with several windows write {window} in it: n_{window}",
        ),
        (
            "{name: n, entity: who, aggregate: count, window: 1 day}",
            "features[0].window: '1 day' is no duration: write 10ms, 30s, 1h30m or 7d",
        ),
        ("{name: n, entity: who, aggregate: count, window: 0s}", "window: 0s is no time at all"),
        (
            "{name: n, entity: who, aggregate: count, window: 399d, delay: 7d}",
            "window: 399d and a delay of 7d reach back further than 400d: shorten the window",
        ),
        (
            "{name: n, entity: who, aggregate: sum, window: 1d}",
            "[0]: say what sum is of: of, a num",
        ),
        (
            "{name: n, entity: who, aggregate: count, of: amount, window: 1d}",
            "features[0].of: count is of the events themselves: remove it",
        ),
        ("{name: n, entity: amount, aggregate: count, window: 1d}", "entity: amount is a number"),
        (
            "{name: n, entity: who, aggregate: sum, of: amount, labelled: true, window: 1d}",
            "features[0].labelled: only count, time_since, time_since_first can be of labelled",
        ),
        (
            "{name: n, entity: who, aggregate: count, window: 1d, filter: amnt > 3}",
            "my.yaml:8: features[0].filter: ",
        ),
        (
            "{name: n, entity: who, aggregate: geo_velocity, latitude: lat, window: 1d}",
            "features[0]: geo_velocity needs longitude, a number field in degrees",
        ),
        (
            "{name: n, entity: who, aggregate: count, latitude: lat, window: 1d}",
            "features[0].latitude: only geo_velocity has it: remove it",
        ),
    ],
)
def test_a_feature_that_cannot_be_is_named(feature: str, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        parsed(f"  - {feature}\n")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_features_of_one_name_are_refused() -> None:
    one = "  - {name: n, value: amount}\n"
    with pytest.raises(SpecError, match=r"my.yaml:9: features\[1\].name: n is there twice"):
        parsed(one + one)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time: [", "my.yaml:1: not YAML: "),
        ("- a\n", "my.yaml: is not made of `field: value` lines"),
        ("time: at\ntime: at\n", "my.yaml:2: time: given twice, keep one"),
        ("time: at\n", "my.yaml: object missing required field `fields`"),
        ("time: at\nfields: {a: money}\nfeatures: [{name: n}]\n", "my.yaml:2: fields"),
        (
            "time: at\nlabel: {field: b}\nfields: {a: text}\nfeatures: [{name: n, calendar: hour}]",
            "my.yaml:2: label: say since when it is known",
        ),
        (
            "time: at\nlabel: {field: bad, delay: 1d}\nfields: {bad: number}\n"
            "features: [{name: n, value: bad}]\n",
            "my.yaml:3: fields.bad: is the label itself, which nobody knows when the event comes",
        ),
        (
            "time: at\nfields: {a: text}\n"
            "features: [{name: n, entity: a, aggregate: risk, window: 1d}]\n",
            "my.yaml:3: features[0]: it needs labels: add `label:",
        ),
    ],
)
def test_a_file_that_cannot_be_is_named(text: str, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_spec(text, "my.yaml", compile_predicate)
    assert message in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none.yaml: cannot be read: No such file"):
        load_spec(tmp_path / "none.yaml", compile_predicate)
