"""Rows of cells on their way to being records; what CSV and server logs have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dataflows.contracts import Contract
from services.publisher.files import Fault
from services.publisher.identity import DerivedIds, with_ids
from services.publisher.parsed import Parsed
from services.publisher.plan import RowPlan

Locate = Callable[[int, int], tuple[int, int]]
"""(line, column) in the file of a row and a column, both counted from 0 within the batch."""


class TableWriter:
    """Makes records of one file's rows, with ids of their own when the file has none."""

    def __init__(self, contract: Contract, plan: RowPlan) -> None:
        self._plan = plan
        self._dedup_key = contract.dedup_key
        self._ids = DerivedIds(contract.source) if plan.derives_id else None

    def write(self, columns: Sequence[Sequence[str]], locate: Locate) -> Parsed:
        """n rows, as the table's columns of n cells each; no columns at all are no rows."""
        if not columns:
            return Parsed()
        encoded = self._plan.encode(columns)
        parsed = Parsed(encoded.keys, encoded.bodies, encoded.times_us)
        if encoded.faults:
            sound = [row for row in range(len(encoded.bodies)) if row not in encoded.faults]
            parsed.keys = [encoded.keys[row] for row in sound]
            parsed.values = [encoded.bodies[row] for row in sound]
            parsed.times_us = encoded.times_us[sound]
            for row, (column, reason) in sorted(encoded.faults.items()):
                parsed.faults.append(Fault(*locate(row, column), reason))
        if self._ids is not None:
            ids = self._ids.next_ids(parsed.values)
            parsed.values = with_ids(parsed.values, self._dedup_key, ids)
        return parsed
