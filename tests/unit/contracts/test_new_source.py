"""Adding a folder to schemas/ adds a source: no line of code changes."""

import json
from datetime import date
from pathlib import Path

import fastavro
import pyarrow as pa
from contract_folders import SOURCES, copy_schemas

from dataflows.contracts import load_contracts
from dataflows.contracts.compatibility import accept, compare_with_history
from dataflows.contracts.examples import check_examples

DECLARATION = """\
version: v1
description: What a warehouse's scales measure.
owner: logistics@shop.example
topic: raw.scale_readings
key: scale_id
event_time: measured_at
dedup_key: reading_id
retention_days: 7
pii:
  packer.name: mask
warehouse:
  partition_by: measured_at
"""

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["reading_id", "scale_id", "measured_at", "grams"],
    "properties": {
        "reading_id": {"type": "string"},
        "scale_id": {"type": "string"},
        "measured_at": {"type": "string", "format": "date-time"},
        "grams": {"type": "number", "minimum": 0},
        "from": {"type": ["string", "null"], "enum": ["dock", "shelf", None]},
        "attempts": {"type": "integer"},
        "calibrated": {"type": "array", "items": {"type": "string", "format": "date-time"}},
        "packer": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "trained": {"type": "boolean"}},
        },
        "sensors": {"type": "object", "additionalProperties": {"type": "number"}},
    },
}

READING = {
    "reading_id": "r-1",
    "scale_id": "s-1",
    "measured_at": "2026-11-23T06:40:54.5+01:00",
    "grams": 1250.5,
    "from": None,
    "attempts": 2**62,
    "calibrated": ["2026-01-01T00:00:00Z"],
    "packer": {"name": "Kim"},
    "sensors": {"left": 600.0, "right": 650.5},
}


def test_a_seventh_folder_is_a_seventh_source(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    folder = schemas / "scale_readings"
    for verdict, document in (("pass", READING), ("fail", {**READING, "grams": -1})):
        (folder / "examples" / verdict).mkdir(parents=True)
        (folder / "examples" / verdict / "reading.json").write_text(json.dumps(document))
    (folder / "contract.yaml").write_text(DECLARATION)
    (folder / "v1.schema.json").write_text(json.dumps(SCHEMA))

    contracts = load_contracts(schemas)
    assert set(contracts) == {*SOURCES, "scale_readings"}
    contract = contracts["scale_readings"]
    assert (contract.partitions, contract.user, contract.reference) == (1, None, False)
    assert check_examples(contract, folder) == []

    values = [
        json.dumps(READING).encode(),
        json.dumps({**READING, "calibrated": ["never"]}).encode(),
        json.dumps({**READING, "attempts": 2**63}).encode(),
        json.dumps({**READING, "packer": {"name": "Kim", "shift": 2}}).encode(),
    ]
    decoded = contract.decode(values)
    assert decoded.times_us.tolist() == [1_795_412_454_500_000, 0, 0, 1_795_412_454_500_000]
    assert [failure.reason for failure in decoded.failures] == ["bad_timestamp", "invalid"]
    assert decoded.extras == [None, None, None, b'{"packer":{"shift":2}}']
    assert decoded.events[0].sensors == {"left": 600.0, "right": 650.5}

    fastavro.parse_schema(contract.avro_schema())
    assert contract.arrow_schema().field("sensors").type == pa.map_(pa.string(), pa.float64())
    types = {column["name"]: column["type"] for column in contract.bigquery_schema()}
    assert (types["grams"], types["from"], types["packer"]) == ("FLOAT", "STRING", "RECORD")

    changes = compare_with_history(schemas)
    assert changes.breaking == []
    assert [str(change) for change in changes.additions] == [
        "scale_readings: contract: a new source"
    ]
    history = schemas / "history" / "scale_readings"
    assert accept(schemas, date(2026, 11, 27)) == [history / "changes.json", history / "v1.json"]
    assert compare_with_history(schemas).additions == []
