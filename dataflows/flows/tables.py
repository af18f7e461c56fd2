"""Records as rows of the lake's tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataflows.connectors.records import Records
from dataflows.contracts import Contract
from dataflows.contracts.timestamps import parse_timestamps
from dataflows.flows.columns import column
from dataflows.flows.dead_letters import Rejection
from dataflows.flows.pseudonyms import Pseudonyms

TIME = pa.timestamp("us", "UTC")
MONEY = pa.decimal128(18, 2)
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows in record order, the event date of each, and the records that gave none."""

    table: pa.Table
    dates: NDArray[np.datetime64]
    rejections: list[Rejection] = field(default_factory=list)


def _dates(times_us: NDArray[np.int64]) -> NDArray[np.datetime64]:
    return (times_us // _DAY_US).astype("datetime64[D]")


class EventTable:
    """A source's enriched events; personal data goes in as its contract says."""

    def __init__(self, contract: Contract, pii_key: bytes):
        self.name = contract.source
        self._decode = contract.event_decoder().decode
        self._schema = contract.arrow_schema()
        self._shapes = contract.shape.fields
        self._pseudonyms = Pseudonyms(contract.pii, pii_key)

    def rows(self, records: Records, data: NDArray[np.int64]) -> TableRows:
        decoded = self._decode([records.values[row] for row in data.tolist()])
        rejections = [
            Rejection(int(data[failure.row]), failure.reason, failure.message)
            for failure in decoded.failures
        ]
        good = [event is not None for event in decoded.events]
        events = [event for event in decoded.events if event is not None]
        columns = [self._column(name, events) for name in self._schema.names]
        table = pa.Table.from_arrays(columns, schema=self._schema)
        return TableRows(table, _dates(decoded.times_us[good]), rejections)

    def _column(self, name: str, events: list[msgspec.Struct]) -> pa.Array:
        values = [getattr(event, name) for event in events]
        kind = self._schema.field(name).type
        if name in self._shapes:
            return column(self._shapes[name].shape, values, kind, name, self._pseudonyms)
        return _addition(values, kind)


def _addition(values: list[Any], kind: pa.DataType) -> pa.Array:
    """A field added by ingest: JSON as text, times as instants, the rest as it is."""
    present = [None if value is msgspec.UNSET else value for value in values]
    if kind == TIME:
        times_us, _ = parse_timestamps([value or 0 for value in present])
        absent = np.array([value is None for value in present], np.bool_)
        return pa.array(times_us, mask=absent).cast(kind)
    if kind == pa.string():
        present = [
            value
            if value is None or isinstance(value, str)
            else msgspec.json.encode(value).decode()
            for value in present
        ]
    return pa.array(present, kind)


class DocumentTable:
    """Documents that Tidegate wrote itself, with the columns declared here."""

    def __init__(self, topic: str):
        self.name = topic.replace(".", "_")
        self._schema, self._date_field = DOCUMENTS[topic]
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode

    def rows(self, records: Records, data: NDArray[np.int64]) -> TableRows:
        documents, rejections = [], []
        for row in data.tolist():
            try:
                documents.append(self._decode(records.values[row] or b""))
            except msgspec.MsgspecError as error:
                rejections.append(Rejection(row, "not_json", str(error)))
        columns = [self._column(name, documents) for name in self._schema.names]
        dated = [_as_time(document[self._date_field]) for document in documents]
        table = pa.Table.from_arrays(columns, schema=self._schema)
        return TableRows(table, _dates(parse_timestamps(dated)[0]), rejections)

    def _column(self, name: str, documents: list[dict[str, Any]]) -> pa.Array:
        values = [document.get(name) for document in documents]
        kind = self._schema.field(name).type
        if kind == MONEY:
            return pa.array(values, pa.string()).cast(kind)
        return _addition(values, kind) if kind == TIME else pa.array(values, kind)


def _as_time(text: str) -> str:
    return text if "T" in text else f"{text}T00:00:00Z"


THOUGHT = pa.struct([("model", pa.string()), ("score", pa.float64())])
REASON = pa.struct([("rule", pa.string()), ("weight", pa.float64()), ("text", pa.string())])
_MEASURED = [
    ("metric", pa.string()),
    ("segment", pa.string()),
    ("window_start", TIME),
    ("window_end", TIME),
    ("value", pa.float64()),
    ("expected", pa.float64()),
    ("lower", pa.float64()),
    ("upper", pa.float64()),
    ("score", pa.float64()),
    ("version", pa.string()),
]
DOCUMENTS: dict[str, tuple[pa.Schema, str]] = {
    "sessions": (
        pa.schema(
            [
                ("session_id", pa.string()),
                ("user_id", pa.string()),
                ("started_at", TIME),
                ("ended_at", TIME),
                ("event_count", pa.int64()),
                ("funnel_stage", pa.string()),
                ("capped", pa.bool_()),
                ("revision", pa.int64()),
                ("superseded_by", pa.string()),
            ]
        ),
        "started_at",
    ),
    "scores": (
        pa.schema(
            [
                ("transaction_id", pa.string()),
                ("user_id", pa.string()),
                ("device_id", pa.string()),
                ("event_timestamp", TIME),
                ("total_amount", MONEY),
                ("currency", pa.string()),
                ("score", pa.float64()),
                ("decision", pa.string()),
                ("rules", pa.list_(pa.string())),
                ("shadow_rules", pa.list_(pa.string())),
                ("rule_set", pa.string()),
                ("model_score", pa.float64()),
                ("model", pa.string()),
                ("challengers", pa.list_(THOUGHT)),
            ]
        ),
        "event_timestamp",
    ),
    "alerts": (
        pa.schema(
            [
                ("alert_id", pa.string()),
                ("transaction_id", pa.string()),
                ("user_id", pa.string()),
                ("device_id", pa.string()),
                ("event_timestamp", TIME),
                ("arrived_at", TIME),
                ("total_amount", MONEY),
                ("currency", pa.string()),
                ("score", pa.float64()),
                ("severity", pa.string()),
                ("decision", pa.string()),
                ("reasons", pa.list_(REASON)),
                ("rule_set", pa.string()),
                ("group_id", pa.string()),
                ("group_alerts", pa.int64()),
            ]
        ),
        "event_timestamp",
    ),
    "floods": (
        pa.schema(
            [
                ("flood_id", pa.string()),
                ("rule", pa.string()),
                ("owner", pa.string()),
                ("window_start", TIME),
                ("window_end", TIME),
                ("alerts", pa.int64()),
                ("held_back", pa.int64()),
                ("first_held_back", pa.string()),
                ("is_over", pa.bool_()),
                ("revision", pa.int64()),
                ("text", pa.string()),
            ]
        ),
        "window_start",
    ),
    "incidents": (
        pa.schema(
            [
                ("incident_id", pa.string()),
                ("behaviour", pa.string()),
                ("owner", pa.string()),
                ("severity", pa.string()),
                ("weight", pa.float64()),
                ("user_id", pa.string()),
                ("device_id", pa.string()),
                ("started_at", TIME),
                ("ended_at", TIME),
                ("events", pa.int64()),
                ("is_over", pa.bool_()),
                ("revision", pa.int64()),
                ("text", pa.string()),
                ("rule_set", pa.string()),
            ]
        ),
        "started_at",
    ),
    "metrics": (pa.schema(_MEASURED), "window_start"),
    "anomalies": (
        pa.schema(
            [
                *_MEASURED,
                ("anomaly_id", pa.string()),
                ("explanation", pa.string()),
            ]
        ),
        "window_start",
    ),
    "reprocess.requests": (
        pa.schema(
            [
                ("source", pa.string()),
                ("late_events", pa.int64()),
                ("first_event_at", TIME),
                ("last_event_at", TIME),
            ]
        ),
        "event_date",
    ),
}


class DeadLetterTable:
    """Dead letters of every flow, byte for byte, by the day they arrived."""

    name = "dead_letters"
    _TEXTS = ("reason", "message", "topic", "partition", "offset", "arrival", "contract")

    def rows(self, records: Records, data: NDArray[np.int64]) -> TableRows:
        headers = [dict(records.headers[row]) if records.headers else {} for row in data.tolist()]
        texts = {
            name: [h.get(f"dlq-{name}", b"").decode("utf-8", "replace") for h in headers]
            for name in self._TEXTS
        }
        arrived_us, _ = parse_timestamps(list(texts["arrival"]))
        table = pa.table(
            {
                "reason": pa.array(texts["reason"], pa.string()),
                "message": pa.array(texts["message"], pa.string()),
                "topic": pa.array(texts["topic"], pa.string()),
                "partition": pa.array([int(text or -1) for text in texts["partition"]], pa.int64()),
                "offset": pa.array([int(text or -1) for text in texts["offset"]], pa.int64()),
                "arrived_at": pa.array(arrived_us).cast(TIME),
                "contract": pa.array(texts["contract"], pa.string()),
                "key": pa.array([records.keys[row] for row in data.tolist()], pa.binary()),
                "value": pa.array([records.values[row] for row in data.tolist()], pa.binary()),
            }
        )
        return TableRows(table, _dates(arrived_us))
