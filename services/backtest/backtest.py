"""A rule on past payments: hits, verdicts, money, what other rules see, what alerts would change.

Its SQL text chooses the payments, in DuckDB; scores, decisions and reasons come from the code of
the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataflows.detection.decision import DECISIONS, Decision, DecisionPolicy
from dataflows.detection.rules import CompiledRule, RuleSet, RuleState
from dataflows.detection.scoring import Scorer
from dataflows.features.catalogue import DAY_US
from services.history.errors import HistoryError
from services.history.features import History, column_of

DEFAULT_DAYS: Final = 30
_PAST = """
    WITH past AS (
        SELECT history.*, is_fraud FROM history LEFT JOIN verdicts USING (transaction_id)
        WHERE event_us >= $begin AND event_us < $end
    )"""
_TOTALS = """
    SELECT count(*), count(*) FILTER (is_fraud), count(*) FILTER (NOT is_fraud),
        coalesce(sum(total_amount) FILTER (is_fraud), 0) FROM past"""


class Verdicts(msgspec.Struct, frozen=True):
    """How many payments turned out to be what, and how much the frauds among them were about."""

    fraud: int
    legitimate: int
    unlabelled: int
    fraud_amount: float

    @property
    def payments(self) -> int:
        return self.fraud + self.legitimate + self.unlabelled


class Overlap(msgspec.Struct, frozen=True):
    """A live rule, and how many of the hits it fires on, too."""

    rule: str
    hits: int


class Alerts(msgspec.Struct, frozen=True):
    """Payments that are reviewed and blocked, a day."""

    reviewed: float
    blocked: float


class Case(msgspec.Struct, frozen=True):
    """A hit to read; `score` is that of all live rules and this one."""

    transaction_id: str
    user_id: str
    event_timestamp: str
    total_amount: float
    currency: str | None
    is_fraud: bool | None
    score: float
    reason: str


class Backtest(msgspec.Struct, frozen=True):
    """The answer. Amounts of different currencies are added as they are, as in features."""

    rule: str
    state: RuleState
    when: str
    first_day: str
    last_day: str
    days: int
    payments: Verdicts
    hits: Verdicts
    hit_amount: float
    alone: Verdicts  # hits on which no other live rule fires
    overlap: list[Overlap]
    alerts_without: Alerts
    alerts_with: Alerts
    precision: float | None  # of the hits that are labelled
    least_precision: float | None  # if none of the other hits is fraud
    recall: float | None
    recall_of_amount: float | None
    cases: list[Case]


def backtest(
    history: History,
    rule: CompiledRule,
    live: Sequence[CompiledRule],
    first: date | None = None,
    last: date | None = None,
    cases: int = 10,
) -> Backtest:
    """Run a rule over the payments of some days, both included, beside the rules that are live.

    By default the last 30 days that there are. `cases` hits are drawn to be read, frauds, others
    and those without a verdict in equal parts. Raises HistoryError if there is no payment.
    """
    others = [other for other in live if other.rule.id != rule.rule.id]
    with duckdb.connect() as connection:
        connection.read_parquet(str(history.payments)).create_view("history")
        connection.register("verdicts", history.verdicts)
        first, last = _days(connection, first, last)
        range_us = {"begin": _midnight_us(first), "end": _midnight_us(last + timedelta(days=1))}
        whole = connection.execute(_PAST + _TOTALS, range_us).fetchone()
        if whole is None or not whole[0]:
            raise HistoryError(f"there is no payment from {first} to {last}: name other days")
        conditions = " OR ".join(f"({r.predicate.sql('duckdb')})" for r in (rule, *others))
        query = f"{_PAST} SELECT * FROM past WHERE {conditions} ORDER BY event_us, transaction_id"
        rows = connection.execute(query, range_us).to_arrow_table()
        found = _Found(rows, history.declared.catalogue, rule, others)
    total, fraud, legitimate, fraud_amount = whole
    days, hits = (last - first).days + 1, found.verdicts(found.hit)
    return Backtest(
        rule=rule.rule.id,
        state=rule.rule.state,
        when=rule.predicate.text,
        first_day=str(first),
        last_day=str(last),
        days=days,
        payments=Verdicts(fraud, legitimate, total - fraud - legitimate, fraud_amount),
        hits=hits,
        hit_amount=float(found.amounts[found.hit].sum()),
        alone=found.verdicts(found.hit & ~found.others_fired.any(axis=0)),
        overlap=found.overlap(),
        alerts_without=_per_day(found.decided_without, days),
        alerts_with=_per_day(found.decided_with, days),
        precision=_ratio(hits.fraud, hits.fraud + hits.legitimate),
        least_precision=_ratio(hits.fraud, hits.payments),
        recall=_ratio(hits.fraud, fraud),
        recall_of_amount=_ratio(hits.fraud_amount, fraud_amount),
        cases=found.cases(cases),
    )


class _Found:
    """The payments on which the rule fires, or one of the others."""

    def __init__(
        self,
        rows: pa.Table,
        names: Iterable[str],
        rule: CompiledRule,
        others: Sequence[CompiledRule],
    ) -> None:
        self._rows, self._rule, self._others = rows, rule, others
        self._columns = {name: column_of(rows, name) for name in names}
        self.hit = self._fires(rule)
        fired = [self._fires(other) for other in others]
        self.others_fired = np.array(fired, np.bool_).reshape(len(others), len(rows))
        as_live = replace(rule, rule=msgspec.structs.replace(rule.rule, state=RuleState.LIVE))
        self._scores, self.decided_with = self._judged([as_live, *others])
        _, self.decided_without = self._judged(others)
        self.amounts = self._columns["total_amount"].values
        labelled = column_of(rows, "is_fraud")
        self._fraud = labelled.valid & labelled.values
        self._legitimate = labelled.valid & ~labelled.values

    def _fires(self, rule: CompiledRule) -> NDArray[np.bool_]:
        return rule.predicate.holds(self._columns) if len(self._rows) else np.zeros(0, np.bool_)

    def _judged(
        self, rules: Sequence[CompiledRule]
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Scores and decisions."""
        if not len(self._rows):
            return np.zeros(0), np.zeros(0, np.int8)
        scores = Scorer(RuleSet(tuple(rules)), DecisionPolicy()).score(self._columns)
        return scores.score, scores.decision

    def verdicts(self, chosen: NDArray[np.bool_]) -> Verdicts:
        fraud, legitimate = chosen & self._fraud, chosen & self._legitimate
        return Verdicts(
            fraud=int(fraud.sum()),
            legitimate=int(legitimate.sum()),
            unlabelled=int((chosen & ~fraud & ~legitimate).sum()),
            fraud_amount=float(self.amounts[fraud].sum()),
        )

    def overlap(self) -> list[Overlap]:
        """Most hits first; rules that share none are left out."""
        shared = (self.others_fired & self.hit).sum(axis=1).tolist()
        found = [Overlap(o.rule.id, n) for o, n in zip(self._others, shared, strict=True) if n]
        return sorted(found, key=lambda each: (-each.hits, each.rule))

    def cases(self, wanted: int) -> list[Case]:
        """Drawn without replacement, always the same ones, in order of time."""
        rng = np.random.default_rng(0)
        kinds = (self._fraud, self._legitimate, ~self._fraud & ~self._legitimate)
        piles = [rng.permutation(np.flatnonzero(self.hit & kind)).tolist() for kind in kinds]
        drawn: list[int] = []
        while len(drawn) < wanted and any(piles):
            drawn += [pile.pop() for pile in piles if pile]
        return [self._case(row) for row in sorted(drawn[:wanted])]

    def _case(self, row: int) -> Case:
        values = self._rows.slice(row, 1).to_pylist()[0]
        instant = datetime.fromtimestamp(values["event_us"] / 1e6, UTC)
        return Case(
            transaction_id=values["transaction_id"],
            user_id=values["user_id"],
            event_timestamp=instant.isoformat(timespec="seconds"),
            total_amount=values["total_amount"],
            currency=values["currency"],
            is_fraud=values["is_fraud"],
            score=self._scores.item(row),
            reason=self._rule.sentence.render(self._columns, row),
        )


def _days(
    connection: duckdb.DuckDBPyConnection, first: date | None, last: date | None
) -> tuple[date, date]:
    newest = connection.execute(f"SELECT max(event_us) // {DAY_US} FROM history").fetchone()
    assert newest is not None
    last = last or date(1970, 1, 1) + timedelta(days=int(newest[0]))
    first = first or last - timedelta(days=DEFAULT_DAYS - 1)
    if first > last:
        raise HistoryError(f"--from {first} is after --to {last}: exchange them")
    return first, last


def _midnight_us(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY_US


def _per_day(decisions: NDArray[np.int8], days: int) -> Alerts:
    counts = np.bincount(decisions, minlength=len(DECISIONS)) / days
    reviewed, blocked = (DECISIONS.index(d) for d in (Decision.REVIEW, Decision.BLOCK))
    return Alerts(float(counts[reviewed]), float(counts[blocked]))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
