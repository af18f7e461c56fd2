"""Whatever goes wrong is one line: what, where, what to do; and the last good warehouse stays."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_warehouse import Built
from command_line import CommandLine
from warehouse_shop import put

from dataflows.durations import Duration
from dataflows.runtime.recovery import Lease
from services.warehouse import dbt

FILE = "shop/warehouse/warehouse.duckdb"
ONE = "SELECT count(*) AS n FROM gold.fct_events"


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capfd)


@pytest.fixture
def shop(built: Built, tmp_path: Path) -> Path:
    """A data directory, `shop`, with a lake and a good warehouse."""
    return Path(shutil.copytree(built.directory, tmp_path / "shop"))


def refused(run: CommandLine, code: int, *arguments: str) -> str:
    """The one line that a command says as it ends with this code."""
    done = run("-d", "shop", "warehouse", *arguments)
    assert done.code == code, done
    assert done.out == ""
    line = done.err.removeprefix("tidegate: ")
    assert line.count("\n") == 1, done.err
    return line


def some_file(shop: Path, table: str) -> Path:
    return sorted((shop / "lake" / table).glob("*/*.parquet"))[0]


def test_no_lake(run: CommandLine) -> None:
    assert refused(run, 78, "build") == (
        "shop/lake: no lake there; `tidegate up` writes one, `tidegate demo` makes one in its own "
        "directory\n"
    )


def test_no_warehouse(run: CommandLine, shop: Path) -> None:
    (shop / "warehouse" / "warehouse.duckdb").unlink()
    line = f"{FILE}: no warehouse there; `tidegate warehouse build` makes it\n"
    assert refused(run, 78, "query", ONE) == line
    assert refused(run, 78, "docs") == line
    assert refused(run, 78, "reprocess") == (
        f"{FILE}: no warehouse of these models yet; `tidegate warehouse build` makes it\n"
    )


def test_no_dbt_project(
    run: CommandLine, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_WAREHOUSE_SQL", str(tmp_path))
    assert refused(run, 78, "build") == (
        f"{tmp_path}: no dbt project; set warehouse_sql to the folder with dbt_project.yml\n"
    )


def test_a_file_that_is_gone(run: CommandLine, shop: Path) -> None:
    before = (shop / "warehouse" / "warehouse.duckdb").read_bytes()
    file = some_file(shop, "clickstream")
    held = pq.read_metadata(file).num_rows
    file.unlink()
    line = refused(run, 78, "build")
    found = re.fullmatch(
        r"shop/lake/clickstream: slot (\S+) has written ([\d,]+) records of \S+, its files "
        r"hold ([\d,]+); restore the files that are gone\n",
        line,
    )
    assert found, line
    assert file.name.startswith(found[1])
    assert int(found[2].replace(",", "")) - int(found[3].replace(",", "")) == held
    assert (shop / "warehouse" / "warehouse.duckdb").read_bytes() == before


def test_a_file_that_is_half_written(run: CommandLine, shop: Path) -> None:
    file = some_file(shop, "clickstream")
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[: len(whole) // 2])
    line = refused(run, 78, "build")
    assert file.name in line
    assert line.startswith("shop/lake/clickstream: Invalid Input Error")
    assert line.endswith("; move that file out of the lake, and load its records again\n")


def test_a_column_that_no_contract_knows(run: CommandLine, shop: Path) -> None:
    file = some_file(shop, "labels")
    table = pq.ParquetFile(file).read()
    file.unlink()
    pq.write_table(table.append_column("mood", pa.nulls(len(table), pa.string())), file)
    assert refused(run, 78, "build") == (
        "shop/lake/labels has a column 'mood' that its contract does not know; "
        "use the schemas/ with which the lake was written\n"
    )


def test_another_build_is_under_way(run: CommandLine, shop: Path) -> None:
    lease = Lease(shop / "warehouse", "a test", Duration.parse("0s"))
    line = refused(run, 75, "build")
    assert line.startswith("the warehouse: held by process ")
    assert run("-d", "shop", "warehouse", "query", "--csv", ONE).code == 0
    lease.release()


def test_another_program_writes_to_the_warehouse(run: CommandLine, shop: Path) -> None:
    with held(shop / "warehouse" / "warehouse.duckdb"):
        for command in (["build"], ["query", ONE]):
            line = refused(run, 75, *command)
            assert line.startswith(f"{FILE}: another program holds it; end that one first: ")


@contextmanager
def held(file: Path) -> Iterator[None]:
    program = f"import duckdb; c = duckdb.connect({str(file)!r}); print('up', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        yield
    finally:
        holder.communicate(b"\n")


def test_a_file_that_is_no_warehouse(run: CommandLine, shop: Path) -> None:
    (shop / "warehouse" / "warehouse.duckdb").write_bytes(b"no database" * 1_000)
    for command in (["build"], ["query", ONE]):
        line = refused(run, 78, *command)
        assert line.startswith(f"{FILE}: ")
        assert line.endswith("; remove the file, and build again\n")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["query", "SELEC"], 78, "Parser Error: syntax error at or near"),
        (["query", "SELECT * FROM gold.fact"], 78, "Table with name fact does not exist!"),
        (["query", "DROP TABLE gold.fct_events"], 78, "read-only"),
        (["query", "--csv", "--json", "SELECT 1"], 2, "--csv or --json, not both"),
        (["reprocess", "--to", "2026-03-02"], 2, "need --from, the first date"),
        (["reprocess", "--from", "march"], 2, "'march' is no date such as 2026-05-01"),
        (["reprocess", "--from", "2026-03-02", "--to", "2026-03-01"], 2, "is before --from"),
        (["reprocess", "--from", "2026-03-02", "--source", "x"], 78, "'x' is no table of the lake"),
    ],
)
def test_what_cannot_be_asked_for(
    words: list[str], code: int, says: str, run: CommandLine, shop: Path
) -> None:
    assert says in refused(run, code, *words)


def test_dbt_is_killed(run: CommandLine, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of what it says."""
    before = (shop / "warehouse" / "warehouse.duckdb").read_bytes()
    program = 'import os; os.write(1, b\'{"started": "stg_\'); os.kill(os.getpid(), 9)'
    monkeypatch.setattr(dbt, "_PROCESS", (sys.executable, "-c", program))
    assert refused(run, 75, "build", "--full") == (
        "dbt build was ended by SIGKILL; the warehouse is as it was: build again, with more memory "
        "if it was short of that\n"
    )
    assert (shop / "warehouse" / "warehouse.duckdb").read_bytes() == before


