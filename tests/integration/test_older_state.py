"""State directories that an older version left are gone on from, with the right results.

`state_v1` holds what version 1 left of every stateful flow in the middle of two days of the shop,
and the raw records that came afterwards.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_bench import Bench

from dataflows.connectors.records import published
from dataflows.runtime.config import HOUSE

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "state_v1"
ONE_PARTITION = dict.fromkeys(
    (
        *("clickstream", "transactions", "customer_support"),
        *("product_catalog", "customer_profiles", "labels"),
    ),
    1,
)
RUNS = (
    *(("ingest", "raw.clickstream"), ("ingest", "raw.transactions"), ("late", "late.clickstream")),
    *(("sessionize", None), ("features", None), ("score", None)),
)
COMPARED = (
    *("events.clickstream", "late.clickstream", "dlq.clickstream", "events.transactions"),
    *("buffered.clickstream", "reprocess.requests", "sessions", "late.sessionize"),
    *("scores", "alerts"),  # not scoring.requests: version 1 wrote them as objects
)
OWN = """\
time: event_timestamp
fields: {user_id: text, total_amount: number}
features:
  - {name: own_sum_2h, entity: user_id, aggregate: sum, of: total_amount, window: 2h}
"""
# When a record arrived differs between two runs; version 1 did not group alerts.
_LEFT_OUT = re.compile(rb'"arrived_at":"[^"]*",?|"group_id":"[^"]*","group_alerts":[0-9]+')


def bench_of(directory: Path, **overrides: object) -> Bench:
    return Bench(directory, partitions=ONE_PARTITION, **overrides)


def said(bench: Bench) -> dict[str, list[tuple[bytes | None, bytes]]]:
    return {
        topic: [(r.key, _LEFT_OUT.sub(b"", r.value or b"")) for r in bench.records(topic)]
        for topic in COMPARED
    }


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    with tarfile.open(FIXTURES / "data.tar.xz") as tar:
        tar.extractall(tmp_path / "v1", filter="data")
    return tmp_path / "v1" / "data"


def later() -> Iterator[tuple[str, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]]:
    with gzip.open(FIXTURES / "rest.jsonl.gz", "rt") as lines:
        for line in map(json.loads, lines):
            key, value = line["key"], line["value"]
            yield (
                line["topic"],
                None if key is None else key.encode(),
                None if value is None else value.encode("latin1"),
                tuple((name, text.encode("latin1")) for name, text in line["headers"]),
            )


def publish(bench: Bench, topic: str, records: list[tuple]) -> None:
    keys, values, headers = (list(column) for column in zip(*records, strict=True))
    bench.log.append([published(topic, keys, values, headers, partition=0)])


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    folder = tmp_path / "specs"
    shutil.copytree(HOUSE / "features" / "payments", folder)
    (folder / "own.yaml").write_text(OWN)
    return folder


@pytest.mark.parametrize("declares", [False, True], ids=["as it was", "with features declared"])
def test_every_flow_goes_on_from_version_1(
    unpacked: Path, tmp_path: Path, specs: Path, declares: bool
) -> None:
    features = str(specs) if declares else ""
    old, fresh = bench_of(unpacked, features=features), bench_of(tmp_path / "fresh")
    for topic in ("raw.clickstream", "raw.transactions"):
        publish(fresh, topic, [(r.key, r.value, r.headers) for r in old.records(topic)])
        rest = [tuple(record) for name, *record in later() if name == topic]
        publish(fresh, topic, rest)
        publish(old, topic, rest)
    for bench in (old, fresh):
        for flow, read in RUNS:
            bench.run(flow, topic=read)
    expected, found = said(fresh), said(old)
    assert all(expected[topic] for topic in ("sessions", "scores", "late.clickstream", "alerts"))
    for topic in COMPARED:
        assert found[topic] == expected[topic], topic
    for slot in old.shop.slots("sessionize"):
        with sqlite3.connect(slot.directory / "bytewax" / "part-0.sqlite3") as store:
            (upgraded,) = store.execute(
                "select count(*) from snaps where instr(ser_change, cast('tide' as blob)) > 0"
            ).fetchone()
        assert upgraded
    for bench in (old, fresh):
        bench.log.close()
