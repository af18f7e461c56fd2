"""Events later than the horizon, quarantined in a lake by the parts of the late flow itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
from warehouse_shop import CONTRACTS, Delivery, Document

from dataflows.connectors.lake import LakeWriter
from dataflows.connectors.records import Records
from dataflows.contracts.enrichment import ENRICHMENT
from dataflows.flows.enrichment import Enricher
from dataflows.flows.ingest import LATE_ARRIVAL, LATE_OFFSET, LATE_WATERMARK, decode
from dataflows.flows.late import LateBuffer, enrich
from dataflows.flows.load import tabulator
from dataflows.flows.reference import Versions, customer_versions, product_versions
from dataflows.flows.tables import DeadLetterTable
from dataflows.runtime.config import EventTime

HORIZON = timedelta(days=7)


class NoReference:
    """Nothing is known of products and customers."""

    products: Versions = product_versions()
    customers: Versions = customer_versions()

    def refresh(self) -> None:
        pass


def raw(document: Document) -> bytes:
    """What the source sent."""
    fields = {name: value for name, value in document.items() if name not in ENRICHMENT}
    return msgspec.json.encode(fields | document.get("extras", {}))


def quarantine(lake: Path, deliveries: Sequence[Delivery], partition: int = 0) -> None:
    """Has these come eight days behind the watermark, and puts them where the flows would.

    `raw_offset` of a document is its record's offset in the raw topic's partition.
    """
    for source in {delivery.table for delivery in deliveries}:
        some = [delivery for delivery in deliveries if delivery.table == source]
        some.sort(key=lambda delivery: int(delivery.document["raw_offset"]))
        put_letters(lake, source, [raw(d.document) for d in some], some, partition)


def put_letters(
    lake: Path,
    source: str,
    values: Sequence[bytes],
    deliveries: Sequence[Delivery],
    partition: int = 0,
) -> None:
    contract = CONTRACTS[source]
    arrivals = [int(d.arrived_at.timestamp() * 1_000_000) for d in deliveries]
    watermark = max(arrivals) + int((HORIZON + timedelta(days=30)).total_seconds() * 1_000_000)
    records = Records(
        f"late.{source}",
        partition,
        np.arange(len(values)),
        np.array(arrivals, np.int64),
        [None] * len(values),
        list(values),
        [
            (
                (LATE_WATERMARK, b"%d" % watermark),
                (LATE_OFFSET, b"%d" % delivery.document["raw_offset"]),
                (LATE_ARRIVAL, b"%d" % arrival),
            )
            for delivery, arrival in zip(deliveries, arrivals, strict=True)
        ],
    )
    buffered = LateBuffer(EventTime(), source, None).process(decode(contract, records))
    *_, letters = enrich(Enricher(NoReference(), contract), contract, buffered).outputs
    assert len(letters.values) == len(values)
    writer = LakeWriter(lake, "dead_letters", "dlq.late.0")
    start = writer.next_offset or 0
    offsets = np.arange(start, start + len(values))
    made = tabulator(DeadLetterTable())(
        Records("dlq.late", 0, offsets, records.arrival_us, letters.keys, letters.values,
                letters.headers)
    )  # fmt: skip
    writer.write(made.table, made.dates, start, start + len(values))