def test_a_model_that_fails(
    run: CommandLine, shop: Path, built: Built, in_this_process: None
) -> None:
    """A page of a file is broken, which only reading it shows."""
    file = some_file(shop, "sessions")
    content = bytearray(file.read_bytes())
    content[4:60] = b"\xff" * 56
    file.unlink()
    file.write_bytes(content)
    before = built.file.read_bytes()
    line = refused(run, 78, "build", "--full")
    assert line.startswith("models/silver/stg_sessions.sql: stg_sessions failed: Runtime Error ")
    assert line.endswith(
        "; the warehouse is as it was; `tidegate warehouse query --failed` asks what was built\n"
    )
    assert (shop / "warehouse" / "warehouse.duckdb").read_bytes() == before
    asked = run("-d", "shop", "warehouse", "query", "--failed", "SELECT 1 FROM silver.stg_labels")
    assert asked.code == 0


def test_a_test_that_fails(run: CommandLine, shop: Path, built: Built) -> None:
    payment = next(d for d in built.shop.of("transactions") if "items" in d.document)
    wrong = payment.document | {"transaction_id": "wrong", "total_amount": "0.01"}
    put(shop / "lake", [payment.__class__(payment.topic, wrong, payment.arrived_at)])
    before = built.file.read_bytes()
    assert refused(run, 1, "build") == (
        f"{FILE}: 1 test fails: items_add_up_to_their_payment (1 rows); the warehouse is as it "
        "was; `tidegate warehouse query --failed` asks what was built\n"
    )
    assert (shop / "warehouse" / "warehouse.duckdb").read_bytes() == before
    which = "SELECT transaction_id FROM gold.fct_transactions WHERE total_amount = 0.01"
    asked = run("-d", "shop", "warehouse", "query", "--failed", "--csv", which)
    assert asked.out == "transaction_id\nwrong\n"
