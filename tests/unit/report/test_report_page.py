"""The page is complete in itself, valid, and shows strangers' strings as text."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from functools import cached_property
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import plotly.graph_objects as go
import pytest
import report_shop as shop

from services.report.facts import gather
from services.report.figures import plots
from services.report.model import DriftDay, Facts, JudgedDay, RuleFacts, RunFigures, Series
from services.report.page import ReportError, write_page


class Page(HTMLParser):
    """What a browser makes of the page: elements, attributes, text outside of scripts."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._texts: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._raw: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self._texts.append(" ")
        self.attributes += attrs
        self._raw = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._raw = None

    def handle_data(self, data: str) -> None:
        if self._raw == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        elif self._raw is None:
            self._texts.append(data)

    @cached_property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def figures(self) -> dict[str, Any]:
        return json.loads(next(text for attrs, text in self.scripts if attrs))


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return shop.facts(tmp_path / "lake")


def page_of(facts: Facts, folder: Path) -> Page:
    file = folder / "out" / "report.html"
    write_page(facts, file)
    return Page(file.read_text(encoding="utf-8"))


def test_needs_no_network(facts: Facts, tmp_path: Path) -> None:
    page = page_of(facts, tmp_path)
    assert not {"link", "img", "iframe", "object", "base"} & set(page.elements)
    links = [value for name, value in page.attributes if name in ("src", "href", "action")]
    assert all(value and value.startswith("#") for value in links)


def test_only_its_own_scripts_may_run(facts: Facts, tmp_path: Path) -> None:
    page = page_of(facts, tmp_path)
    (policy,) = (value for _, value in page.attributes if value and "default-src" in value)
    assert "default-src 'none'" in policy
    own = [text for attributes, text in page.scripts if not attributes]
    assert len(own) == 2
    digests = [b64encode(sha256(text.encode()).digest()).decode() for text in own]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests


def test_every_plot_is_valid_and_has_a_place(facts: Facts, tmp_path: Path) -> None:
    page = page_of(facts, tmp_path)
    assert len(page.figures) == 8
    for name, figure in page.figures.items():
        assert figure["data"], name
        go.Figure(figure["data"], figure["layout"])
        assert ("id", f"plot-{name}") in page.attributes
        for axis in ("xaxis", "yaxis"):
            assert figure["layout"][axis]["title"]["text"]


def test_says_the_same_as_the_facts(facts: Facts, tmp_path: Path) -> None:
    text = " ".join(page_of(facts, tmp_path).text.split())
    assert f"All {len(facts.checks)} checks hold" in text
    assert "12.4 times the usual amount" in text
    assert "999.99 EUR" in text
    assert "card burst 2 1 3 1" in text
    assert "21 ms" in text
    assert "3 windows of 2 series of the shop were judged" in text
    assert "0.87 clicks was 3, less than usual" in text


def test_what_each_day_came_to_is_drawn_where_gold_was_built(facts: Facts, tmp_path: Path) -> None:
    assert ("id", "plot-days") not in page_of(facts, tmp_path).attributes
    page = page_of(msgspec.structs.replace(facts, warehouse=shop.WAREHOUSE), tmp_path)
    assert ("id", "plot-days") in page.attributes
    assert "29 tables of a star schema" in " ".join(page.text.split())


def test_how_right_rules_were_is_told_where_they_were_judged(facts: Facts, tmp_path: Path) -> None:
    assert "How right the rules were" not in page_of(facts, tmp_path).text
    rules = [
        RuleFacts(
            rule="card_burst",
            state="live",
            hits=40,
            fraud=12,
            legitimate=4,
            alone=3,
            precision=precision,
            recall=None,
            example="<b>12 payments</b> in 10 minutes",
        )
        for precision in (0.75, None)
    ]
    page = page_of(msgspec.structs.replace(facts, rules=rules), tmp_path)
    text = " ".join(page.text.split())
    assert "card burst live 40 12 4 75 % 3 <b>12 payments</b> in 10 minutes" in text
    assert "card burst live 40 12 4 3 <b>12 payments</b> in 10 minutes" in text


