"""The state of a slot under one key, snapshotted as bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import bytewax.operators as op
from bytewax.operators import KeyedStream, StatefulBatchLogic

from dataflows.runtime.handover import handed_over
from dataflows.runtime.slot import Slot

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class State(Protocol[In, Out]):
    """The state of one slot. A pure function of the records it has seen."""

    def process(self, batch: In) -> Out: ...

    def snapshot(self) -> bytes: ...


def keep_state(
    step_id: str,
    up: KeyedStream[In],
    slot: Slot,
    restore: Callable[[bytes | None], State[In, Out]],
) -> KeyedStream[Out]:
    """Runs each batch through the slot's state, which is snapshotted as bytes."""
    return op.stateful_batch(step_id, up, lambda resume: _Logic(slot, restore, resume))


class _Logic(StatefulBatchLogic[Any, Any, bytes]):
    def __init__(
        self,
        slot: Slot,
        restore: Callable[[bytes | None], State[Any, Any]],
        resume: bytes | None,
    ):
        self._slot, self._restore = slot, restore
        try:
            self._state = restore(resume)
        except Exception as error:
            slot.fail(error)

    def on_batch(self, values: list[Any]) -> tuple[list[Any], bool]:
        try:
            return [self._process(value) for value in values], self.RETAIN
        except Exception as error:
            self._slot.fail(error)

    def _process(self, value: Any) -> Any:
        """Every batch has its `records`; those of a state that is handed over come alone."""
        if value.records.headers is not None:
            state = handed_over(value.records, self._slot.flow, self._slot.log)
            if state is not None:
                self._state = self._restore(state)
        return self._state.process(value)

    def on_eof(self) -> tuple[list[Any], bool]:
        return [], self.RETAIN  # the end of a run is not the end of the data

    def snapshot(self) -> bytes:
        started = time.monotonic()
        try:
            blob = self._state.snapshot()
        except Exception as error:
            self._slot.fail(error)
        self._slot.stats.snapshotted(len(blob), time.monotonic() - started)
        return blob
