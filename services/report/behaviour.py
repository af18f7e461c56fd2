"""What users and devices did that shoppers do not, out of the lake, and what was hidden there."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC

from dataflows.contracts.timestamps import parse_timestamps
from dataflows.detection.incidents import QUIET_US
from services.report.lake import Lake
from services.report.model import BehaviourFacts, BehaviourKind, TopIncident
from services.simulator.truth import GroundTruth, MisuseCase

TOP_INCIDENTS = 10

_LAST = """
    (FROM (
        FROM incidents
        QUALIFY row_number() OVER (PARTITION BY incident_id ORDER BY revision DESC) = 1
    ) WHERE events > 0)
"""


def behaviour_facts(lake: Lake, truth: GroundTruth | None) -> BehaviourFacts:
    """Of the last revision of every incident that was not taken back."""
    kinds = lake.rows(
        f"""SELECT behaviour, count(*), count(DISTINCT coalesce(user_id, device_id)),
                arg_max(text, (events, incident_id))
            FROM {_LAST} GROUP BY behaviour ORDER BY count(*) DESC, behaviour"""
    )
    top = lake.rows(
        f"""SELECT make_timestamp(epoch_us(started_at)), behaviour, severity,
                coalesce(user_id, device_id), events, text
            FROM {_LAST}
            ORDER BY array_position(['low', 'medium', 'high', 'critical'], severity) DESC,
                events DESC, incident_id
            LIMIT {TOP_INCIDENTS}"""
    )
    hidden = _found(lake, truth.misuse) if truth else {}
    unnoticed = hidden.keys() - {kind for kind, *_ in kinds}
    return BehaviourFacts(
        kinds=[
            *(BehaviourKind(*kind, *hidden.get(kind[0], (None, None))) for kind in kinds),
            *(BehaviourKind(kind, 0, 0, "", *hidden[kind]) for kind in sorted(unnoticed)),
        ],
        top=[TopIncident(at.replace(tzinfo=UTC), *said) for at, *said in top],
    )


def _found(lake: Lake, cases: list[MisuseCase]) -> dict[str, tuple[int, int]]:
    """By kind how many cases were hidden, and how many of those are an incident."""
    spans = defaultdict(list)
    for behaviour, subject, start_us, end_us in lake.rows(
        f"""SELECT behaviour, coalesce(user_id, device_id), epoch_us(started_at), epoch_us(ended_at)
            FROM {_LAST}"""
    ):
        spans[behaviour, subject].append((start_us, end_us))
    counts: dict[str, tuple[int, int]] = {}
    for case in cases:
        first_us, last_us = parse_timestamps([case.first_at, case.last_at])[0].tolist()
        found = any(
            start_us <= last_us + QUIET_US and first_us <= end_us + QUIET_US
            for subject in (*case.user_ids, *case.device_ids)
            for start_us, end_us in spans[case.kind, subject]
        )
        hidden, noticed = counts.get(case.kind, (0, 0))
        counts[case.kind] = (hidden + 1, noticed + found)
    return dict(sorted(counts.items()))
