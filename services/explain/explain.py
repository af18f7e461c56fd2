"""A decision taken apart: rules, values, what each rule changes, and the same decision again.

What the stream said is in the lake; features come from the history, computed by the kernel of the
stream. Rules and model are those of the decision, where they are to be had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb
import msgspec
import numpy as np

from dataflows.contracts.timestamps import format_timestamps
from dataflows.detection.alerts import Reason
from dataflows.detection.decision import DECISIONS, SEVERITIES, Decision, DecisionPolicy, Severity
from dataflows.detection.payment_model import PaymentModel, readable
from dataflows.detection.rules import RuleSet
from dataflows.detection.scoring import Payers, Scorer
from dataflows.detection.sentences import in_words
from dataflows.features.catalogue import DAY_US, MODEL_SCORE
from dataflows.features.columns import Columns, ColumnSpec, from_rows
from dataflows.runtime.config import Config
from services.explain.errors import NothingKnown
from services.explain.lake import lake_rows
from services.history.features import History


class Weighed(msgspec.Struct, frozen=True):
    """A rule that fires, and what would be without it."""

    reason: Reason
    score_without: float
    decision_without: Decision


class Value(msgspec.Struct, frozen=True):
    """A column as the rules read it; `read_by` are the rules that fire and read or show it."""

    name: str
    value: str | float | bool | None
    in_words: str
    meaning: str
    read_by: list[str]


class Decided(msgspec.Struct, frozen=True):
    """A decision, the rule set that made it, and the champion whose score it could read."""

    score: float
    decision: Decision
    rules: list[str]
    rule_set: str
    model_score: float | None
    model: str | None

    @property
    def by(self) -> str:
        """What has to be the same for the same decision."""
        return f"rule set {self.rule_set}" + (f", model {self.model}" if self.model else "")


class Explanation(msgspec.Struct, frozen=True):
    """`said` is what the stream published, `again` what comes out now."""

    alert_id: str | None
    transaction_id: str
    user_id: str
    device_id: str | None
    event_timestamp: str
    total_amount: float
    currency: str | None
    is_fraud: bool | None
    said: Decided
    again: Decided
    severity: Severity
    reasons: list[Weighed]
    values: list[Value]
    differences: list[str]  # between `said` and `again`, beside rule set and model
    alerts_near: int  # others of the customer within a day before or after

    @property
    def is_repeated(self) -> bool:
        return not self.differences

    @property
    def has_same_judges(self) -> bool:
        return self.said.by == self.again.by


def explain(
    config: Config,
    history: History,
    rule_set: Callable[[str], RuleSet],
    model: Callable[[str], PaymentModel | None],
    name: str,
) -> Explanation:
    """Explain an alert or a payment by its id. `rule_set` gives the rules of a version, or others
    where that version is not to be had; `model` likewise, or None. Raises NothingKnown, or
    LakeError."""
    alerts = lake_rows(config, "alerts", "alert_id = $1 OR transaction_id = $1", name)
    transaction = alerts[0]["transaction_id"] if alerts else name
    scores = lake_rows(config, "scores", "transaction_id = $1", transaction)
    payment = _payment(history, transaction)
    if not scores or payment is None:
        raise NothingKnown(
            f"{name}: no alert and no scored payment in {config.lake_path} has this id, and no "
            "incident: what is new gets there within some seconds; `tidegate peek alerts` shows "
            "the latest"
        )
    said = scores[-1]
    rules = rule_set(said["rule_set"])
    payment[MODEL_SCORE.name], version = _thought(history, model, said.get("model"), payment)
    catalogue = history.declared.catalogue
    columns = from_rows(catalogue, [payment])
    scorer = Scorer(rules, DecisionPolicy())
    payer = Payers([payment["user_id"]], [payment["device_id"]], np.array([payment["event_us"]]))
    scored = scorer.score(columns, payer)
    reasons = scorer.reasons(scored, columns, 0, payer)
    again = Decided(
        score=scored.score.item(0),
        decision=DECISIONS[scored.decision.item(0)],
        rules=list(scorer.rule_ids(scored)[0]),
        rule_set=rules.version,
        model_score=payment["model_score"],
        model=version,
    )
    was = Decided(
        score=said["score"],
        decision=Decision(said["decision"]),
        rules=said["rules"],
        rule_set=said["rule_set"],
        model_score=said.get("model_score"),  # lakes of earlier versions do not have it
        model=said.get("model"),
    )
    near = lake_rows(
        config, "alerts", "user_id = $1 AND abs(epoch_us(event_timestamp) - $2) <= $3",
        payment["user_id"], payment["event_us"], DAY_US,
    )  # fmt: skip
    return Explanation(
        alert_id=alerts[0]["alert_id"] if alerts else None,
        transaction_id=transaction,
        user_id=payment["user_id"],
        device_id=payment["device_id"],
        event_timestamp=format_timestamps(np.array([payment["event_us"]]))[0],
        total_amount=payment["total_amount"],
        currency=payment["currency"],
        is_fraud=_verdict(history, transaction),
        said=was,
        again=again,
        severity=SEVERITIES[scored.severity.item(0)],
        reasons=[_weighed(reason, rules, columns, payer) for reason in reasons],
        values=_values(catalogue, rules, again.rules, columns, payment),
        differences=_differences(was, again, alerts[0]["reasons"] if alerts else None, reasons),
        alerts_near=sum(alert["transaction_id"] != transaction for alert in near),
    )


def _thought(
    history: History,
    model: Callable[[str], PaymentModel | None],
    then: str | None,
    payment: Mapping[str, Any],
) -> tuple[float | None, str | None]:
    """What the champion of then thinks of the payment, and its version; or else the one of now."""
    if then is None:
        return None, None
    if then != history.model and (champion := model(then)) is not None:
        thought = champion.column(from_rows(readable(history.declared), [payment]))
        return thought.values.item(0), then
    return payment[MODEL_SCORE.name], history.model


def _payment(history: History, transaction: str) -> dict[str, Any] | None:
    query = "SELECT * FROM read_parquet(?) WHERE transaction_id = ?"
    with duckdb.connect() as connection:
        found = connection.execute(query, [str(history.payments), transaction]).to_arrow_table()
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows[0] if rows else None


def _verdict(history: History, transaction: str) -> bool | None:
    with duckdb.connect() as connection:
        connection.register("verdicts", history.verdicts)
        query = "SELECT is_fraud FROM verdicts WHERE transaction_id = ?"
        found = connection.execute(query, [transaction]).fetchone()
    return None if found is None else bool(found[0])


def _weighed(reason: Reason, rules: RuleSet, columns: Columns, payer: Payers) -> Weighed:
    others = RuleSet(
        tuple(c for c in rules.rules if c.rule.id != reason.rule),
        tuple(each for each in rules.lists if each.id != reason.rule),
    )
    scored = Scorer(others, DecisionPolicy()).score(columns, payer)
    return Weighed(reason, scored.score.item(0), DECISIONS[scored.decision.item(0)])


def _values(
    catalogue: Mapping[str, ColumnSpec],
    rules: RuleSet,
    fired: Sequence[str],
    columns: Columns,
    payment: Mapping[str, Any],
) -> list[Value]:
    """Every column that is not null, those that fired rules read first."""
    reads = {c.rule.id: c.columns for c in rules.live if c.rule.id in fired}
    values = [
        Value(
            name=name,
            value=payment[name],
            in_words=in_words(payment[name], spec),
            meaning=spec.description,
            read_by=[rule for rule, names in reads.items() if name in names],
        )
        for name, spec in catalogue.items()
        if columns[name].valid[0]
    ]
    return sorted(values, key=lambda value: not value.read_by)


def _differences(
    said: Decided, again: Decided, published: list[dict[str, Any]] | None, reasons: list[Reason]
) -> list[str]:
    found = [
        f"{name} {getattr(said, name)} then, {getattr(again, name)} now"
        for name in ("score", "decision", "rules", "model_score")
        if getattr(said, name) != getattr(again, name)
    ]
    now = [msgspec.structs.asdict(reason) for reason in reasons]
    if published is not None and published != now:
        found.append("the reasons")
    return found
