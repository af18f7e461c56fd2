"""Scoring: all rules over a batch at once, a score a payment, reasons where they are needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflows.detection.alerts import Reason
from dataflows.detection.decision import DECISIONS, SEVERITIES, Decision, DecisionPolicy
from dataflows.detection.rules import CompiledRule, RuleSet
from dataflows.features.columns import Columns

_DIGITS = 6  # so that weights of 0.5 and 0.4 make 0.7 exactly, and reach a threshold of 0.7


class Payers(NamedTuple):
    """Whose n payments they are, and their instants of event time in microseconds."""

    users: Sequence[str]
    times_us: NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """What the rules made of n payments: of R live rules, where they count, and of S rules that are
    in shadow, or live and do not count for everybody; each by id."""

    score: NDArray[np.float64]  # [n] 0..1
    decision: NDArray[np.int8]  # [n] index into DECISIONS
    severity: NDArray[np.int8]  # [n] index into SEVERITIES
    fired: NDArray[np.bool_]  # [R, n]
    shadow_fired: NDArray[np.bool_]  # [S, n]

    @property
    def alerts(self) -> NDArray[np.int64]:
        """The rows that are not simply allowed, ascending."""
        return np.flatnonzero(self.decision != DECISIONS.index(Decision.ALLOW))


class Scorer:
    """A rule set under a policy. The score is a noisy or: 1 - product of (1 - weight) of the live
    rules that fire, as if each were an independent cause for suspicion."""

    def __init__(self, rules: RuleSet, policy: DecisionPolicy) -> None:
        self.rules = rules
        self.policy = policy
        self._partial = [(r, rule) for r, rule in enumerate(rules.live) if rule.rule.is_partial]
        self._trial = (*rules.shadow, *(rule for _, rule in self._partial))
        self._needs = frozenset[str]().union(*(r.columns for r in (*rules.live, *rules.shadow)))

    def score(self, columns: Columns, of: Payers | None = None) -> Scores:
        """Score the n > 0 payments of the columns, in which every column a rule names must be.

        Without payers each live rule counts for all of them, rolled out or snoozed or not.
        """
        missing = self._needs - columns.keys()
        if missing:
            raise ValueError(f"columns missing that rules need: {', '.join(sorted(missing))}")
        n = len(next(iter(columns.values())))
        fired, trial = _fire(self.rules.live, columns, n), _fire(self.rules.shadow, columns, n)
        if self._partial:
            held_back = [_hold_back(rule, fired[r], of) for r, rule in self._partial]
            trial = np.concatenate([trial, np.array(held_back, np.bool_)])
        innocent = np.ones(n)
        for compiled, rows in zip(self.rules.live, fired, strict=True):
            np.multiply(innocent, 1 - compiled.rule.weight, out=innocent, where=rows)
        score = np.round(1 - innocent, _DIGITS)
        severity = self.policy.grade(score)
        for compiled, rows in zip(self.rules.live, fired, strict=True):
            if compiled.rule.severity is not None:
                least = SEVERITIES.index(compiled.rule.severity)
                np.maximum(severity, least, out=severity, where=rows)
        return Scores(
            score=score,
            decision=self.policy.decide(score),
            severity=severity,
            fired=fired,
            shadow_fired=trial,
        )

    def reasons(self, scores: Scores, columns: Columns, row: int) -> list[Reason]:
        """Why a payment has its score: the live rules that fired, the weightiest first."""
        firing = [self.rules.live[r] for r in np.flatnonzero(scores.fired[:, row]).tolist()]
        firing.sort(key=lambda compiled: -compiled.rule.weight)
        return [Reason(c.rule.id, c.rule.weight, c.sentence.render(columns, row)) for c in firing]

    def rule_ids(self, scores: Scores) -> list[Sequence[str]]:
        """Of each payment, the live rules that fired, by id, ascending."""
        return _ids_by_payment(self.rules.live, scores.fired)

    def shadow_rule_ids(self, scores: Scores) -> list[Sequence[str]]:
        """Of each payment, the rules that fired without effect, by id, ascending."""
        return _ids_by_payment(self._trial, scores.shadow_fired)


def _hold_back(
    compiled: CompiledRule, fired: NDArray[np.bool_], of: Payers | None
) -> NDArray[np.bool_]:
    """Takes from where a live rule fired those payments for which it does not count: [n]."""
    held = np.zeros_like(fired)
    if of is not None:
        rows = np.flatnonzero(fired)
        times = of.times_us[rows].tolist()
        for row, time_us in zip(rows.tolist(), times, strict=True):
            held[row] = not compiled.rule.counts_for(of.users[row], time_us)
        fired &= ~held
    return held


def _fire(rules: tuple[CompiledRule, ...], columns: Columns, n: int) -> NDArray[np.bool_]:
    fired = np.zeros((len(rules), n), dtype=np.bool_)
    for rows, compiled in zip(fired, rules, strict=True):
        rows[:] = compiled.predicate.holds(columns)
    return fired


def _ids_by_payment(
    rules: tuple[CompiledRule, ...], fired: NDArray[np.bool_]
) -> list[Sequence[str]]:
    ids: list[Sequence[str]] = [()] * fired.shape[1]
    suspicious = np.flatnonzero(fired.any(axis=0))  # few, as a rule
    for row, which in zip(suspicious.tolist(), fired[:, suspicious].T.tolist(), strict=True):
        ids[row] = sorted(c.rule.id for c, fires in zip(rules, which, strict=True) if fires)
    return ids
