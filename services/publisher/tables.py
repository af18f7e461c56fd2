"""Rows of cells on their way to being records; what CSV and server logs have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dataflows.contracts import Contract
from services.publisher.files import Fault
from services.publisher.identity import DerivedIds, with_id
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

    def write(self, rows: Sequence[Sequence[str]], locate: Locate) -> Parsed:
        """n rows, each with all of the table's columns."""
        if not rows:
            return Parsed()
        encoded = self._plan.encode(list(zip(*rows, strict=True)))
        parsed = Parsed(encoded.keys, encoded.bodies, encoded.times_us)
        if encoded.faults:
            sound = [row for row, body in enumerate(encoded.bodies) if body is not None]
            parsed.keys = [encoded.keys[row] for row in sound]
            parsed.values = [encoded.bodies[row] for row in sound]
            parsed.times_us = encoded.times_us[sound]
            for row, (column, reason) in sorted(encoded.faults.items()):
                parsed.faults.append(Fault(*locate(row, column), reason))
        if self._ids is not None:
            bodies = [body for body in parsed.values if body is not None]
            ids = self._ids.next_ids(bodies)
            parsed.values = [
                with_id(body, self._dedup_key, each) for body, each in zip(bodies, ids, strict=True)
            ]
        return parsed
