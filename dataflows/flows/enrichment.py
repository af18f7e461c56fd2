"""What is known about an event when it is taken in: device class, product, customer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
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
        at_us = times_us[rows].tolist()
        times = format_timestamps(times_us[rows])
        arrivals = format_timestamps(origin.arrival_us[rows])
        offsets = origin.offsets[rows].tolist()
        return [
            self._encode_one(
                events[row],
                at_us[i],
                times[i],
                lateness[i],
                arrivals[i],
                offsets[i],
                extras[row] if extras else None,
            )
            for i, row in enumerate(rows)
        ]

    def _encode_one(
        self,
        event: Any,
        at_us: int,
        time: str,
        lateness: str,
        arrived_at: str,
        raw_offset: int,
        extras: bytes | None,
    ) -> bytes:
        setattr(event, self._event_time, time)
        event.lateness = lateness
        event.arrived_at = arrived_at
        event.raw_offset = raw_offset
        if extras:
            event.extras = msgspec.Raw(extras)
        if self._has_device and (device := event.device) and (agent := device.user_agent):
            event.device_class = device_class(agent)
        if self._has_product and (product := event.product_id):
            event.product = self._reference.products.as_of(product, at_us) or UNSET
        if self._user and (user := getattr(event, self._user)):
            event.customer = self._reference.customers.as_of(user, at_us) or UNSET
        return _encode(event)
