"""What the metrics of a build say is what the warehouse itself says, and failures are told, too."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from built_warehouse import Built, config_of
from prometheus_client.parser import text_string_to_metric_families
from warehouse_shop import Shop, put

from services.warehouse.build import Asked, build, reprocess
from services.warehouse.database import open_database
from services.warehouse.dbt import Dbt
from services.warehouse.dbt_process import Node
from services.warehouse.errors import ChecksFailed, WarehouseError
from services.warehouse.metrics import DECLARED

Samples = dict[tuple[str, ...], float]


def samples(directory: Path) -> Samples:
    """Each sample by name and values of labels, in the order in which these are declared."""
    labels = {declared.name: declared.labels for declared in DECLARED}
    text = (directory / "warehouse" / "metrics.prom").read_text()
    return {
        (sample.name, *(sample.labels[label] for label in labels[sample.name])): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Samples, name: str) -> Samples:
    return {
        tuple(labels): value
        for (metric, *labels), value in found.items()
        if metric == f"tidegate_warehouse_{name}"
    }


def outcome(directory: Path) -> str:
    (told,) = [
        name for (_, name), value in of(samples(directory), "build_outcome").items() if value
    ]
    return told


@pytest.fixture
def directory(built: Built, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built.directory, tmp_path / "shop"))


def test_a_build_says_what_the_warehouse_says(built: Built) -> None:
    found = samples(built.directory)
    assert outcome(built.directory) == "built"
    ((layers, tables),) = built.rows(
        "SELECT list(table_schema), list(table_name) FROM information_schema.tables "
        "WHERE table_schema IN ('silver', 'gold')"
    )
    rows = {
        ("duckdb", layer, table): built.rows(f'SELECT count(*) FROM {layer}."{table}"')[0][0]
        for layer, table in zip(layers, tables, strict=True)
    }
    assert of(found, "table_rows") == rows
    newest = of(found, "table_newest_timestamp_seconds")
    for layer, table, column in (
        ("silver", "stg_clickstream", "arrived_at"),
        ("silver", "stg_scores", "event_timestamp"),
        ("gold", "fct_daily_summary", "event_date"),
    ):
        ((last,),) = built.rows(f"SELECT epoch(max({column})) FROM {layer}.{table}")
        assert newest["duckdb", layer, table] == last
    assert ("duckdb", "gold", "dim_date") not in newest

    nodes = built.rows("SELECT kind, status, count(*) FROM meta.node_results GROUP BY ALL")
    assert of(found, "nodes") == {("duckdb", kind, status): n for kind, status, n in nodes}
    letters = built.rows("SELECT reason, count(*) FROM silver.stg_dead_letters GROUP BY 1")
    assert of(found, "dead_letters") == {("duckdb", reason): n for reason, n in letters}
    away = built.rows("SELECT source, reason, count(*) FROM silver.stg_quarantined GROUP BY ALL")
    assert of(found, "quarantined_records") == {("duckdb", s, reason): n for s, reason, n in away}
    ((began, took),) = built.rows("SELECT epoch(started_at), seconds FROM meta.builds")
    assert of(found, "good_build_timestamp_seconds") == {("duckdb",): pytest.approx(began)}
    (seconds,), (ended,) = (
        of(found, name).values() for name in ("build_seconds", "build_timestamp_seconds")
    )
    assert took <= seconds
    assert ended == pytest.approx(began + seconds, abs=5)


def test_dead_letters_are_told_beside_what_they_may_be(built: Built) -> None:
    found = samples(built.directory)
    name = "dead_letters_are_few"
    ((measure,),) = built.rows(f"SELECT failures FROM meta.node_results WHERE name = '{name}'")
    assert of(found, "test_measure") == {("duckdb", name): measure}
    assert of(found, "test_limit") == {("duckdb", name, "warn"): 20, ("duckdb", name, "error"): 100}


def test_a_build_with_nothing_to_do_leaves_the_figures(
    built: Built, directory: Path, in_this_process: None
) -> None:
    assert build(config_of(directory)).kind == "unchanged"
    assert outcome(directory) == "unchanged"
    of_a_run = {"build_timestamp_seconds", "build_seconds", "build_outcome"}
    names = {f"tidegate_warehouse_{name}" for name in of_a_run}
    before, after = (
        {labels: value for labels, value in samples(place).items() if labels[0] not in names}
        for place in (built.directory, directory)
    )
    assert after == before


@contextmanager
def failing() -> Iterator[None]:
    """A test fails in every build."""
    run = Dbt.run

    def with_a_failure(self: Dbt, *arguments: Any, **options: Any) -> list[Node]:
        nodes = run(self, *arguments, **options)
        failed = Node("test", "words_are_known", "fail", 0.5, "f.sql", "Got 3 results", 3)
        return [*nodes, failed, Node("test", "skipped_for_it", "skipped", 0.0, "f.sql")]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Dbt, "run", with_a_failure)
        yield


def test_builds_that_fail_are_told_and_in_the_history_of_the_next_good_one(
    built: Built, directory: Path, in_this_process: None
) -> None:
    put(directory / "lake", Shop(7, clicks=5, payments=9).of("labels"))
    for _ in range(2):
        with failing(), pytest.raises(ChecksFailed):
            build(config_of(directory))
        found = samples(directory)
        assert outcome(directory) == "tests_failed"
        assert of(found, "nodes")["duckdb", "test", "fail"] == 1
        for name in ("table_rows", "good_build_timestamp_seconds"):
            assert of(found, name) == of(samples(built.directory), name)
    for full in (False, True):  # a full one begins with the history of the last
        assert build(config_of(directory), full=full).kind != "unchanged"
        assert outcome(directory) == "built"
        with open_database(directory / "warehouse" / "warehouse.duckdb", read_only=True) as asked:
            kept = asked.execute(
                "SELECT kind, name, status, failures, message FROM meta.failed_nodes"
            ).fetchall()
            begun = asked.execute("SELECT DISTINCT started_at FROM meta.failed_nodes").fetchall()
        assert kept == [("test", "words_are_known", "fail", 3, "Got 3 results")] * 2
        assert len(begun) == 2


def test_failures_that_cannot_be_read_are_named(directory: Path, in_this_process: None) -> None:
    put(directory / "lake", Shop(7, clicks=5, payments=9).of("labels"))
    file = directory / "warehouse" / "failures.json"
    file.write_text("[{")
    with pytest.raises(WarehouseError, match=r"failures.json: .*; remove it to go on without it$"):
        build(config_of(directory))


def test_a_lake_with_a_hole_is_a_build_that_failed(directory: Path) -> None:
    sorted((directory / "lake" / "clickstream").glob("*/*.parquet"))[0].unlink()
    with pytest.raises(WarehouseError, match="restore the files that are gone"):
        build(config_of(directory))
    assert outcome(directory) == "failed"


def test_a_wrong_word_of_a_person_is_no_build(built: Built, directory: Path) -> None:
    before = samples(directory)
    day = built.shop.deliveries[0].arrived_at.date()
    with pytest.raises(WarehouseError, match="is no table of the lake"):
        reprocess(config_of(directory), Asked(day, day, "clicks"))
    assert samples(directory) == before


def test_metrics_that_cannot_be_written_fail_no_build(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = directory / "warehouse" / "metrics.prom"
    file.unlink()
    file.mkdir()
    assert build(config_of(directory)).kind == "unchanged"
    (line,) = caplog.messages
    assert line.startswith(f"no metrics of this build: {file}: cannot be written (Is a directory)")
