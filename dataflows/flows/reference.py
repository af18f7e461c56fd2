"""Catalogue and profiles as of an event's time, for enrichment.

A look-up sees the versions that have arrived by now; what it saw becomes a fact in the log. Only
stateless steps may look things up. No personal data leaves the profile: the fields are named here.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from dataflows.connectors.log import Log
from dataflows.contracts import Contract
from dataflows.contracts.timestamps import parse_timestamps
from dataflows.flows.topology import Topology
from dataflows.runtime.slot import Slot

if TYPE_CHECKING:
    from dataflows.flows.shop import Shop

logger = logging.getLogger(__name__)

READ_RECORDS = 10_000
FIRST_READ_S = 5.0


class ProductFacts(msgspec.Struct, omit_defaults=True, gc=False):
    """What an event about a product is told of it."""

    name: str | None = None
    category: str | None = None
    brand: str | None = None
    price: str | None = None


class Address(msgspec.Struct, omit_defaults=True, gc=False):
    country: str | None = None


class CustomerFacts(msgspec.Struct, omit_defaults=True, gc=False):
    """What an event of a customer is told of them; nothing that names the person."""

    segment: str | None = None
    address: Address | None = None


class _ProductVersion(ProductFacts, gc=False):
    product_id: str = ""
    event_timestamp: str = ""


class _CustomerVersion(CustomerFacts, gc=False):
    user_id: str = ""
    event_timestamp: str = ""


_decode_product = msgspec.json.Decoder(_ProductVersion).decode
_decode_customer = msgspec.json.Decoder(_CustomerVersion).decode


class Versions:
    """All versions of each key, by event time.

    Args:
        key: the field that tells what a version is of.
        decode: a version from JSON, with `key`, `event_timestamp` and the fields of `facts`.
        facts: what a look-up answers, as JSON.
    """

    def __init__(self, key: str, decode: Callable[[bytes], Any], facts: type):
        self._key, self._decode, self._facts = key, decode, facts
        self._versions: dict[str, tuple[list[int], list[msgspec.Raw]]] = {}

    def add(self, documents: Iterable[bytes]) -> None:
        """Takes in more versions; of two with one event time the later added one holds."""
        versions = [self._decode(document) for document in documents]
        times, _ = parse_timestamps([v.event_timestamp for v in versions])
        names = self._facts.__struct_fields__  # type: ignore[attr-defined]
        for version, time_us in zip(versions, times.tolist(), strict=True):
            facts = self._facts(**{name: getattr(version, name) for name in names})
            at, payloads = self._versions.setdefault(getattr(version, self._key), ([], []))
            place = bisect_right(at, time_us)
            at.insert(place, time_us)
            payloads.insert(place, msgspec.Raw(msgspec.json.encode(facts)))

    def as_of(
        self, keys: Sequence[str | UnsetType | None], times_us: Sequence[int]
    ) -> list[msgspec.Raw | UnsetType]:
        """For each key the version that held at the time; UNSET without a key or a version."""
        known = map(self._versions.get, keys)  # type: ignore[arg-type]
        return [
            found[1][place - 1] if found and (place := bisect_right(found[0], time_us)) else UNSET
            for found, time_us in zip(known, times_us, strict=True)
        ]


def product_versions() -> Versions:
    return Versions("product_id", _decode_product, ProductFacts)


def customer_versions() -> Versions:
    return Versions("user_id", _decode_customer, CustomerFacts)


class _Topic:
    """A topic whose records are versions."""

    def __init__(self, log: Log, topic: str, partitions: int, versions: Versions):
        ends = [log.offsets(topic, partition) for partition in range(partitions)]
        self._readers = [log.reader(topic, p, low) for p, (low, _) in enumerate(ends)]
        self._ends = [high for _, high in ends]
        self._versions = versions
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Takes in what has arrived since the last time."""
        with self._lock:
            for place, reader in enumerate(self._readers):
                # What was there at the start is waited for; what comes later is seen as it comes.
                give_up = time.monotonic() + FIRST_READ_S
                while len(records := reader.read(READ_RECORDS)) or (
                    reader.position < self._ends[place] and time.monotonic() < give_up
                ):
                    self._versions.add(value for value in records.values if value)
                    if not len(records):
                        time.sleep(0.001)
                self._ends[place] = 0


class ReferenceData:
    """The reference sources that enrichment knows, as the log has them."""

    def __init__(self, log: Log, topology: Topology):
        self.products, self.customers = product_versions(), customer_versions()
        followed = {
            "events.product_catalog": self.products,
            "events.customer_profiles": self.customers,
        }
        self._topics = [
            _Topic(log, topic, topology.topics.get(topic, 0), versions)
            for topic, versions in followed.items()
        ]

    def refresh(self) -> None:
        for topic in self._topics:
            topic.refresh()


def await_reference(shop: Shop, slot: Slot, contract: Contract) -> None:
    """Lets reference data that is already in the log be taken in before events that refer to it.

    Waits at most `slots.reference_wait`, so that a source that is stuck does not stop the others;
    events then carry what is known.
    """
    if contract.reference or slot.stop_at_end:
        return
    give_up = time.monotonic() + shop.config.slots.reference_wait.seconds
    while (behind := reference_behind(shop)) and not slot.stop.wait(0.05):
        if time.monotonic() > give_up:
            logger.warning(
                "slot %s starts although %s is not yet taken in", slot.name, ", ".join(behind)
            )
            return


def reference_behind(shop: Shop) -> list[str]:
    """Reference partitions that ingest has not finished."""
    markers = shop.log.markers()
    behind = []
    for contract in shop.contracts.values():
        for partition in range(shop.topology.topics[contract.topic] if contract.reference else 0):
            marker = markers.get(f"ingest.{contract.topic}.{partition}")
            _, high = shop.log.offsets(contract.topic, partition)
            if high and (marker is None or marker.next_offset < high):
                behind.append(f"{contract.topic}/{partition}")
    return behind
