"""`tidegate features`: the same rows from Parquet, CSV and JSON lines; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from command_line import CommandLine

from dataflows.runtime.config import HOUSE
from services.simulator.handbook import HandbookSettings, simulate_handbook

HANDBOOK = HOUSE / "features" / "handbook.yaml"
SPEC = """\
time: at
id: nr
label: {field: bad, known: told}
fields: {who: text, amount: number, new: boolean}
features:
  - {name: amount, value: amount}
  - {name: new, value: new}
  - {name: sum, entity: who, aggregate: sum, of: amount, window: 1d}
  - {name: risk, entity: who, aggregate: risk, window: 1d}
"""
CSV = """\
nr,at,who,amount,new,bad,told
1,2026-05-01T00:00:00Z,ann,10.50,true,1,2026-05-01T02:00:00Z
2,2026-05-01T03:00:00Z,ann,2,false,0,
3,2026-05-01T01:00:00Z,ann,,,0,
4,2026-05-01T04:00:00Z,,7,0,0,
"""


@pytest.fixture
def tidegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    (tmp_path / "my.yaml").write_text(SPEC)
    (tmp_path / "events.csv").write_text(CSV)
    return CommandLine(tmp_path, monkeypatch, capfd)


def build(tidegate: CommandLine, *more: str) -> str:
    """What the command says; it fails when it says more than a line."""
    arguments = ["--spec", "my.yaml", "--in", "events.csv", "--out", "rows.parquet", *more]
    outcome = tidegate("features", "build", *arguments)
    said = outcome.err if outcome.code else outcome.out
    assert said.count("\n") == 1
    return said.strip()


def test_rows_are_in_the_order_of_the_file_and_know_only_the_past(tidegate: CommandLine) -> None:
    assert build(tidegate).startswith("4 rows of 4 features, 1 of them positive")
    rows = pa.parquet.read_table(tidegate.directory / "rows.parquet").to_pylist()
    assert [row["nr"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["bad"] for row in rows] == [True, False, False, False]
    assert [row["sum"] for row in rows] == [10.5, 12.5, 10.5, None]
    assert [row["risk"] for row in rows] == [0.0, 1 / 3, 0.0, None]  # told at two o'clock
    assert [row["new"] for row in rows] == [True, False, None, False]
    assert [row["amount"] for row in rows] == [10.5, 2.0, None, 7.0]


def test_the_kind_of_file_makes_no_difference(tidegate: CommandLine) -> None:
    table = simulate_handbook(HandbookSettings(customers=20, terminals=30, days=40))
    place = tidegate.directory
    pa.parquet.write_table(table, place / "p.parquet")
    pa.csv.write_csv(table, place / "p.csv")
    lines = table.to_pandas().to_json(
        orient="records", lines=True, date_format="iso", date_unit="us"
    )
    (place / "p.jsonl").write_text(lines)
    made = []
    for name in ("p.parquet", "p.csv", "p.jsonl"):
        outcome = tidegate(
            "features", "build", "--spec", HANDBOOK, "--in", name, "--out", "out.parquet"
        )
        assert outcome.code == 0, outcome.err
        made.append(pa.parquet.read_table(place / "out.parquet"))
    assert made[0].equals(made[1])
    assert made[0].equals(made[2])


def test_in_the_order_of_the_file_late_events_are_late(tidegate: CommandLine) -> None:
    build(tidegate, "--order", "file")
    rows = pa.parquet.read_table(tidegate.directory / "rows.parquet").to_pylist()
    # the second does not know of the third, which comes late, and which was before the label
    assert [row["risk"] for row in rows] == [0.0, 1 / 2, 0.0, None]


def test_columns_are_mapped(tidegate: CommandLine) -> None:
    (tidegate.directory / "events.csv").write_text(CSV.replace("who,amount", "client,eur"))
    assert build(tidegate).startswith(
        "tidegate: events.csv: there is no column 'who': my.yaml needs it, say --map who=COLUMN; "
        "the columns are nr, at, client"
    )
    assert build(tidegate, "--map", "who=client", "--map", "amount=eur").startswith("4 rows")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("10.50", "ten", "events.csv:2: amount: 'ten' is no number"),
        ("10.50", "1e10", "events.csv:2: amount: 1e+10 is beyond 1e+09: use a larger unit"),
        ("2026-05-01T03:00:00Z", "noon", "events.csv:3: at: 'noon' is not a time"),
        ("2026-05-01T03:00:00Z", "", "events.csv:3: at: there is no time: every event needs one"),
        (",1,2026", ",maybe,2026", "events.csv:2: bad: 'maybe' is neither 0 nor 1"),
        ("02:00:00Z", "soon", "events.csv:2: told: '2026-05-01Tsoon' is not a time"),
        (
            "2026-05-01T02:00:00Z",
            "2026-04-01T02:00:00Z",
            "events.csv:2: told: the label was known before the event: correct it",
        ),
        (",true,1", ",perhaps,1", "events.csv:2: new: 'perhaps' is neither 0 nor 1"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(
    old: str, new: str, message: str, tidegate: CommandLine
) -> None:
    (tidegate.directory / "events.csv").write_text(CSV.replace(old, new, 1))
    assert build(tidegate).startswith(f"tidegate: {message}")
    assert not (tidegate.directory / "rows.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--in", "none.csv"], "none.csv: there is no such file"),
        (["--in", "my.yaml"], "my.yaml: is none of .parquet, .csv, .jsonl by its name"),
        (["--out", "rows.csv"], "rows.csv: the rows are written as Parquet: name it .parquet"),
        (["--out", "no/rows.parquet"], "no/rows.parquet: cannot be written: No such file"),
        (["--map", "whom=who"], "--map whom=who: my.yaml has no such field (did you mean who?)"),
        (["--in", "broken.jsonl"], "broken.jsonl:2: is no JSON object"),
        (["--in", "empty.csv"], "empty.csv: the file is empty"),
        (["--in", "broken.parquet"], "broken.parquet: cannot be read: "),
    ],
)
def test_what_cannot_be_is_named(arguments: list[str], message: str, tidegate: CommandLine) -> None:
    (tidegate.directory / "broken.jsonl").write_text('{"at": 1}\n{"at": \n')
    (tidegate.directory / "broken.parquet").write_text("PAR1")
    (tidegate.directory / "empty.csv").write_text("")
    assert build(tidegate, *arguments).startswith(f"tidegate: {message}")


def test_check_says_what_a_spec_costs(tidegate: CommandLine) -> None:
    outcome = tidegate("features", "check", HANDBOOK, "--events-per-day", "1000")
    assert outcome.code == 0
    assert "terminal_id: labels, kept 37d (time, since when it is known)" in outcome.out
    assert "events a CPU-second on this machine" in outcome.out
    (tidegate.directory / "my.yaml").write_text(SPEC.replace("sum, of", "sum, oof"))
    refused = tidegate("features", "check", "my.yaml")
    assert (refused.code, refused.err.count("\n")) == (78, 1)
    assert refused.err.startswith("tidegate: my.yaml:8: features[2].oof: there is no such field")
