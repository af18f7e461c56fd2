"""The command line: help with examples, output for programs, exit codes, empty beginnings."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from command_line import CommandLine, commands
from places import COMMAND, Place

from dataflows.runtime.config import HOUSE
from dataflows.runtime.exits import Exit

COMMANDS = dict(commands())
WITH_JSON = {
    words
    for words, command in COMMANDS.items()
    if any("--json" in parameter.opts for parameter in command.params)
}
EVENT = {
    "event_id": "e1",
    "event_type": "page_view",
    "user_id": "u1",
    "event_timestamp": "2026-05-01T12:00:00Z",
}


@pytest.fixture
def tidegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    (tmp_path / "events.jsonl").write_text(json.dumps(EVENT) + "\n")
    (tmp_path / "series.csv").write_text("timestamp,value\n2026-05-01,3\n")
    return CommandLine(tmp_path, monkeypatch, capfd)


# --- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "tidegate")
def test_help_shows_how_a_command_is_used(words: tuple[str, ...], tidegate: CommandLine) -> None:
    shown = tidegate(*words, "--help")
    assert shown.code == 0
    assert shown.err == ""
    text = re.sub(r"\s+", " ", shown.out)
    wanted = ("tidegate up",) if not words else ("Example", " ".join(("tidegate", *words)))
    assert all(part in text for part in wanted)


def test_help_tells_every_exit_code(tidegate: CommandLine) -> None:
    told = tidegate("--help").out.partition("Exit codes:")[2]
    assert {int(number) for number in re.findall(r"\b\d+\b", told)} == set(Exit)


def test_completion_offers_commands_and_options(tmp_path: Path) -> None:
    def completed(words: str, count: int) -> list[str]:
        done = subprocess.run(
            COMMAND,
            cwd=tmp_path,
            env={
                "_TIDEGATE_COMPLETE": "complete_bash",
                "COMP_WORDS": words,
                "COMP_CWORD": f"{count}",
            },
            capture_output=True,
            text=True,
        )
        return done.stdout.split()

    assert completed("tidegate re", 1) == ["reset", "reshard", "replay"]
    assert "--final" in completed("tidegate replay --f", 2)


# --- output for programs -------------------------------------------------------------------------

JSON_CALLS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("status",): (),
    ("topics",): (),
    ("topics", "plan"): (),
    ("topics", "apply"): (),
    ("peek",): ("raw.clickstream",),
    ("doctor",): (),
    ("version",): (),
    ("publish",): ("clickstream", "events.jsonl"),
    ("replay",): ("sessionize", "--in", "events.jsonl", "--out", "out"),
    ("detect", "score"): ("--in", "series.csv", "--out", "scores.csv"),
    ("rules", "list"): (),
    ("metrics", "list"): (),
    ("metrics", "check"): (),
    ("contracts", "list"): (),
    ("contracts", "check"): (),
    ("schema", "plan"): (),
    ("schema", "history"): ("transactions",),
}


@pytest.mark.parametrize("words", JSON_CALLS, ids=" ".join)
def test_json_is_json_and_alone_on_standard_output(
    words: tuple[str, ...], tidegate: CommandLine
) -> None:
    assert tidegate("publish", "clickstream", "events.jsonl").code == 0
    done = tidegate(*words, *JSON_CALLS[words], "--json")
    assert done.code == 0, done.err
    documents = done.out.splitlines() if words == ("peek",) else [done.out]
    assert all(json.loads(document) for document in documents)
    assert done.err == ""


def test_simulate_tells_the_truth_as_json(place: Place) -> None:
    done = place.tidegate("simulate", "--events", "3000", "--customers", "30", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["sources"]["clickstream"]["total"] > 1_000


def test_no_json_option_is_left_untried() -> None:
    of_state = {("state", "export"), ("state", "show"), ("state", "restore")}
    of_warehouse = {
        ("warehouse", command) for command in ("build", "docs", "freshness", "query", "reprocess")
    }  # test_what_programs_read has a warehouse to ask
    # test_expired_events_are_merged has some in quarantine
    of_warehouse.add(("warehouse", "quarantined"))
    # test_archive_commands has an archive to look at
    archive = {("archive", c) for c in ("export", "list", "verify", "restore", "drill")}
    # test_cost_command has a warehouse to price
    # test_moving_a_slot has state to show
    # test_training_command, test_rules_on_the_past and test_explain_a_decision have what they need
    # test_rules_in_force has rules to apply
    of_rules = {("rules", command) for command in ("backtest", "plan", "apply", "history")}
    # test_models_in_force and test_a_model_scores_payments have models to judge
    of_models = {("models", command) for command in ("show", "history", "trial", "drift")}
    of_detection = {*of_models, *of_rules, ("explain",)}
    by_themselves = {("simulate",), ("health",), ("cost",)}
    elsewhere = {*by_themselves, *archive, *of_state, *of_warehouse, *of_detection}
    assert {*JSON_CALLS, *elsewhere} == WITH_JSON


def test_reshard_says_how_long_it_took_and_what_to_configure(tidegate: CommandLine) -> None:
    file = tidegate.directory / "tidegate.toml"
    file.write_text('[slots]\nreference_wait = "1s"\n')
    assert tidegate("publish", "clickstream", "events.jsonl").code == 0
    done = tidegate("reshard", "sessionize", "--partitions", "4", "--yes")
    assert done.code == 0, done.err
    assert re.search(r"downtime so far \d+\.\d s.*\[partitions\] clickstream = 4", done.out)
    assert "draining ingest: 3 records" in done.err
    refused = tidegate("status")
    assert refused.code == 78
    assert "configure 4" in refused.err
    file.write_text("[partitions]\nclickstream = 4\n")
    assert tidegate("status").code == 0
    assert tidegate("topics", "plan").code == 0


def test_schema_apply_asks_before_it_does_anything(
    tidegate: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(HOUSE / "schemas", tidegate.directory / "schemas")
    shutil.copytree(HOUSE / "warehouse_sql", tidegate.directory / "warehouse_sql")
    (tidegate.directory / "tidegate.toml").write_text(
        'schemas = "schemas"\nwarehouse_sql = "warehouse_sql"\n'
    )
    history = tidegate.directory / "schemas" / "history" / "labels"
    before = {file: file.read_bytes() for file in history.iterdir()}
    schema = json.loads((tidegate.directory / "schemas/labels/v1.schema.json").read_text())
    schema["properties"]["why"] = {"type": "string"}
    (tidegate.directory / "schemas/labels/v1.schema.json").write_text(json.dumps(schema))
    for answer, code in (("n", 1), ("y", 0)):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
        done = tidegate("schema", "apply")
        assert done.code == code
        assert "add      labels.why: text optional" in done.out
        assert ({file: file.read_bytes() for file in history.iterdir()} == before) == (code == 1)
    planned = tidegate("schema", "plan")
    assert planned.code == 0
    assert "Nothing to do" in planned.out
    assert "+ why: text, optional" in tidegate("schema", "history", "labels").out


# --- usage ---------------------------------------------------------------------------------------

REPLAY = ("replay", "sessionize", "--in", "events.jsonl", "--out", "out")
WRONG: dict[str, tuple[int, str]] = {
    "nope": (2, "'nope'"),
    "--nope": (2, "--nope"),
    "peek": (2, "topic"),
    "run": (2, "FLOW"),
    "run nope": (2, "sessionize, features, score"),
    "run ingest --slot raw.clickstream/7": (2, "raw.clickstream/0, raw.clickstream/1"),
    "run ingest --port x": (2, "--port"),
    "status nope": (2, "ingest, sessionize"),
    "reset nope --yes": (2, "ingest, sessionize"),
    "reset --yes": (2, "--all"),
    "reset ingest --all --yes": (2, "--all"),
    "up --for -1": (2, "--for"),
    "reshard nope --partitions 4 --yes": (78, "sessionize, features, score, or a source: "),
    "reshard sessionize --partitions 0": (2, "--partitions"),
    "reshard sessionize --partitions 4 --yes": (78, "nothing to reshard"),
    "publish nope events.jsonl": (2, "clickstream, customer_profiles"),
    "publish clickstream": (2, "FILE"),
    "publish clickstream nowhere.jsonl": (78, "there is no such file"),
    "publish clickstream events.jsonl --format xml": (78, "jsonl, csv, combined-log"),
    "publish clickstream events.jsonl --map user_id": (78, "--map field=column"),
    "publish clickstream events.jsonl --order size": (78, "file, time"),
    "peek nope": (78, "`tidegate topics`"),
    "peek raw.clickstream -n 0": (2, "--count"),
    "peek raw.clickstream --partition 9": (78, "partitions 0..1"),
    "peek raw.clickstream --partition 0 --offset 9": (78, "offset 9"),
    "simulate --events 10": (2, "--events"),
    "simulate --start yesterday": (2, "2026-05-01"),
    "simulate --mix clickstream": (2, "SOURCE=SHARE"),
    "simulate --mix nope=0.1": (78, "clickstream, transactions"),
    "simulate --mix transactions=7": (78, "shares"),
    "replay nope --in events.jsonl --out out": (2, "ingest, sessionize"),
    "replay load --in events.jsonl --out out": (78, "replay the flows before it"),
    "replay ingest --source nope --in events.jsonl --out out": (78, "clickstream, customer"),
    "replay sessionize --in nowhere.jsonl --out out": (78, "nowhere.jsonl: cannot be read"),
    "replay sessionize --in . --out out": (78, "cannot be read"),
    "replay sessionize --in events.jsonl": (2, "--out"),
    f"{' '.join(REPLAY)} --set gap": (78, "KEY=VALUE"),
    f"{' '.join(REPLAY)} --set gap=soon": (78, "10ms, 30s"),
    f"{' '.join(REPLAY)} --set gap=10": (78, "30s"),
    f"{' '.join(REPLAY)} --set nope=10ms": (78, "gap"),
    f"{' '.join(REPLAY)} --set lateness=9d": (78, "horizon"),
    f"{' '.join(REPLAY)} --arrival soon": (2, "2026-05-01T12:00:00Z"),
    f"{' '.join(REPLAY)} --records": (78, "events.jsonl:1"),
    "schema history nope": (2, "clickstream, customer_profiles"),
    "schema plan --bigquery nope": (78, "project.dataset"),
    "detect score --in series.csv": (2, "--out"),
    "detect score --in series.csv --out - --json": (2, "standard output"),
    "detect score --in series.csv --out x.csv --threshold 7": (2, "--threshold"),
    "detect score --in serie.csv --out x.csv": (78, "serie.csv: there is no such file (did you"),
    "detect score --in . --out x.csv": (78, "is a directory"),
    "detect score --in series.csv --out nowhere/x.csv": (78, "nowhere/x.csv: cannot be written"),
    "detect score --in series.csv --out x.csv --plot nowhere/x": (78, "no folder nowhere"),
    "detect score --in series.csv --out ./series.csv": (78, "is the input itself"),
    "detect score --in events.jsonl --out x.csv": (78, "events.jsonl:1: there is no column"),
    "cost": (78, ".tidegate/lake: no lake there; `tidegate up`"),
    "cost --from yesterday": (2, "no date such as 2026-05-01"),
    "cost --from 2026-05-02 --to 2026-05-01": (2, "--to 2026-05-01 is before --from"),
    "cost --scale 0": (2, "--scale 0 is no traffic"),
    "cost --scale ten": (2, "--scale 'ten' is no number"),
    "cost --budget -1": (2, "--budget '-1' is no number"),
    "cost --budget 50USD": (2, "--budget '50USD' is no number"),
    "cost --prices nowhere.yaml": (78, "nowhere.yaml: there is no such price file"),
    "cost --prices events.jsonl": (78, "events.jsonl:1: event_id: there is no such field"),
    "--config nowhere.toml status": (78, "nowhere.toml"),
    "--config events.jsonl status": (78, "events.jsonl"),
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_usage_is_told_in_one_line(line: str, tidegate: CommandLine) -> None:
    code, hint = WRONG[line]
    refused = tidegate(*line.split())
    assert refused.code == code, refused.err
    (told,) = refused.err.splitlines()
    assert told.startswith("tidegate: ")
    assert hint in told
    assert refused.out == ""


@pytest.mark.parametrize(("trouble", "code"), [(ValueError, 70), (KeyboardInterrupt, 130)])
def test_what_nobody_foresaw_is_told_apart_from_a_no(
    trouble: type[BaseException], code: int, tidegate: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> str:
        raise trouble(name)

    monkeypatch.setattr("importlib.metadata.version", fail)
    ended = tidegate("version")
    assert ended.code == code
    assert ("Traceback" in ended.err) == (trouble is ValueError)


def test_an_unknown_setting_is_refused_with_its_place(tidegate: CommandLine) -> None:
    (tidegate.directory / "tidegate.toml").write_text("[event_time]\ngapp = '1s'\n")
    refused = tidegate("status")
    assert refused.code == 78
    assert refused.err.count("\n") == 1
    assert "gapp" in refused.err
    assert "tidegate.toml" in refused.err


def test_a_reader_that_stops_reading_is_no_failure(place: Place) -> None:
    values = "".join(json.dumps({**EVENT, "event_id": f"e{n}"}) + "\n" for n in range(5_000))
    assert place.tidegate("publish", "clickstream", "-", stdin=values.encode()).returncode == 0
    command = " ".join([*COMMAND, "peek", "raw.clickstream", "-n", "5000"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -1"],
        cwd=place.directory,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("raw.clickstream/")


# --- empty beginnings ----------------------------------------------------------------------------


def test_an_empty_directory_is_met_with_what_to_do(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.config_file.unlink()
    status = place.tidegate("status")
    assert "`tidegate up`" in status.stdout
    assert "`tidegate simulate`" in status.stdout
    topics = place.tidegate("topics")
    assert re.search(r"^raw\.clickstream +2 +0 +0$", topics.stdout, re.MULTILINE)
    assert "`tidegate publish`" in topics.stdout
    peek = place.tidegate("peek", "sessions")
    assert "sessions holds no records" in peek.stderr
    for done in (status, topics, peek):
        assert done.returncode == 0
        assert "Traceback" not in done.stderr
    assert place.tidegate("peek", "sessions", "--json").stdout == ""
