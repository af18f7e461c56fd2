"""What is known about an event when it is taken in: device class, product, customer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.connectors.records import Records
from dataflows.contracts import Contract
from dataflows.contracts.timestamps import format_timestamps
from dataflows.flows.devices import device_class
from dataflows.flows.shop import Shop

_encode = msgspec.json.Encoder().encode


class Enricher:
    """Adds to each event what the reference data said at its event time."""

    def __init__(self, shop: Shop, contract: Contract):
        names = contract.Event.__struct_fields__
        self._reference = shop.reference
        self._event_time = contract.event_time
        self._has_device = "device" in names
        self._user = contract.user if contract.source != "customer_profiles" else None
        self._has_product = "product_id" in names and contract.source != "product_catalog"

    def encode(
        self,
        origin: Records,
        events: Sequence[msgspec.Struct | None],
        times_us: NDArray[np.int64],
        extras: Sequence[bytes | None] | None,
        rows: Sequence[int],
        lateness: Sequence[str],
    ) -> list[bytes]:
        """The events of `rows` as JSON: the fields of the contract, event time in canonical form,
        then the enrichment. `origin` holds the raw records the events came from."""
        self._reference.refresh()
        chosen: list[Any] = [events[row] for row in rows]
        at_us = times_us[rows]
        times = format_timestamps(at_us)
        arrivals = _formatted_once(origin.arrival_us[rows])
        name = self._event_time
        for event, time, late, arrived, offset in zip(
            chosen, times, lateness, arrivals, origin.offsets[rows].tolist(), strict=True
        ):
            setattr(event, name, time)
            event.lateness = late
            event.arrived_at = arrived
            event.raw_offset = offset
        if extras:
            for event, row in zip(chosen, rows, strict=True):
                if (unknown := extras[row]) is not None:
                    event.extras = msgspec.Raw(unknown)
        self._look_up(chosen, at_us.tolist())
        return [_encode(event) for event in chosen]

    def _look_up(self, events: list[Any], at_us: list[int]) -> None:
        if self._has_device:
            for event in events:
                if (device := event.device) and (agent := device.user_agent):
                    event.device_class = device_class(agent)
        if self._has_product:
            products = self._reference.products.as_of([e.product_id for e in events], at_us)
            for event, product in zip(events, products, strict=True):
                event.product = product
        if self._user:
            users = [getattr(event, self._user) for event in events]
            customers = self._reference.customers.as_of(users, at_us)
            for event, customer in zip(events, customers, strict=True):
                event.customer = customer


def _formatted_once(times_us: NDArray[np.int64]) -> list[str]:
    """Records that arrived together share their arrival time."""
    distinct, place = np.unique(times_us, return_inverse=True)
    texts = format_timestamps(distinct)
    return [texts[i] for i in place.tolist()]
