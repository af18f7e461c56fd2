"""Recomputes bronze's places and every table of silver from the records of a log, and compares.

Shares no code with the product: documents are read as JSON, in DuckDB's SQL; each event counts
once, by its first copy, personal fields as the contracts say.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from services.status.peek import Record

KEYS = {
    "clickstream": "event_id",
    "customer_profiles": "event_id",
    "customer_support": "event_id",
    "labels": "label_id",
    "product_catalog": "event_id",
    "transactions": "transaction_id",
}
DERIVED = {
    "sessions": "session_id",
    "scores": "transaction_id",
    "alerts": "alert_id",
    "incidents": "incident_id",
}
BEGIN = ("sessions", "incidents")  # they have an instant at which they began
PLACE = ("_topic", "_log_partition", "_offset")

# What silver calls otherwise than the document does, or does not keep as it came.
_ELSEWHERE = {
    "stg_clickstream": {
        "cart_id": "doc ->> '$.cart.cart_id'",
        "cart_item_count": "doc ->> '$.cart.item_count'",
        "cart_value": "doc ->> '$.cart.value'",
        "device_id": "pseudonym(doc ->> '$.device.device_id')",
        "user_agent": "doc ->> '$.device.user_agent'",
        "device_language": "doc ->> '$.device.language'",
        "ip_address": "hashed(doc ->> '$.ip_address')",
        "country": "doc ->> '$.geo.country'",
        "city": "doc ->> '$.geo.city'",
    },
    "stg_transactions": {
        "item_count": "coalesce(json_array_length(doc -> '$.items'), 0)",
        "payment_method": "doc ->> '$.payment.method'",
        "card_id": "doc ->> '$.payment.card_id'",
        "card_country": "doc ->> '$.payment.card_country'",
        "device_id": "pseudonym(doc ->> '$.device.device_id')",
        "user_agent": "doc ->> '$.device.user_agent'",
        "device_language": "doc ->> '$.device.language'",
        "ip_address": "hashed(doc ->> '$.ip_address')",
    },
    "stg_customer_support": {"agent_id": "pseudonym(doc ->> '$.agent_id')"},
    "stg_customer_profiles": {
        "email": "CASE WHEN NOT closed THEN hashed(doc ->> '$.email') END",
        "full_name": "CASE WHEN NOT closed THEN masked(doc ->> '$.full_name') END",
        "phone": "CASE WHEN NOT closed THEN masked(doc ->> '$.phone') END",
        "city": "CASE WHEN NOT closed THEN masked(doc ->> '$.address.city') END",
        "postal_code": "CASE WHEN NOT closed THEN masked(doc ->> '$.address.postal_code') END",
        "country": "doc ->> '$.address.country'",
        "is_deleted": "closed",
    },
    "stg_sessions": {"is_capped": "doc ->> '$.capped'"},
    "stg_scores": {"device_id": "pseudonym(doc ->> '$.device_id')"},
    "stg_alerts": {
        "device_id": "pseudonym(doc ->> '$.device_id')",
        "group_id": "coalesce(doc ->> '$.group_id', doc ->> '$.alert_id')",
        "reason_count": "coalesce(json_array_length(doc -> '$.reasons'), 0)",
        "first_reason": "doc ->> '$.reasons[0].rule'",
    },
    "stg_incidents": {
        "device_id": "pseudonym(doc ->> '$.device_id')",
        "event_count": "doc ->> '$.events'",
        "text": "CASE WHEN (doc ->> '$.device_id') IS NULL THEN doc ->> '$.text' ELSE "
        "replace(doc ->> '$.text', doc ->> '$.device_id', pseudonym(doc ->> '$.device_id')) END",
    },
}
# Not compared: lists of records are, item by item, in stg_transaction_items; what ingest looked up,
# for it is a fact of that moment; JSON whose text is the writer's choice.
_LEFT_OUT = {"items", "product_at_the_time", "customer_at_the_time", "extras", "attributes"}
# A merged event is enriched as it is merged, and numbered in the order of merging.
_OF_MERGING = {"device_class", "_offset"}

_VERSIONED = (
    *("email", "full_name", "phone", "city", "postal_code", "country", "segment"),
    *("marketing_opt_in", "signed_up_at", "deleted_at"),
)
_SCHEMA = pa.schema(
    [
        *(("tbl", pa.string()), ("_topic", pa.string()), ("_log_partition", pa.int64())),
        *(("_offset", pa.int64()), ("doc", pa.string())),
    ]
)
_LETTERS = pa.schema(
    [
        *(("reason", pa.string()), ("message", pa.string()), ("raw_topic", pa.string())),
        *(("raw_partition", pa.int64()), ("raw_offset", pa.int64()), ("arrived_at", pa.string())),
        *(("contract", pa.string()), ("record_value", pa.binary()), ("_topic", pa.string())),
        *(("_log_partition", pa.int64()), ("_offset", pa.int64())),
    ]
)

Merged = Mapping[str, Iterable[date]]
"""Of each source the event dates whose quarantined events somebody has had merged."""


class LogOracle:
    """What a warehouse must hold of these records.

    Args:
        records: of the topics that the load flow reads, in any order.
        key: of the pseudonyms.
    """

    def __init__(self, records: Iterable[Record], key: bytes):
        self.database = duckdb.connect()
        self.database.execute("SET TimeZone = 'UTC'")
        for name, change in (
            ("pseudonym", lambda text: hmac.new(key, text.encode(), hashlib.sha256).hexdigest()),
            (
                "hashed",
                lambda text: hashlib.blake2b(text.encode(), digest_size=16, key=key).hexdigest(),
            ),
            ("masked", lambda text: text[:1] + "*" * (len(text) - 1)),
        ):
            self.database.create_function(name, change, [str], str)
        rows, letters = [], []
        for record in records:
            headers = dict(record.headers)
            if "tidegate-heartbeat" in headers:
                continue
            place = (record.topic, record.partition, record.offset)
            kind, _, rest = record.topic.partition(".")
            if kind in ("events", "buffered"):
                rows.append((rest, *place, text_of(record)))
            elif kind in DERIVED:
                rows.append((kind, *place, text_of(record)))
            elif kind == "dlq":
                letters.append((*_told(headers), record.value, *place))
        self._fill("records", _SCHEMA, rows)
        self._fill("letters", _LETTERS, letters)

    def _fill(self, name: str, schema: pa.Schema, rows: Sequence[tuple[object, ...]]) -> None:
        columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
        arrays = [
            pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)
        ]
        self.database.register("filled", pa.table(arrays, schema=schema))
        self.database.execute(f"CREATE TABLE {name} AS FROM filled")
        self.database.unregister("filled")

    def events_below(self, holdings: Iterable[tuple[str, date, str, int]]) -> dict[str, int]:
        """How many clicks and payments a build must have that read each slot's dates this far."""
        rows = [(table, day, slot, end) for table, day, slot, end in holdings]
        tables, days, slots, ends = zip(*rows, strict=True)
        found = self.database.execute(
            """
            SELECT tbl, count(DISTINCT coalesce(doc ->> '$.transaction_id', doc ->> '$.event_id'))
            FROM records JOIN (
                SELECT unnest(?) AS tbl, unnest(?) AS day, unnest(?) AS slot, unnest(?) AS stop
            ) AS held USING (tbl)
            WHERE tbl IN ('clickstream', 'transactions')
                AND _topic || '.' || _log_partition = slot AND _offset < stop
                AND CAST(CAST(doc ->> '$.event_timestamp' AS TIMESTAMPTZ) AS DATE) = day
            GROUP BY 1
            """,
            [list(tables), list(days), list(slots), list(ends)],
        ).fetchall()
        return {"clickstream": 0, "transactions": 0, **dict(found)}

    def check(self, file: Path, merged: Merged) -> dict[str, int]:
        """Compares a warehouse on DuckDB with it, row by row; how many rows each table has.

        Raises:
            AssertionError: a row is missing, or too much, or another one.
        """
        self.database.execute(f"ATTACH '{file}' AS warehouse (READ_ONLY)")
        try:
            self._bronze_has_each_record_once()
            self._judge(merged)
            rows = {f"stg_{table}": self._compare_events(table) for table in (*KEYS, *DERIVED)}
            rows |= self._compare_the_rest()
            names = self.database.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'warehouse' "
                "AND schema_name = 'silver' AND table_name NOT IN "
                "('product_catalog', 'quarantined_events')"
            ).fetchall()
            assert {name for (name,) in names} == rows.keys()
            return rows
        finally:
            self.database.execute("DETACH warehouse")

    def _bronze_has_each_record_once(self) -> None:
        for table in (*KEYS, *DERIVED):
            self._same(
                f"bronze.{table}",
                f"SELECT {', '.join(PLACE)} FROM warehouse.bronze.{table} "
                "WHERE _topic NOT LIKE 'merged.%'",
                f"SELECT {', '.join(PLACE)} FROM records WHERE tbl = '{table}'",
            )

    def _judge(self, merged: Merged) -> None:
        """`judged`: of each table the documents that count, those merged among them."""
        run = self.database.execute
        run("CREATE OR REPLACE TEMP TABLE choices (tbl VARCHAR, day DATE)")
        for source, days in merged.items():
            for day in days:
                run("INSERT INTO choices VALUES (?, ?)", [source, day])
        run(
            """
            CREATE OR REPLACE TEMP TABLE merged AS
            SELECT tbl, 'merged.' || tbl AS _topic, raw_partition AS _log_partition,
                CAST(NULL AS BIGINT) AS _offset,
                CAST(json_merge_patch(CAST(decode(record_value) AS JSON), json_object(
                    'lateness', 'expired', 'arrived_at', arrived_at, 'raw_offset', raw_offset
                )) AS VARCHAR) AS doc
            FROM letters JOIN choices ON raw_topic = 'raw.' || tbl
            WHERE reason = 'too_late'
                AND CAST(CAST(decode(record_value) ->> '$.event_timestamp' AS TIMESTAMPTZ) AS DATE)
                    = day
            """
        )
        order = {**dict.fromkeys(KEYS, "arrived, "), **dict.fromkeys(DERIVED, "")}
        order |= dict.fromkeys(BEGIN, "CAST(doc ->> '$.revision' AS INT) DESC, ")
        order["incidents"] += "_topic DESC, _log_partition DESC, _offset DESC, "
        parts = [
            f"""
            SELECT * FROM (
                SELECT *, CAST(doc ->> '$.arrived_at' AS TIMESTAMPTZ) AS arrived
                FROM (FROM records UNION ALL FROM merged) WHERE tbl = '{table}'
                QUALIFY row_number() OVER (
                    PARTITION BY doc ->> '$.{key}' ORDER BY {order[table]} _topic, _log_partition,
                    _offset
                ) = 1
            )
            """
            for table, key in {**KEYS, **DERIVED}.items()
        ]
        run(f"CREATE OR REPLACE TEMP TABLE judged AS {' UNION ALL '.join(parts)}")
        run("DELETE FROM judged WHERE tbl = 'sessions' AND (doc ->> '$.superseded_by') IS NOT NULL")
        run("DELETE FROM judged WHERE tbl = 'incidents' AND CAST(doc ->> '$.events' AS INT) = 0")

    def _compare_events(self, table: str) -> int:
        silver = f"stg_{table}"
        wanted, compared = self._wanted(table)
        names = ", ".join(compared)
        self.database.execute(f"CREATE OR REPLACE TEMP VIEW wanted_{table} AS {wanted}")
        plain = [name for name in compared if name not in _OF_MERGING]
        self._same(
            f"silver.{silver}",
            f"SELECT {names} FROM warehouse.silver.{silver} WHERE _topic NOT LIKE 'merged.%'",
            f"SELECT {names} FROM wanted_{table} WHERE _topic NOT LIKE 'merged.%'",
        )
        return self._same(
            f"silver.{silver}, merged events among them",
            f"SELECT {', '.join(plain)} FROM warehouse.silver.{silver}",
            f"SELECT {', '.join(plain)} FROM wanted_{table}",
        )

    def _wanted(self, table: str) -> tuple[str, list[str]]:
        """A query for what silver must have of a table, and the columns that are compared."""
        columns = self.database.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = 'warehouse' "
            f"AND schema_name = 'silver' AND table_name = 'stg_{table}'"
        ).fetchall()
        instant = "started_at" if table in BEGIN else "event_timestamp"
        elsewhere = {
            **_ELSEWHERE.get(f"stg_{table}", {}),
            **{name: name for name in PLACE},
            "event_date": f"CAST(CAST(doc ->> '$.{instant}' AS TIMESTAMPTZ) AS DATE)",
        }
        compared = [name for name, _ in columns if name not in _LEFT_OUT]
        texts = {name: elsewhere.get(name, f"doc ->> '$.{name}'") for name in compared}
        kinds = dict(columns)
        selected = ", ".join(f"CAST({texts[name]} AS {kinds[name]}) AS {name}" for name in compared)
        closed = (
            "arg_max((doc ->> '$.deleted_at') IS NOT NULL, (CAST(doc ->> '$.event_timestamp' AS "
            "TIMESTAMPTZ), _topic, _log_partition, _offset)) OVER (PARTITION BY doc ->> "
            "'$.user_id') AS closed"
        )
        source = f"(SELECT *, {closed} FROM judged WHERE tbl = '{table}')"
        return f"SELECT {selected} FROM {source}", compared

    def _compare_the_rest(self) -> dict[str, int]:
        silver = "warehouse.silver"
        letters = (
            "reason, message, raw_topic, raw_partition, raw_offset, "
            "CAST(arrived_at AS TIMESTAMPTZ), contract, record_value, " + ", ".join(PLACE)
        )
        content = ", ".join(_VERSIONED)
        return {
            "stg_dead_letters": self._same(
                "silver.stg_dead_letters",
                f"SELECT {letters} FROM {silver}.stg_dead_letters",
                f"SELECT {letters} FROM letters",
            ),
            "stg_quarantined": self._same(
                "silver.stg_quarantined",
                f"SELECT source, reason, {', '.join(PLACE)} FROM {silver}.stg_quarantined",
                f"""
                SELECT split_part(contract, '/', 1), reason, {", ".join(PLACE)} FROM letters
                WHERE reason = 'missing_user' OR reason = 'too_late' AND NOT EXISTS (
                    FROM merged WHERE letters.raw_topic = 'raw.' || merged.tbl
                        AND letters.raw_partition = merged._log_partition
                        AND letters.raw_offset = CAST(merged.doc ->> '$.raw_offset' AS BIGINT)
                )
                """,
            ),
            "stg_transaction_items": self._same(
                "silver.stg_transaction_items",
                "SELECT transaction_id, item_number, product_id, quantity, unit_price, amount "
                f"FROM {silver}.stg_transaction_items",
                """
                SELECT doc ->> '$.transaction_id', place, item ->> '$.product_id',
                    CAST(item ->> '$.quantity' AS BIGINT),
                    CAST(item ->> '$.unit_price' AS DECIMAL(18, 2)),
                    CAST(item ->> '$.amount' AS DECIMAL(18, 2))
                FROM (
                    SELECT doc, unnest(CAST(doc -> '$.items' AS JSON[])) AS item,
                        generate_subscripts(CAST(doc -> '$.items' AS JSON[]), 1) AS place
                    FROM judged WHERE tbl = 'transactions'
                )
                """,
            ),
            "last_labels": self._same(
                "silver.last_labels",
                f"SELECT transaction_id, verdict, labelled_at FROM {silver}.last_labels",
                """
                SELECT transaction_id, verdict, event_timestamp FROM wanted_labels
                QUALIFY row_number() OVER (
                    PARTITION BY transaction_id
                    ORDER BY event_timestamp DESC, arrived_at DESC, label_id
                ) = 1
                """,
            ),
            "customer_profiles_snapshot": self._same(
                "silver.customer_profiles_snapshot",
                f"SELECT user_id, version, valid_from, {content} "
                f"FROM {silver}.customer_profiles_snapshot",
                f"""
                SELECT user_id, row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp),
                    event_timestamp, {content}
                FROM (
                    SELECT *, lag(({content})) OVER (
                        PARTITION BY user_id ORDER BY event_timestamp
                    ) AS before
                    FROM (
                        FROM wanted_customer_profiles QUALIFY row_number() OVER (
                            PARTITION BY user_id, event_timestamp
                            ORDER BY arrived_at DESC, _topic DESC, _log_partition DESC,
                                _offset DESC
                        ) = 1
                    )
                )
                WHERE before IS NULL OR before IS DISTINCT FROM ({content})
                """,
            ),
        }

    def _same(self, what: str, found: str, wanted: str) -> int:
        """How many rows both queries give."""
        for relation, other, word in ((found, wanted, "too much"), (wanted, found, "missing")):
            more = self.database.execute(f"({relation}) EXCEPT ALL ({other})").fetchall()
            assert not more, f"{what}: {len(more)} rows {word}, such as {more[0]}"
        row = self.database.execute(f"SELECT count(*) FROM ({wanted})").fetchone()
        return row[0] if row else 0


def text_of(record: Record) -> str:
    return (record.value or b"").decode()


def _told(headers: Mapping[str, bytes]) -> tuple[object, ...]:
    """What a dead letter's headers say of it."""
    text = {name: value.decode() for name, value in headers.items() if name.startswith("dlq-")}
    return (
        *(text.get(f"dlq-{name}") for name in ("reason", "message", "topic")),
        *(int(text[f"dlq-{name}"]) for name in ("partition", "offset")),
        *(text.get(f"dlq-{name}") for name in ("arrival", "contract")),
    )
