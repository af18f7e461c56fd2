"""A contract: what one source may send, and everything that follows from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from dataflows.contracts.arrow import arrow_schema
from dataflows.contracts.avro import avro_schema
from dataflows.contracts.bigquery import bigquery_schema
from dataflows.contracts.checks import checks_of
from dataflows.contracts.declaration import Handling, Sum, Warehouse
from dataflows.contracts.decoding import BatchDecoder, Decoded
from dataflows.contracts.enrichment import ENRICHMENT
from dataflows.contracts.errors import ContractError
from dataflows.contracts.examination import EventExaminer
from dataflows.contracts.shapes import Object
from dataflows.contracts.structs import generate_selection
from dataflows.decodable import LOOKING_OVER

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Contract:
    """One source's contract, as `load_contracts` builds it.

    The attributes up to `warehouse` are those of contract.yaml (see `Declaration`). `Event` is the
    Struct of the contract's fields; `Enriched` adds what ingest adds (see `ENRICHMENT`). A field
    absent from an event is `msgspec.UNSET`, and stays absent when the event is encoded again.
    """

    source: str
    version: str
    description: str
    owner: str
    topic: str
    partitions: int
    key: str
    user: str | None
    require_user: bool
    event_time: str
    dedup_key: str
    reference: bool
    retention_days: int
    compatibility: str
    pii: dict[str, Handling]
    sums: tuple[Sum, ...]
    warehouse: Warehouse
    json_schema: dict[str, Any]
    shape: Object
    Event: type[msgspec.Struct]
    Enriched: type[msgspec.Struct]
    raw_decoder: BatchDecoder

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a batch of raw records into instances of `Enriched`; never raises.

        No record can set one of ENRICHMENT: such a field is unknown, and goes to the extras.
        """
        return self.raw_decoder.decode(values)

    def event_decoder(self, fields: Iterable[str] | None = None) -> BatchDecoder:
        """A decoder for records of the source's events topic (plain ones are fine, too).

        Without `fields` it decodes into `Enriched`; else into a Struct of just those top-level
        fields and the event time, which is faster. Unknown fields are skipped. Build it once.
        Raises ContractError for a field that is neither the contract's nor one of ENRICHMENT.
        """
        struct, shape, unbounded = self.Enriched, self.shape, 2**62
        if fields is not None:
            names = list(dict.fromkeys([*fields, self.event_time]))
            for name in names:
                if name not in shape.fields and name not in ENRICHMENT:
                    raise ContractError(f"{self.source}/{self.version} has no field {name!r}")
            struct = generate_selection(f"{self.source}_selection", shape, names)
            shape = Object({name: shape.fields[name] for name in names if name in shape.fields})
        checks = checks_of(shape, self.event_time, ())
        with LOOKING_OVER:
            examiner = EventExaminer(struct, shape, unbounded)
            return BatchDecoder(struct, self.event_time, examiner, checks, unbounded)

    def avro_schema(self) -> dict[str, Any]:
        """The Avro schema of an enriched event, for Pub/Sub."""
        return avro_schema(self.source, self.shape, self.pii)

    def bigquery_schema(self) -> list[dict[str, Any]]:
        """The columns of an enriched event, as BigQuery's API writes them."""
        return bigquery_schema(self.shape, self.pii)

    def arrow_schema(self) -> "pa.Schema":
        """The Arrow schema of an enriched event; lineage columns are up to whoever stores it."""
        return arrow_schema(self.shape, self.pii)
