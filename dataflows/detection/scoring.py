"""Scoring: all rules over a batch at once, a score a payment, reasons where they are needed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataflows.detection.alerts import Reason
from dataflows.detection.decision import DECISIONS, SEVERITIES, Decision, DecisionPolicy
from dataflows.detection.rules import CompiledRule, RuleSet
from dataflows.features.columns import Columns

_DIGITS = 6  # so that weights of 0.5 and 0.4 make 0.7 exactly, and reach a threshold of 0.7


@dataclass(frozen=True)
class Scores:
    """What the rules made of n payments. R live rules and S shadow rules, each by id."""

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
        self._needs = frozenset[str]().union(*(r.columns for r in (*rules.live, *rules.shadow)))

    def score(self, columns: Columns) -> Scores:
        """Score the n > 0 payments of the columns, in which every column a rule names must be."""
        missing = self._needs - columns.keys()
        if missing:
            raise ValueError(f"columns missing that rules need: {', '.join(sorted(missing))}")
        n = len(next(iter(columns.values())))
        fired = _fire(self.rules.live, columns, n)
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
            shadow_fired=_fire(self.rules.shadow, columns, n),
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
        """Of each payment, the shadow rules that fired, by id, ascending."""
        return _ids_by_payment(self.rules.shadow, scores.shadow_fired)


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
        ids[row] = [compiled.rule.id for compiled, fires in zip(rules, which, strict=True) if fires]
    return ids
