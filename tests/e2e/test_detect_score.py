"""`tidegate detect score`: a series in, its scores out; whatever is wrong is named by its place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import random
import re
from pathlib import Path

import pytest
from command_line import CommandLine

SEED = 4
MINUTES = 5


@pytest.fixture
def tidegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capfd)


def series(rows: int = 1_500, spike: int = 1_200) -> str:
    """Five minutes a row, with a season of a day; at `spike` something happens."""
    random.seed(SEED)
    lines = ["timestamp,value"]
    for row in range(rows):
        value = 50 + 20 * math.sin(row * 2 * math.pi / 288) + random.gauss(0, 1)
        day, minute = divmod(row * MINUTES, 1_440)
        time = f"2026-05-{day + 1:02d} {minute // 60:02d}:{minute % 60:02d}:00"
        lines.append(f"{time},{value + 60 * (spike <= row < spike + 5):.2f}")
    return "\n".join(lines) + "\n"


def score(tidegate: CommandLine, text: str | bytes, *more: str) -> tuple[int, str, str]:
    raw = text.encode() if isinstance(text, str) else text
    (tidegate.directory / "s.csv").write_bytes(raw)
    return tidegate("detect", "score", "--in", "s.csv", "--out", "out.csv", *more)


def written(tidegate: CommandLine) -> list[list[str]]:
    return list(csv.reader(io.StringIO((tidegate.directory / "out.csv").read_text("utf-8"))))


def test_each_row_gets_a_score_and_stays_as_it_was(tidegate: CommandLine) -> None:
    text = series()
    code, out, err = score(tidegate, text)
    assert (code, err) == (0, "")
    header, *rows = written(tidegate)
    assert header == ["timestamp", "value", "anomaly_score"]
    assert [row[:2] for row in rows] == [line.split(",") for line in text.splitlines()[1:]]
    scores = [float(row[2]) for row in rows]
    assert all(0 <= score <= 1 for score in scores)
    assert scores[1_200] == max(scores) > 0.5
    assert out.startswith(
        "1,500 rows scored; the scores are in out.csv\n1 row reaches a score of 0.5:\n"
        "  line 1202  2026-05-05 04:00:00  score "
    )


def test_the_scores_of_a_beginning_are_the_beginning_of_the_scores(tidegate: CommandLine) -> None:
    score(tidegate, series())
    whole = written(tidegate)
    score(tidegate, series(rows=1_201))
    assert written(tidegate) == whole[:1_202]


def test_the_summary_for_programs(tidegate: CommandLine) -> None:
    code, out, _ = score(tidegate, series(), "--json")
    told = json.loads(out)
    assert (code, told["rows"], told["missing"]) == (0, 1_500, 0)
    assert told["from"] == "2026-05-01T00:00:00.000000Z"
    (alert,) = told["alerts"]
    assert (alert["line"], alert["timestamp"]) == (1_202, "2026-05-05 04:00:00")
    assert alert["lower"] < alert["expected"] < alert["upper"] < alert["value"]


def test_the_plot_is_one_file_that_needs_nothing_else(tidegate: CommandLine) -> None:
    code, _, err = score(tidegate, series(), "--plot", "plot.html")
    assert (code, err) == (0, "")
    page = (tidegate.directory / "plot.html").read_text("utf-8")
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"\b(src|href)=", markup)
    found = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)
    assert found
    figures = json.loads(found[1])
    names = [trace["name"] for trace in figures["values"]["data"]]
    assert names == ["lower", "expected band", "expected", "value", "alert"]
    assert figures["values"]["data"][-1]["x"] == ["2026-05-05T04:00:00.000000Z"]
    assert len(figures["scores"]["data"][0]["y"]) == 1_500


def test_a_long_series_is_drawn_by_what_stands_out(tidegate: CommandLine) -> None:
    lines = series(rows=3_000, spike=2_500).splitlines()
    text = "\n".join([lines[0], *lines[1:] * 12]) + "\n"
    code, _, _ = score(tidegate, text, "--plot", "plot.html")
    page = (tidegate.directory / "plot.html").read_text("utf-8")
    assert code == 0
    assert "Drawn are the rows that stand out" in page
    figures = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)
    assert figures
    drawn = json.loads(figures[1])["values"]["data"][3]["y"]
    assert len(drawn) < 20_100
    values = [float(line.partition(",")[2]) for line in lines[1:]]
    assert (min(drawn), max(drawn)) == (min(values), max(values))


def test_a_name_is_text_on_the_page(tidegate: CommandLine) -> None:
    name = "<script>alert(1)</script>.csv".replace("/", "\N{DIVISION SLASH}")
    (tidegate.directory / name).write_text(series(rows=50))
    done = tidegate("detect", "score", "--in", name, "--out", "o.csv", "--plot", "p.html")
    assert done.code == 0
    assert "<script>alert" not in (tidegate.directory / "p.html").read_text("utf-8")


# --- what is taken -------------------------------------------------------------------------------


def test_other_columns_are_ignored_and_named(tidegate: CommandLine) -> None:
    code, _, err = score(tidegate, "host,value,timestamp\na,3,2026-05-01\n")
    assert code == 0
    assert err == "tidegate: s.csv: columns ignored: host\n"
    assert written(tidegate)[1] == ["2026-05-01", "3", "0.000000"]


def test_compressed_to_standard_output(tidegate: CommandLine) -> None:
    (tidegate.directory / "s.csv.gz").write_bytes(gzip.compress(series(rows=3).encode()))
    done = tidegate("detect", "score", "--in", "s.csv.gz", "--out", "-")
    assert done.code == 0
    assert done.out.splitlines()[0] == "timestamp,value,anomaly_score"
    assert len(done.out.splitlines()) == 4


@pytest.mark.parametrize("missing", ["", "NaN", "null", "NA", "None", "  "])
def test_a_missing_value_keeps_its_row(tidegate: CommandLine, missing: str) -> None:
    code, out, _ = score(tidegate, f"timestamp,value\n2026-05-01,3\n2026-05-02,{missing}\n")
    assert code == 0
    assert "2 rows scored, 1 without a value" in out
    assert written(tidegate)[2] == ["2026-05-02", missing, "0.000000"]


def test_times_that_repeat_or_go_back_are_told(tidegate: CommandLine) -> None:
    text = "timestamp,value\n2026-05-02,3\n2026-05-02,3\n2026-05-01,4\n2026-05-01,4\n"
    code, _, err = score(tidegate, text)
    assert code == 0
    assert err.splitlines() == [
        "tidegate: s.csv:4: 1 timestamp is earlier than the row before; rows are scored in the "
        "order of the file",
        "tidegate: s.csv:3: 2 timestamps are the same as the row before; rows are scored in the "
        "order of the file",
    ]
    assert [row[0] for row in written(tidegate)[1:]] == ["2026-05-02"] * 2 + ["2026-05-01"] * 2


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("timestamp,value", "1777593600000,1", ["1777593600000", "1", "0.000000"]),
        ("timestamp;value", "2026-05-01;1e3", ["2026-05-01", "1e3", "0.000000"]),
        (
            '"timestamp","value"',
            '"2026-05-01 10:00:00,5","7"',
            ["2026-05-01 10:00:00,5", "7", "0.000000"],
        ),
        ("\ufefftimestamp,value\r", "2026-05-01T10:00:00+02:00,-.5\r", None),
        ("\n\ntimestamp , value", "2026-05-01,+5.", ["2026-05-01", "+5.", "0.000000"]),
    ],
)
def test_ways_of_writing_it(
    tidegate: CommandLine, header: str, row: str, expected: list[str] | None
) -> None:
    code, _, err = score(tidegate, f"{header}\n{row}\n\n")
    assert (code, err) == (0, "")
    wanted = expected or ["2026-05-01T10:00:00+02:00", "-.5", "0.000000"]
    assert written(tidegate)[1:] == [wanted]


def test_a_format_of_ones_own(tidegate: CommandLine) -> None:
    text = "timestamp,value\n1777593600,1\n"
    code, _, err = score(tidegate, text)
    assert code == 78
    assert "s.csv:2:1: 1777593600 is not clearly a time" in err
    assert score(tidegate, text, "--timestamp-format", "%s")[0] == 0


# --- what is refused -----------------------------------------------------------------------------

HEAD = "timestamp,value\n2026-05-01,1\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "s.csv: the file is empty"),
        ("\n \n", "s.csv: the file is empty"),
        ("timestamp,value\n", "s.csv: there is no row below the header"),
        ("time,value\n2026-05-01,1\n", "s.csv:1: there is no column 'timestamp', only time, value"),
        ("2026-05-01,1\n2026-05-02,2\n", "s.csv:1: there is no column 'timestamp', only 2026"),
        ("timestamp,value,value\n", "s.csv:1: the header names 'value' twice"),
        (f"{HEAD}2026-05-02,abc\n", "s.csv:3:12: 'abc' is no number"),
        (f"{HEAD}2026-05-02,inf\n", "s.csv:3:12: 'inf' is no number"),
        (f"{HEAD}2026-05-02,1_000\n", "s.csv:3:12: '1_000' is no number"),
        (f"{HEAD}2026-05-02,٣\n", "s.csv:3:12: '٣' is no number"),
        (f"{HEAD}2026-05-02,1-2\n", "s.csv:3:12: '1-2' is no number"),
        (f"{HEAD}2026-05-02,1e999\n", "s.csv:3:12: '1e999' is too large a number"),
        (f"{HEAD}2026-05-02,1e200\n", "s.csv:3:12: '1e200' is too large a number"),
        (f"{HEAD}yesterday,1\n", "s.csv:3:1: 'yesterday' is not a time"),
        (f"{HEAD}2026-02-30,1\n", "s.csv:3:1: '2026-02-30' is not a time"),
        (f"{HEAD},1\n", "s.csv:3:1: there is no timestamp"),
        (f"{HEAD}2026-05-02\n", "s.csv:3: 1 cells where the header has 2"),
        (f"{HEAD}2026-05-02,1,2\n", "s.csv:3: 3 cells where the header has 2"),
        (f'{HEAD}2026-05-02,"1\n', "s.csv:3:12: this quote is not closed in its line"),
        (HEAD.encode() + b"2026-05-02,\xff\n", "s.csv:3:12: byte 0xff is not UTF-8"),
        (series().encode("utf-16"), "s.csv: the file is UTF-16"),
        (gzip.compress(series().encode())[:300], "the compressed data ends early"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(
    tidegate: CommandLine, text: str | bytes, told: str
) -> None:
    code, out, err = score(tidegate, text)
    assert (code, out) == (78, "")
    assert told in err
    assert err.count("\n") == 1
    assert not (tidegate.directory / "out.csv").exists()
    assert [file.name for file in tidegate.directory.iterdir()] == ["s.csv"]


@pytest.mark.slow
def test_any_text_is_survived(tidegate: CommandLine, shared_data: Path) -> None:
    texts = json.loads((shared_data / "naughty_strings.json").read_text("utf-8"))
    for number, text in enumerate(texts):
        row = f"{text},1" if number % 2 else f"2026-05-02,{text}"
        code, _, err = score(tidegate, f"{HEAD}{row}\n")
        assert code in (0, 78), (row, err)
        assert "Traceback" not in err
        assert code == 0 or err.count("\n") == 1


def test_what_was_there_stays_when_it_is_refused(tidegate: CommandLine) -> None:
    assert score(tidegate, series())[0] == 0
    before = written(tidegate)
    assert score(tidegate, f"{HEAD}2026-05-02,abc\n")[0] == 78
    assert written(tidegate) == before


def test_real_series_from_end_to_end(tidegate: CommandLine, shared_data: Path) -> None:
    for file in sorted((shared_data / "nab").glob("*/*.csv")):
        done = tidegate("detect", "score", "--in", file, "--out", "out.csv")
        assert done.code == 0
        given = file.read_text("utf-8").splitlines()
        assert [",".join(row[:2]) for row in written(tidegate)] == given
