"""What a log shows beside the slots: transactions that hang, groups that strayed, settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from dataflows.errors import TidegateError
from dataflows.flows.shop import Shop
from services.status.slots import SlotStatus


class Hanging(msgspec.Struct, frozen=True):
    """A transaction that is open and does not move on; readers of what is committed wait there.

    `slot` is whose it is and `published_by` the process that published for it last, host/pid.
    """

    topic: str
    partition: int
    offset: int
    slot: str | None
    published_by: str | None
    ends_after_s: float

    def line(self) -> str:
        whose = f"slot {self.slot}" if self.slot else "somebody"
        last = f" (last published by {self.published_by})" if self.published_by else ""
        return (
            f"HANGS {self.topic}/{self.partition}: readers wait at offset {self.offset} for a "
            f"transaction of {whose}{last}; start the slot again to end it at once, else the "
            f"broker does {self.ends_after_s:.0f} s after its beginning"
        )


class Strayed(msgspec.Struct, frozen=True):
    """A slot whose group stands elsewhere than its marker: somebody moved it."""

    slot: str
    committed: int
    offset: int

    def line(self) -> str:
        return (
            f"group of slot {self.slot}: stands at offset {self.committed}, the slot at "
            f"{self.offset}; somebody moved it, which changes nothing but the lag that tools show"
        )


class BusFindings(msgspec.Struct, frozen=True):
    """All of it; `topics` are the steps of `tidegate topics plan`, None if they cannot be had."""

    hanging: list[Hanging]
    strayed: list[Strayed]
    topics: int | None

    def lines(self) -> Iterator[str]:
        yield from (hanging.line() for hanging in self.hanging)
        yield from (strayed.line() for strayed in self.strayed)
        if self.topics:
            yield f"topics differ in {self.topics} point(s); `tidegate topics plan` shows them"


def bus_findings(shop: Shop, statuses: Sequence[SlotStatus]) -> BusFindings:
    """Looks at the log once; takes a second longer where a transaction is open."""
    by_slot = {f"{s.flow}.{s.topic}.{s.partition}": s for s in statuses}
    hanging = []
    for held in shop.log.held_back():
        status = by_slot.get(held.slot or "")
        by = status.published_by if status else None
        hanging.append(
            Hanging(held.topic, held.partition, held.offset, held.slot, by, held.after_s)
        )
    committed = shop.log.committed(list(dict.fromkeys(s.flow for s in statuses)))
    markers = shop.log.markers()  # asked for later: slots may have gone on meanwhile
    strayed = [
        Strayed(slot, offset, by_slot[slot].offset)
        for slot, offset in committed.items()
        if slot in markers
        and slot in by_slot
        and not by_slot[slot].offset <= offset <= markers[slot].next_offset
    ]
    return BusFindings(hanging, strayed, _topic_steps(shop))


def _topic_steps(shop: Shop) -> int | None:
    wiring = shop.topology
    try:
        return len(shop.log.plan_topics(wiring.topics, wiring.keep_s, []))
    except TidegateError:  # who may not see settings may still see the rest
        return None
