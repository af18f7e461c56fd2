"""A backtest as a person reads it."""

from __future__ import annotations

from services.backtest.backtest import Backtest, Case, Verdicts

_WIDTH = 12


def told(answer: Backtest) -> list[str]:
    """Some ten lines, then the cases."""
    payments, hits = answer.payments, answer.hits
    lines = [
        f"{answer.rule} ({answer.state}): {answer.when}",
        f"{answer.first_day} to {answer.last_day}: {payments.payments:,} payments, of which "
        f"{_verdicts(payments)}",
        "",
    ]
    if not hits.payments:
        return [*lines, "it fires on none of them"]
    share = hits.payments / payments.payments
    lines += [
        _line(
            "hits",
            f"{hits.payments:,}, {hits.payments / answer.days:,.1f} a day, {share:.2%} of "
            f"payments; {answer.hit_amount:,.2f} in money",
        ),
        _line("verdicts", _verdicts(hits)),
        _line("precision", _precision(answer)),
        _line("recall", _recall(answer)),
        _line(
            "alone", f"{answer.alone.payments:,} that no live rule sees: {_verdicts(answer.alone)}"
        ),
        _line("overlap", ", ".join(f"{o.rule} {o.hits:,}" for o in answer.overlap) or "none"),
        _line("alerts", _alerts(answer)),
    ]
    if answer.cases:
        lines += ["", f"{len(answer.cases)} of the hits:"]
        lines += [f"  {_case(case)}" for case in answer.cases]
    return lines


def _line(name: str, text: str) -> str:
    return f"{name:{_WIDTH}}{text}"


def _verdicts(of: Verdicts) -> str:
    return f"{of.fraud:,} fraud, {of.legitimate:,} legitimate, {of.unlabelled:,} without a label"


def _precision(answer: Backtest) -> str:
    if answer.precision is None:
        return "unknown: none of the hits has a label yet"
    labelled, least = answer.precision, answer.least_precision
    return f"{labelled:.2f} of those labelled; {least:.2f} if no other is fraud"


def _recall(answer: Backtest) -> str:
    if answer.recall is None or answer.recall_of_amount is None:
        return "unknown: no fraud is known on these days"
    return f"{answer.recall:.2f} of frauds, {answer.recall_of_amount:.2f} of their money"


def _alerts(answer: Backtest) -> str:
    without, given = answer.alerts_without, answer.alerts_with
    return (
        f"a day {without.reviewed:,.1f} reviewed and {without.blocked:,.1f} blocked without it, "
        f"{given.reviewed:,.1f} and {given.blocked:,.1f} with it"
    )


def _case(case: Case) -> str:
    verdict = {True: "fraud", False: "legitimate", None: "no label"}[case.is_fraud]
    return (
        f"{verdict:10}  {case.event_timestamp[:16]}  {case.transaction_id}  {case.user_id}  "
        f"{case.total_amount:,.2f} {case.currency or ''}  {case.reason}"
    )
