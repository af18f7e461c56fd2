"""How right decisions were, week by week, by the labels that have come; and whether payments drift
away from those of the first week."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from dataflows.detection.profile import profile, shift
from dataflows.features.catalogue import DAY_US
from services.report.lake import Lake
from services.report.model import DriftDay, JudgedDay

WEEK_DAYS = 7
DRIFTING = ("score", "total_amount")

# Of the seven days up to each day on which a payment was made of which something is known.
_JUDGED = f"""
    WITH verdicts AS (
        SELECT transaction_id, arg_max(verdict, event_timestamp) = 'fraud' AS is_fraud
        FROM labels GROUP BY ALL
    ),
    judged AS (
        SELECT epoch_us(event_timestamp) // {DAY_US} AS day, decision <> 'allow' AS alerted,
            is_fraud
        FROM scores JOIN verdicts USING (transaction_id)
    )
    SELECT DISTINCT day,
        count(*) FILTER (alerted) OVER week, count(*) FILTER (is_fraud) OVER week,
        count(*) FILTER (alerted AND is_fraud) OVER week
    FROM judged
    WINDOW week AS (ORDER BY day RANGE BETWEEN {WEEK_DAYS - 1} PRECEDING AND CURRENT ROW)
    ORDER BY day"""

_SCORED = """
    SELECT epoch_us(event_timestamp) AS at_us, score, total_amount::DOUBLE AS total_amount
    FROM scores ORDER BY at_us"""


def judged_days(lake: Lake) -> list[JudgedDay]:
    """Days in order; a week holds the payments of the day and of the six before it."""
    return [JudgedDay(_instant(day), *counts) for day, *counts in lake.rows(_JUDGED)]


def drift_days(lake: Lake) -> list[DriftDay]:
    """The days behind the first week; how far the week up to each has moved from the first."""
    at_us, *columns = lake.columns(_SCORED)
    if not len(at_us):
        return []
    days = at_us // DAY_US
    first, last = int(days[0]), int(days[-1])
    values = dict(zip(DRIFTING, columns, strict=True))
    begun = slice(0, int(np.searchsorted(days, first + WEEK_DAYS)))
    then = {name: profile(each[begun]) for name, each in values.items()}
    found = []
    for day in range(first + WEEK_DAYS, last + 1):
        start, end = np.searchsorted(days, (day - WEEK_DAYS + 1, day + 1)).tolist()
        if start < end:
            moved = {name: shift(then[name], each[start:end]) for name, each in values.items()}
            found.append(DriftDay(_instant(day), {name: s.index for name, s in moved.items()}))
    return found


def _instant(day: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
