"""A warehouse's datasets on BigQuery: bronze, which `load` writes, and beside it silver and gold,
those in which they are built, `meta`, where the warehouse says what it was made of, and `vault`,
with the keys of the pseudonyms.

BigQuery tells apart what has been read by the offsets in the lineage columns: rows of a slot come
in order, so those below an offset are always the same ones.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from dataflows.connectors.bigquery import LINEAGE_PARTITION
from dataflows.connectors.bigquery_client import connect, explained, parse_dataset
from dataflows.connectors.lake import DATE_COLUMN
from services.warehouse.changes import FIRST_DAY, Bronze, Holdings
from services.warehouse.dbt_process import Node
from services.warehouse.errors import WarehouseError
from services.warehouse.pseudonym_keys import padded_keys

if TYPE_CHECKING:
    from google.cloud import bigquery

LAYERS = ("silver", "gold")
_OF_DBT = "__dbt_tmp"  # ends the names of tables that dbt makes on the way
_CALL_S = 60.0
_QUERY_S = 300.0

Fields = list[dict[str, Any]]
Row = dict[str, Any]


def _column(name: str, kind: str, mode: str = "REQUIRED", fields: Fields | None = None) -> Row:
    return {"name": name, "type": kind, "mode": mode, **({"fields": fields} if fields else {})}


_KEYS = [_column("inner_key", "STRING"), _column("outer_key", "STRING")]
_LAST_BUILD = [
    _column("build_id", "INTEGER"),
    _column("fingerprint", "STRING"),
    _column(
        "holdings",
        "RECORD",
        "REPEATED",
        [
            _column("table_name", "STRING"),
            _column("event_date", "DATE"),
            _column("slot", "STRING"),
            _column("next_offset", "INTEGER"),
        ],
    ),
]
_BUILDS = [
    _column("build_id", "INTEGER"),
    _column("kind", "STRING"),
    _column("started_at", "TIMESTAMP"),
    _column("seconds", "FLOAT"),
    _column("dates", "DATE", "REPEATED"),
]
_NODE_RESULTS = [
    _column("build_id", "INTEGER"),
    _column("kind", "STRING"),
    _column("name", "STRING"),
    _column("status", "STRING"),
    _column("seconds", "FLOAT"),
    _column("failures", "INTEGER"),
    _column("message", "STRING"),
]
_PUBLISHING = [_column("building", "STRING")]


class LastBuild(NamedTuple):
    """What the last good build was made with, and what bronze held then."""

    number: int
    fingerprint: str
    holdings: Holdings


class Datasets:
    """The datasets of one warehouse.

    Args:
        bronze: project.dataset, as `load` has it.
        prefix: before the names of the others.

    Raises:
        BigQueryError: no such name, no client, no credentials, or not allowed.
        WarehouseError: there is no such dataset.
    """

    def __init__(self, bronze: str, prefix: str):
        from google.api_core.exceptions import NotFound

        self.project, self.bronze = parse_dataset(bronze)
        self.prefix = prefix
        # Of this build alone: what BigQuery still does for one that was killed does not meet it.
        self.building_prefix = f"{prefix}building_{secrets.token_hex(4)}_"
        self._client = connect(self.project)
        with explained(bronze):
            try:
                found = self._client.get_dataset(bronze, timeout=_CALL_S)
            except NotFound as error:
                raise WarehouseError(
                    f"{bronze}: there is no such dataset in BigQuery; make it where its data shall "
                    f"live (`bq mk --dataset --location=EU {self.project}:{self.bronze}`)"
                ) from error
        self.location = str(found.location)

    def close(self) -> None:
        self._client.close()

    def name(self, layer: str) -> str:
        """A dataset of the warehouse, with its project."""
        return f"{self.project}.{self.prefix}{layer}"

    def building(self, layer: str) -> str:
        """The dataset in which this build makes that layer, with its project."""
        return f"{self.project}.{self.building_prefix}{layer}"

    def need_tables(self, tables: Iterable[str]) -> None:
        """Raises:
        WarehouseError: bronze does not have all of them.
        """
        place = f"{self.project}.{self.bronze}"
        with explained(place):
            found = {table.table_id for table in self._client.list_tables(place, timeout=_CALL_S)}
        if missing := [table for table in tables if table not in found]:
            which = "no tables there yet" if not found else f"no table {', '.join(missing)}"
            raise WarehouseError(
                f"{place}: {which}; `tidegate schema apply --bigquery {place}` makes them, and "
                "`load` fills them"
            )

    def holdings(self, tables: Iterable[str]) -> Holdings:
        """What bronze holds now, of each slot the rows up to its greatest offset on a date."""
        reads = [
            f"SELECT '{table}', {DATE_COLUMN}, _topic, {LINEAGE_PARTITION}, MAX(_offset) + 1 "
            f"FROM {self._schema}.{table} WHERE {DATE_COLUMN} >= {FIRST_DAY} GROUP BY 1, 2, 3, 4"
            for table in tables
        ]
        held: Holdings = {}
        for table, day, topic, partition, next_offset in self._ask(" UNION ALL ".join(reads)):
            held.setdefault((table, day), {})[f"{topic}.{partition}"] = next_offset
        return held

    @property
    def as_bronze(self) -> Bronze:
        return Bronze(self._ask, self._schema)

    def keep_keys(self, key: bytes) -> None:
        """Puts the keys of the pseudonyms into the vault, at first.

        In a load job: the text of a query can be read by whoever may list jobs.

        Raises:
            WarehouseError: there is another key.
        """
        inner, outer = padded_keys(key)
        place = f"{self.name('vault')}.pseudonym_keys"
        if not self._make_vault():
            found = [tuple(row) for row in self._rows_if_there(place, "inner_key, outer_key")]
            if found and found != [(inner, outer)]:
                raise WarehouseError(
                    f"{place} was made of another key than pii.key in the data directory; build "
                    "with the data directory of `load`"
                )
            if found:
                return
        self._put(place, _KEYS, [{"inner_key": inner, "outer_key": outer}], anew=True)

    def last_build(self) -> LastBuild | None:
        """The last one that was recorded; None before the first."""
        place = f"{self.name('meta')}.last_build"
        for number, fingerprint, cells in self._rows_if_there(place, "*"):
            held: Holdings = {}
            for cell in cells:
                slots = held.setdefault((cell["table_name"], cell["event_date"]), {})
                slots[cell["slot"]] = cell["next_offset"]
            return LastBuild(number, fingerprint, held)
        return None

    def record(
        self,
        build: LastBuild,
        *,
        kind: str,
        started_at: datetime,
        seconds: float,
        dates: Sequence[date],
        nodes: Sequence[Node],
    ) -> None:
        """What this build has done; last of all what the next one goes on from."""
        self._make(self.name("meta"))
        number = {"build_id": build.number}
        done = {
            **number,
            "kind": kind,
            "started_at": started_at.isoformat(),
            "seconds": seconds,
            "dates": [day.isoformat() for day in dates],
        }
        results = [
            {
                **number,
                **{name: getattr(node, name) for name in ("kind", "name", "status", "seconds")},
                **{name: getattr(node, name) for name in ("failures", "message")},
            }
            for node in nodes
        ]
        cells = [
            {"table_name": table, "event_date": str(day), "slot": slot, "next_offset": offset}
            for (table, day), slots in build.holdings.items()
            for slot, offset in slots.items()
        ]
        last = {**number, "fingerprint": build.fingerprint, "holdings": cells}
        self._put(f"{self.name('meta')}.builds", _BUILDS, [done])
        self._put(f"{self.name('meta')}.node_results", _NODE_RESULTS, results)
        self._put(f"{self.name('meta')}.last_build", _LAST_BUILD, [last], anew=True)

    def start_building(self, *, from_last_good: bool) -> None:
        """Removes what builds before have left half done; then this one has nothing yet, or a copy
        of silver and gold."""
        self._remove_buildings()
        if from_last_good:
            self._copy_layers(self.prefix, self.building_prefix)

    def intend_to_publish(self) -> None:
        """What is built is good: from now on it will be put in place, if not by this process."""
        self._make(self.name("meta"))
        self._put(self._publishing, _PUBLISHING, [{"building": self.building_prefix}], anew=True)

    def publish_if_intended(self) -> None:
        """Puts what this build, or one before, has made in place of silver and gold, if that was
        intended and is not done.

        Each table is replaced in one step, all of them within seconds; not at one instant, for
        BigQuery has no such thing for whole tables. Cut off in between, the same again does what
        is left.
        """
        for (building_prefix,) in self._rows_if_there(self._publishing, "building"):
            self._copy_layers(building_prefix, self.prefix)
            with explained(self._publishing):
                self._client.delete_table(self._publishing, timeout=_CALL_S)
            self._remove_buildings()

    def _copy_layers(self, origin: str, target: str) -> None:
        """Copy jobs, all at once: BigQuery bills none, and each replaces its table in one step.

        Args:
            origin, target: what stands before the names of the layers.
        """
        from google.cloud import bigquery

        config = bigquery.CopyJobConfig(write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE)
        jobs = []
        for layer in LAYERS:
            taken, given = (f"{self.project}.{prefix}{layer}" for prefix in (origin, target))
            self._make(given)
            for table in self._tables(taken):
                place = f"{given}.{table}"
                with explained(place):
                    job = self._client.copy_table(
                        f"{taken}.{table}",
                        place,
                        location=self.location,
                        job_config=config,
                        timeout=_CALL_S,
                    )
                jobs.append((place, job))
        for place, job in jobs:
            with explained(place):
                job.result(timeout=_QUERY_S)

    def _remove_buildings(self) -> None:
        layers = "|".join(LAYERS)
        building = re.compile(rf"{re.escape(self.prefix)}building_[0-9a-f]{{8}}_({layers})")
        with explained(self.project):
            datasets = [found.dataset_id for found in self._client.list_datasets(timeout=_CALL_S)]
        for place in (f"{self.project}.{name}" for name in datasets if building.fullmatch(name)):
            with explained(place):
                self._client.delete_dataset(
                    place, delete_contents=True, not_found_ok=True, timeout=_CALL_S
                )

    def gold_rows(self) -> dict[str, int]:
        """How many rows each table of gold has."""
        gold = self.name("gold")
        names = self._tables(gold)
        with explained(gold):
            tables = [self._client.get_table(f"{gold}.{name}", timeout=_CALL_S) for name in names]
        return {table.table_id: int(table.num_rows or 0) for table in tables}

    def _tables(self, dataset: str) -> list[str]:
        with explained(dataset):
            found = self._client.list_tables(dataset, timeout=_CALL_S)
            return sorted(t.table_id for t in found if not t.table_id.endswith(_OF_DBT))

    @property
    def _publishing(self) -> str:
        """A table that is there while tables are put in place, and after that was cut off."""
        return f"{self.name('meta')}.publishing"

    @property
    def _schema(self) -> str:
        return f"`{self.project}`.{self.bronze}"

    def _ask(self, sql: str) -> Iterator[tuple[Any, ...]]:
        with explained(f"{self.project}.{self.bronze}"):
            job = self._client.query(sql, location=self.location, timeout=_CALL_S)
            for row in job.result(timeout=_QUERY_S):
                yield row.values()

    def _rows_if_there(self, place: str, columns: str) -> list[tuple[Any, ...]]:
        from google.api_core.exceptions import NotFound

        with explained(place):
            try:
                self._client.get_table(place, timeout=_CALL_S)
            except NotFound:
                return []
            project, dataset, table = place.rsplit(".", 2)
            sql = f"SELECT {columns} FROM `{project}`.{dataset}.{table}"
            job = self._client.query(sql, location=self.location, timeout=_CALL_S)
            return [row.values() for row in job.result(timeout=_QUERY_S)]

    def _make(self, name: str) -> bigquery.Dataset:
        from google.cloud import bigquery

        wanted = bigquery.Dataset(name)
        wanted.location = self.location
        with explained(name):
            return self._client.create_dataset(wanted, exists_ok=True, timeout=_CALL_S)

    def _make_vault(self) -> bool:
        """Makes the dataset of keys, which who may read the project may not; False: it is there."""
        from google.api_core.exceptions import NotFound

        name = self.name("vault")
        with explained(name):
            try:
                self._client.get_dataset(name, timeout=_CALL_S)
                return False
            except NotFound:
                pass
            made = self._make(name)
            everybody = ("projectReaders", "projectWriters")
            made.access_entries = [
                entry for entry in made.access_entries if entry.entity_id not in everybody
            ]
            self._client.update_dataset(made, ["access_entries"], timeout=_CALL_S)
        return True

    def _put(self, place: str, columns: Fields, rows: Sequence[Row], anew: bool = False) -> None:
        """All rows at once, behind those that are there or in place of them."""
        from google.cloud import bigquery

        how = bigquery.WriteDisposition
        config = bigquery.LoadJobConfig(
            schema=[bigquery.SchemaField.from_api_repr(column) for column in columns],
            write_disposition=how.WRITE_TRUNCATE if anew else how.WRITE_APPEND,
        )
        with explained(place):
            job = self._client.load_table_from_json(
                rows, place, location=self.location, job_config=config, timeout=_CALL_S
            )
            job.result(timeout=_QUERY_S)
