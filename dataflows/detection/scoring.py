"""Scoring: all rules over a batch at once, a score a payment, reasons where they are needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflows.detection.alerts import Reason
from dataflows.detection.decision import DECISIONS, SEVERITIES, Decision, DecisionPolicy
from dataflows.detection.lists import Effect, EntityList, Of
from dataflows.detection.rules import CompiledRule, RuleSet
from dataflows.features.columns import Columns

_DIGITS = 6  # so that weights of 0.5 and 0.4 make 0.7 exactly, and reach a threshold of 0.7


class Payers(NamedTuple):
    """Whose n payments they are, from which devices, and their instants of event time in
    microseconds."""

    users: Sequence[str]
    devices: Sequence[str | None]
    times_us: NDArray[np.int64]

    def each(self, of: Of) -> Sequence[str | None]:
        return self.users if of is Of.USER else self.devices


@dataclass(frozen=True)
class Scores:
    """What the rules made of n payments: of R live rules, where they count, and of S rules that are
    in shadow, or live and do not count for everybody; each by id."""

    score: NDArray[np.float64]  # [n] 0..1
    decision: NDArray[np.int8]  # [n] index into DECISIONS
    severity: NDArray[np.int8]  # [n] index into SEVERITIES
    fired: NDArray[np.bool_]  # [R, n]
    shadow_fired: NDArray[np.bool_]  # [S, n]
    listed: NDArray[np.bool_]  # [L, n], of L lists by id

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

        Without payers each live rule counts for all of them, rolled out or snoozed or not, and
        nobody is on a list.
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
        listed = _find(self.rules.lists, of, n)
        denied = self._on_a_list(Effect.DENY, listed)
        score = np.round(1 - innocent, _DIGITS)
        score[denied] = 1.0
        severity = self.policy.grade(score)
        for compiled, rows in zip(self.rules.live, fired, strict=True):
            if compiled.rule.severity is not None:
                least = SEVERITIES.index(compiled.rule.severity)
                np.maximum(severity, least, out=severity, where=rows)
        decision = self.policy.decide(score)
        decision[denied] = DECISIONS.index(Decision.BLOCK)
        decision[self._on_a_list(Effect.ALLOW, listed) & ~denied] = DECISIONS.index(Decision.ALLOW)
        return Scores(
            score=score,
            decision=decision,
            severity=severity,
            fired=fired,
            shadow_fired=trial,
            listed=listed,
        )

    def _on_a_list(self, effect: Effect, listed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        lists = [n for n, each in enumerate(self.rules.lists) if each.effect is effect]
        return np.logical_or.reduce(listed[lists], axis=0)

    def denied(self, scores: Scores) -> NDArray[np.bool_]:
        """Which of the n payments a list denies, whatever rules say."""
        return self._on_a_list(Effect.DENY, scores.listed)

    def fired(self, scores: Scores, row: int) -> list[CompiledRule]:
        """The live rules that fired on a payment, by id."""
        return [self.rules.live[r] for r in np.flatnonzero(scores.fired[:, row]).tolist()]

    def reasons(
        self, scores: Scores, columns: Columns, row: int, of: Payers | None = None
    ) -> list[Reason]:
        """Why a payment has its score: lists that deny it, then the live rules that fired, the
        weightiest first."""
        lists = [self.rules.lists[n] for n in np.flatnonzero(scores.listed[:, row]).tolist()]
        denied = [
            Reason(each.id, 1.0, each.reason(of.each(each.of)[row]))
            for each in lists
            if of is not None and each.effect is Effect.DENY
        ]
        firing = sorted(self.fired(scores, row), key=lambda compiled: -compiled.rule.weight)
        rules = [Reason(c.rule.id, c.rule.weight, c.sentence.render(columns, row)) for c in firing]
        return denied + rules

    def rule_ids(self, scores: Scores) -> list[Sequence[str]]:
        """Of each payment, the live rules that fired and the lists that it is on, by id,
        ascending."""
        names = [*_names(self.rules.live), *(each.id for each in self.rules.lists)]
        return _ids_by_payment(names, np.concatenate([scores.fired, scores.listed]))

    def shadow_rule_ids(self, scores: Scores) -> list[Sequence[str]]:
        """Of each payment, the rules that fired without effect, by id, ascending."""
        return _ids_by_payment(_names(self._trial), scores.shadow_fired)


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


def _find(lists: Sequence[EntityList], of: Payers | None, n: int) -> NDArray[np.bool_]:
    listed = np.zeros((len(lists), n), np.bool_)
    if of is not None and lists:
        times = of.times_us.tolist()
        for rows, each in zip(listed, lists, strict=True):
            rows[:] = list(map(each.holds, of.each(each.of), times))
    return listed


def _names(rules: Sequence[CompiledRule]) -> list[str]:
    return [compiled.rule.id for compiled in rules]


def _ids_by_payment(names: Sequence[str], fired: NDArray[np.bool_]) -> list[Sequence[str]]:
    ids: list[Sequence[str]] = [()] * fired.shape[1]
    suspicious = np.flatnonzero(fired.any(axis=0))  # few, as a rule
    for row, which in zip(suspicious.tolist(), fired[:, suspicious].T.tolist(), strict=True):
        ids[row] = sorted(name for name, fires in zip(names, which, strict=True) if fires)
    return ids
