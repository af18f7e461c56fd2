"""The one error output: the raw bytes as they came, and in the headers why and whence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflows.connectors.records import Headers, Output, Records
from dataflows.contracts.timestamps import format_timestamps

MAX_MESSAGE_CHARACTERS = 500


class Rejection(NamedTuple):
    """A record of a batch that cannot go on, and why, in words."""

    row: int
    reason: str
    message: str


def dead_letters(
    topic: str,
    records: Records,
    rejections: Sequence[Rejection],
    contract: str,
    partition: int | None = None,
    causes: NDArray[np.int64] | None = None,
) -> Output:
    """The rejected records, byte for byte, in row order.

    Args:
        topic: the dead-letter topic.
        records: the batch the rows refer to.
        rejections: at most one a row.
        contract: the contract and version that judged, such as clickstream/v1.
        partition: of the dead-letter topic; the input's when not given.
        causes: the input offset of each record of the batch, where that is not its own offset.
    """
    ordered = sorted(rejections)
    rows = np.array([rejection.row for rejection in ordered], np.int64)
    arrivals = format_timestamps(records.arrival_us[rows])
    return Output(
        topic=topic,
        causes=(records.offsets if causes is None else causes)[rows],
        keys=[records.keys[row] for row in rows],
        values=[records.values[row] for row in rows],
        headers=[
            _headers(records, rejection, arrival, contract)
            for rejection, arrival in zip(ordered, arrivals, strict=True)
        ],
        partition=records.partition if partition is None else partition,
    )


def _headers(records: Records, rejection: Rejection, arrival: str, contract: str) -> Headers:
    original = records.headers[rejection.row] if records.headers else ()
    about = {
        "dlq-reason": rejection.reason,
        "dlq-message": rejection.message[:MAX_MESSAGE_CHARACTERS],
        "dlq-topic": records.topic,
        "dlq-partition": str(records.partition),
        "dlq-offset": str(int(records.offsets[rejection.row])),
        "dlq-arrival": arrival,
        "dlq-contract": contract,
        "dlq-attempts": "1",
    }
    return (
        *original,
        *((name, text.encode("utf-8", "backslashreplace")) for name, text in about.items()),
    )
