"""Forty days that went through the flows into the lake."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from flow_bench import Bench

from dataflows.detection.rules import RuleSet, parse_rule
from services.backtest.backtest import Backtest, backtest
from services.history.features import History, open_history

DAYS = 40
EVENTS = 60_000
LOADED = (
    *("events.transactions", "buffered.transactions", "events.labels"),
    *("scores", "alerts"),
)


class Past:
    """The lake, its history, and what the stream published."""

    def __init__(self, directory: Path):
        self.bench = Bench(directory)
        self.bench.simulate(days=DAYS, events=EVENTS)
        self.bench.run("ingest", topic="raw.transactions")
        self.bench.run("ingest", topic="raw.labels")
        self.bench.run("features", "score")
        for topic in LOADED:
            self.bench.run("load", topic=topic)
        self.history: History = open_history(self.bench.shop.config)
        self.rules: RuleSet = self.bench.shop.rules
        self.scores: list[dict[str, Any]] = self._read("scores")
        self.alerts: list[dict[str, Any]] = self._read("alerts")
        self.is_fraud = {
            label["transaction_id"]: label["verdict"] == "fraud"
            for label in sorted(self._read("events.labels"), key=_instant)
        }

    def _read(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(r.value) for r in self.bench.records(topic) if r.value]

    def run(self, rule: str, **more: Any) -> Backtest:
        by_id = {compiled.rule.id: compiled for compiled in self.rules.rules}
        compiled = by_id.get(rule) or parse_rule(rule, "draft.yaml")
        return backtest(self.history, compiled, self.rules.live, **more)

    def verdicts(self, scores: list[dict[str, Any]]) -> tuple[int, int, int]:
        said = Counter(self.is_fraud.get(score["transaction_id"]) for score in scores)
        return said[True], said[False], said[None]


def _instant(label: dict[str, Any]) -> str:
    return str(label["event_timestamp"])
