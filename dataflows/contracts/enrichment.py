"""What ingest adds to an event, beside the fields of its contract."""

from typing import Any, NamedTuple

import msgspec


class EnrichedField(NamedTuple):
    """A field added by ingest: its Python type in a Struct, what it is in a store, its meaning."""

    python: Any
    stored_as: str
    description: str


ENRICHMENT: dict[str, EnrichedField] = {
    "device_class": EnrichedField(str, "text", "The kind of device, from the user agent"),
    "product": EnrichedField(dict[str, Any], "json", "The product as of the event's time"),
    "customer": EnrichedField(dict[str, Any], "json", "The customer as of the event's time"),
    "lateness": EnrichedField(str, "text", "How late the event was against the watermark"),
    "arrived_at": EnrichedField(str, "timestamp", "When the log received the record"),
    "raw_offset": EnrichedField(int, "integer", "The record's offset in its raw topic"),
    "extras": EnrichedField(
        msgspec.Raw, "json", "Fields the contract does not know, as they were sent"
    ),
}
