"""dbt's sources, written from the contracts: warehouse_sql/models/bronze/sources.yml."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from dataflows.connectors.lake import DATE_COLUMN
from services.warehouse.bronze import SCHEMA, BronzeTable

HEAD = "# Written from schemas/ by docs/generate.py; do not edit.\n"
_FRESH_HOURS = {"warn_after": 24, "error_after": 72}


def sources_yaml(tables: Iterable[BronzeTable]) -> str:
    """The file's text: each table and column with its description; freshness by arrival."""
    source = {
        "name": SCHEMA,
        "description": "The lake, or what the load flow wrote to BigQuery: each record once.",
        "database": "{{ target.database }}",
        "schema": f"{{{{ env_var('WAREHOUSE_BRONZE', '{SCHEMA}') }}}}",
        "tables": [_table(table) for table in tables],
    }
    document = {"version": 2, "sources": [source]}
    return HEAD + yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)


def _table(table: BronzeTable) -> dict[str, Any]:
    columns = [
        {"name": name, "description": table.descriptions.get(name, "")}
        if table.descriptions.get(name)
        else {"name": name}
        for name in table.schema.names
    ]
    day = {"name": DATE_COLUMN, "description": "The day of event time, in UTC; the partition"}
    config: dict[str, Any] = {}
    if table.of_contract:
        limits = {name: {"count": n, "period": "hour"} for name, n in _FRESH_HOURS.items()}
        config = {"config": {"loaded_at_field": "arrived_at", "freshness": limits}}
    return {
        "name": table.name,
        "description": table.description,
        **config,
        "columns": [*columns, day],
    }