def test_labels_and_drift_are_drawn_where_there_are_any(facts: Facts, tmp_path: Path) -> None:
    places = {("id", "plot-judged"), ("id", "plot-drift")}
    assert places.isdisjoint(page_of(facts, tmp_path).attributes)
    day = facts.traffic.at[0]
    known = msgspec.structs.replace(
        facts,
        judged=[JudgedDay(day, 4, 3, 2), JudgedDay(day, 0, 0, 0)],
        drift=[DriftDay(day, {"score": 0.01, "total_amount": 0.3})],
    )
    assert places <= set(page_of(known, tmp_path).attributes)
    drawn = plots(known)
    precision, recall = drawn["judged"].data
    assert (precision["y"], recall["y"]) == ([0.5, None], [2 / 3, None])
    assert precision["text"][0] == "2 of 4 alerts right, of 3 frauds"
    assert [trace["name"] for trace in drawn["drift"].data] == ["score", "total amount"]
    assert all(go.Figure(each.data, each.layout) for each in (drawn["judged"], drawn["drift"]))


def test_failing_checks_come_first_and_loud(tmp_path: Path) -> None:
    shop.write_lake(tmp_path / "lake")
    totals = shop.totals()
    totals[0].records_in += 1
    facts = gather(tmp_path / "lake", totals, shop.truth(), shop.LAG, shop.FIGURES)
    page = page_of(facts, tmp_path)
    assert "It does not add up: 1 of" in page.text
    assert ("class", "verdict bad") in page.attributes
    assert "It adds up" not in page.text


def test_empty_states(tmp_path: Path) -> None:
    figures = RunFigures(events=0, wall_seconds=0.0, events_per_second=0.0)
    page = page_of(gather(tmp_path / "none", [], None, [], figures), tmp_path)
    assert not any(
        name == "id" and (value or "").startswith("plot-") for name, value in page.attributes
    )
    for text in (
        "No events",
        "No session has closed",
        "No alerts",
        "No payment has been scored",
        "No event was late",
        "Ingest has read nothing",
        "every record obeyed its contract",
        "The lag was not sampled",
        "No flow has run",
    ):
        assert text in page.text


def test_strangers_strings_are_text(facts: Facts, tmp_path: Path, shared_data: Path) -> None:
    naughty = json.loads((shared_data / "naughty_strings.json").read_text(encoding="utf-8"))
    plain = sorted(set(page_of(facts, tmp_path).elements))
    strings = ["</script><script>alert(1)</script>", "<!--", "{{ 7 * 7 }}", "\0", *naughty]
    page = page_of(shop.with_strings(facts, strings), tmp_path)
    assert sorted(set(page.elements)) == plain
    assert len([1 for attributes, _ in page.scripts if not attributes]) == 2
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for string in strings:
        if len(string) <= 20 and string.isprintable():
            assert string in page.text
    hovers = [text for trace in page.figures["alerts"]["data"] for text in trace["hovertext"]]
    assert len(hovers) >= len(strings)
    assert not [text for text in hovers if re.search(r"<(?!/?b>|br>)", text)]


def test_a_rare_peak_does_not_flatten_the_rest(facts: Facts) -> None:
    start = facts.traffic.at[0]
    hours = [start.fromtimestamp(start.timestamp() + 3_600 * i, start.tzinfo) for i in range(400)]
    series = Series("hour", hours, {"clickstream": [100_000] + [50] * 399})
    layout = plots(msgspec.structs.replace(facts, traffic=series))["traffic"].layout
    assert layout["yaxis"]["range"] == [0, 60]
    assert [note["text"] for note in layout["annotations"]] == ["↑ 100,000"]


def test_the_traffic_comes_down_in_a_gap(facts: Facts) -> None:
    (clicks, _) = plots(facts)["traffic"].data
    points = [(at.day, at.hour, count) for at, count in zip(clicks["x"], clicks["y"], strict=True)]
    assert points[3:5] == [(1, 3, 0), (2, 1, 1)]
    assert points[-1] == (2, 3, 0)


def test_a_place_that_does_not_take_it(facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match="choose another place"):
        write_page(facts, tmp_path / "file" / "report.html")
