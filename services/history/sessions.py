"""Past sessions from the lake, each as its last revision has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from dataflows.detection.session_model import EndedSessions
from dataflows.eventtime.funnel import FUNNEL
from dataflows.runtime.config import Config
from services.history.errors import HistoryError
from services.warehouse.held_lake import hold_lake

_LAST = """
    SELECT session_id, epoch_us(started_at) AS started_us, epoch_us(ended_at) AS ended_us,
        event_count, list_position($funnel, funnel_stage) - 1 AS stage
    FROM (
        FROM read_parquet($files, union_by_name = true)
        QUALIFY row_number() OVER (
            PARTITION BY session_id
            ORDER BY revision DESC, _topic DESC, _partition DESC, _offset DESC
        ) = 1
    )
    WHERE superseded_by IS NULL
    ORDER BY started_us, session_id"""


@dataclass(frozen=True, slots=True)
class LastSessions:
    """n sessions in order of their first event, and their ids."""

    ids: NDArray[np.object_]
    sessions: EndedSessions


def last_sessions(config: Config) -> LastSessions:
    """Those that were merged into others are left out.

    Raises:
        HistoryError: the lake holds no sessions.
        LakeError: the lake cannot be read.
    """
    with TemporaryDirectory(dir=config.data_path) as held, duckdb.connect() as connection:
        hold_lake(config.lake_path, ("sessions",), Path(held))
        files = [str(file) for file in Path(held).rglob("*.parquet")]
        if not files:
            raise HistoryError(
                f"{config.lake_path}: holds no sessions yet: let `tidegate up` load some"
            )
        found: dict[str, NDArray[Any]] = connection.execute(
            _LAST, {"files": files, "funnel": list(FUNNEL)}
        ).fetchnumpy()
    return LastSessions(
        ids=np.asarray(found["session_id"], object),
        sessions=EndedSessions(
            started_us=_numbers(found["started_us"]),
            ended_us=_numbers(found["ended_us"]),
            events=_numbers(found["event_count"]),
            stages=_numbers(found["stage"]),
        ),
    )


def _numbers(column: NDArray[Any]) -> NDArray[np.int64]:
    return np.asarray(column, np.int64)
