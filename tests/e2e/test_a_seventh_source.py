"""A folder more in schemas/ is a source more, from its topics to its table: no code knows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
from places import Place

from dataflows.runtime.config import load_config

CONTRACT = """\
version: v1
description: What customers think of what they bought.
owner: shop@shop.example
topic: raw.reviews
key: product_id
event_time: written_at
dedup_key: review_id
user: user_id
partitions: 2
retention_days: 30
pii:
  email: hash
  text: drop
warehouse:
  partition_by: written_at
"""
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["review_id", "product_id", "user_id", "written_at", "stars"],
    "properties": {
        "review_id": {"type": "string"},
        "product_id": {"type": "string"},
        "user_id": {"type": "string"},
        "written_at": {"type": "string", "format": "date-time"},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "email": {"type": "string"},
        "text": {"type": "string"},
    },
}
WRITTEN_AT = "2026-05-01T12:00:00Z"


def review(number: int, **changes: object) -> dict[str, object]:
    return {
        "review_id": f"r{number}",
        "product_id": f"p{number % 7}",
        "user_id": "u1",
        "written_at": WRITTEN_AT,
        "stars": 1 + number % 5,
        "email": "u1@shop.example",
        "text": "as expected",
        **changes,
    }


GOOD = [review(number) for number in range(50)]
BAD = [review(100, stars=6), review(101, written_at="yesterday")]
DUPLICATE = review(3)


def with_reviews(place: Place) -> None:
    """The shop's own contracts and one more."""
    schemas = place.directory / "schemas"
    shutil.copytree(load_config().schemas, schemas)
    folder = schemas / "reviews"
    for verdict, document in (("pass", GOOD[0]), ("fail", BAD[0])):
        (folder / "examples" / verdict).mkdir(parents=True)
        (folder / "examples" / verdict / "review.json").write_text(json.dumps(document))
    (folder / "contract.yaml").write_text(CONTRACT)
    (folder / "v1.schema.json").write_text(json.dumps(SCHEMA))
    place.config_file.write_text('schemas = "schemas"\n' + place.config_file.read_text())


def test_a_new_folder_is_published_checked_and_loaded_like_the_others(place: Place) -> None:
    with_reviews(place)
    lines = [json.dumps(document) for document in [*GOOD, *BAD, DUPLICATE]]
    (place.directory / "reviews.jsonl").write_text("\n".join(lines))
    done = place.tidegate("publish", "reviews", "reviews.jsonl")
    assert done.returncode == 0, done.stderr
    service = place.up()
    place.wait_until_drained()
    assert service.stop() == 0

    held = json.loads(place.tidegate("topics", "--json").stdout)
    kept = {
        name: held[f"{name}.reviews"]["partitions"] for name in ("raw", "events", "late", "dlq")
    }
    assert set(kept.values()) == {2}
    (ingested,) = [
        flow
        for flow in json.loads(place.tidegate("status", "ingest", "--json").stdout)["flows"]
        if flow["flow"] == "ingest"
    ]
    wanted = {"records_in": 53, "good": 50, "failed": 2, "duplicate": 1, "late": 0}
    assert {name: ingested[name] for name in wanted} == wanted
    assert loaded(place.data / "lake") == [(50, 50, 7, 1, 0, 150)]
    letters = place.tidegate("peek", "dlq.reviews", "--json").stdout.splitlines()
    values = [json.loads(letter)["value"] for letter in letters]
    assert sorted(v for v in values if v) == sorted(json.dumps(document) for document in BAD)


def loaded(lake: Path) -> list[tuple[int, ...]]:
    """Rows, reviews, products, pseudonyms of addresses, texts that are kept, and stars."""
    return duckdb.execute(
        "SELECT count(*), count(DISTINCT review_id), count(DISTINCT product_id), "
        "count(DISTINCT email) FILTER (email NOT LIKE '%@%'), count(text), sum(stars)::INT "
        "FROM read_parquet(?, hive_partitioning = true)",
        [str(lake / "reviews" / "**" / "*.parquet")],
    ).fetchall()
