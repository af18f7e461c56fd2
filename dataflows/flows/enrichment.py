"""What is known about an event when it is taken in: device class, product, customer."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.connectors.records import Records, taken
from dataflows.contracts import Contract
from dataflows.contracts.timestamps import format_timestamps
from dataflows.flows.devices import device_class
from dataflows.flows.reference import Versions

_encode = msgspec.json.Encoder().encode


class Reference(Protocol):
    """Versions of products and customers, wherever they come from."""

    products: Versions
    customers: Versions

    def refresh(self) -> None:
        """Takes in what has come since the last time."""


class Enricher:
    """Adds to each event what the reference data said at its event time."""

    def __init__(self, reference: Reference, contract: Contract):
        names = contract.Event.__struct_fields__
        self._reference = reference
        self._event_time = contract.event_time
        self._has_device = "device" in names
        self._user = contract.user if contract.source != "customer_profiles" else None
        self._has_product = "product_id" in names and contract.source != "product_catalog"

    def encode(
        self,
        origin: Records,
        events: list[msgspec.Struct | None],
        times_us: NDArray[np.int64],
        extras: Sequence[bytes | None] | None,
        rows: NDArray[np.int64],
        lateness: Sequence[str],
    ) -> list[bytes]:
        """The events of `rows` as JSON: the fields of the contract, event time in canonical form,
        then the enrichment. `origin` holds the raw records the events came from."""
        self._reference.refresh()
        chosen: list[Any] = taken(events, rows)
        at_us = times_us[rows]
        _set(chosen, self._event_time, format_timestamps(at_us))
        _set(chosen, "lateness", lateness)
        _set(chosen, "arrived_at", _formatted_once(origin.arrival_us[rows]))
        _set(chosen, "raw_offset", origin.offsets[rows].tolist())
        if extras:
            for event, row in zip(chosen, rows.tolist(), strict=True):
                if (unknown := extras[row]) is not None:
                    event.extras = msgspec.Raw(unknown)
        self._look_up(chosen, at_us.tolist())
        return list(map(_encode, chosen))

    def _look_up(self, events: list[Any], at_us: list[int]) -> None:
        if self._has_device:
            for event in events:
                if (device := event.device) and (agent := device.user_agent):
                    event.device_class = device_class(agent)
        if self._has_product:
            products = list(map(_PRODUCT, events))
            _set(events, "product", self._reference.products.as_of(products, at_us))
        if self._user:
            users = list(map(attrgetter(self._user), events))
            _set(events, "customer", self._reference.customers.as_of(users, at_us))


_PRODUCT = attrgetter("product_id")


def _set(events: list[Any], name: str, values: Sequence[Any]) -> None:
    """Sets an attribute of every event; faster than a loop that sets several."""
    deque(map(setattr, events, repeat(name), values), maxlen=0)


def _formatted_once(times_us: NDArray[np.int64]) -> list[str]:
    """Records that arrived together share their arrival time, and follow each other."""
    begins = np.flatnonzero(np.diff(times_us, prepend=times_us[:1] - 1))
    texts = np.array(format_timestamps(times_us[begins]), object)
    return np.repeat(texts, np.diff(begins, append=len(times_us))).tolist()
