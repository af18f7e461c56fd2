"""A slot starts only where its state, its log, its settings and its code fit together.

Each refusal is one line that says what to do, and doing that helps: with nothing lost, nothing
published twice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flow_bench import Bench
from payments_to_score import keep_model, request_of
from pyarrow import parquet

from dataflows.connectors.lake import lake_files
from dataflows.connectors.log import LogError
from dataflows.detection.payment_model import NAME
from dataflows.detection.registry import Registry
from dataflows.runtime import slot as slots
from dataflows.runtime.config import load_config
from dataflows.runtime.recovery import reset_recovery
from dataflows.runtime.slot import Refused, Slot
from services.status.peek import Record
from services.status.slots import slot_statuses

Make = Callable[..., Bench]
START = datetime(2026, 5, 1, 12, tzinfo=UTC)
ONE_PARTITION = {"partitions": {"clickstream": 1}}


def visits(first: int, count: int) -> list[bytes | None]:
    """Visitors who come once, an hour apart: each event closes the session before it."""
    return [
        json.dumps(
            {
                "event_type": "page_view",
                "user_id": f"u{number}",
                "event_timestamp": (START + timedelta(hours=number)).isoformat(),
            }
        ).encode()
        for number in range(first, first + count)
    ]


def users(bench: Bench) -> list[str]:
    """Whose sessions were published, in order."""
    return [json.loads(record.value or b"")["user_id"] for record in bench.records("sessions")]


def expected(count: int) -> list[str]:
    """After so many visits: all but the last session are closed."""
    return [f"u{number}" for number in range(count - 1)]


@pytest.fixture
def open_bench(bench: Make) -> Make:
    """A bench with one partition, so that order is simple; again on the same directory, too."""
    return lambda **overrides: bench(**ONE_PARTITION, **overrides)


@pytest.fixture
def ran(open_bench: Make) -> Bench:
    """Ten visits, sessionized."""
    bench = open_bench()
    bench.publish("events.clickstream", visits(0, 10))
    bench.run("sessionize")
    assert users(bench) == expected(10)
    return bench


def state_of(bench: Bench) -> Path:
    return bench.shop.slots("sessionize")[0].directory


def refusal(bench: Bench, flow: str = "sessionize") -> str:
    with pytest.raises(Refused) as caught:
        bench.run(flow)
    message = str(caught.value)
    assert "\n" not in message
    return message


def go_on(bench: Bench, visited: int = 10, more: int = 5) -> None:
    """More visits; all sessions are there afterwards, once."""
    bench.publish("events.clickstream", visits(visited, more))
    bench.run("sessionize")
    assert users(bench) == expected(visited + more)
    (status,) = slot_statuses(bench.shop, ("sessionize",))
    assert (status.records_in, status.lag_records, status.difference) == (visited + more, 0, 0)


def test_another_partition_count_is_refused(bench: Make, ran: Bench) -> None:
    with pytest.raises(
        LogError, match=r"topic \S+clickstream has 1 partition\(s\) .* not 3: .*configure 1"
    ):
        bench(partitions={"clickstream": 3})
    go_on(ran)


def test_other_event_time_settings_are_refused_until_the_flow_is_reset(
    ran: Bench, open_bench: Make
) -> None:
    changed = open_bench(event_time__gap="20m")
    message = refusal(changed)
    assert "event_time.gap = 30m, this is 20m" in message
    assert "tidegate reset sessionize" in message
    reset_recovery(state_of(changed))
    go_on(changed)


def test_a_newer_snapshot_version_is_refused(ran: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    known = slots.SNAPSHOT_VERSION
    with monkeypatch.context() as patch:
        patch.setattr(slots, "SNAPSHOT_VERSION", known - 1)
        message = refusal(ran)
    assert f"snapshot version {known}, this code reads up to {known - 1}" in message
    assert "tidegate reset sessionize" in message
    go_on(ran)


def test_lost_state_is_rebuilt_from_the_log(ran: Bench) -> None:
    shutil.rmtree(ran.shop.config.state_path)
    go_on(ran)


def test_lost_state_with_a_log_that_has_forgotten_is_refused_until_the_flow_is_reset(
    ran: Bench,
) -> None:
    forget_everything(ran)
    shutil.rmtree(state_of(ran))
    message = refusal(ran)
    assert "no longer holds offsets 0..9" in message
    assert "tidegate reset sessionize" in message
    reset_recovery(state_of(ran))
    ran.publish("events.clickstream", visits(10, 5))
    ran.run("sessionize")
    # u9's session was open in the state that is gone, and its event is no longer in the log.
    assert users(ran) == [user for user in expected(15) if user != "u9"]


def test_state_without_its_log_is_refused_until_the_flow_is_reset(
    ran: Bench, open_bench: Make
) -> None:
    empty = on_a_new_log(ran, open_bench)
    message = refusal(empty)
    assert "its state ends at offset 10, but the log holds 0..0" in message
    assert "tidegate reset sessionize" in message


def test_a_new_log_is_not_taken_for_the_old_one_however_much_it_holds(
    ran: Bench, open_bench: Make
) -> None:
    other = on_a_new_log(ran, open_bench)
    other.publish("events.clickstream", visits(0, 20))
    assert "it is another log, or an older copy" in refusal(other)
    reset_recovery(state_of(other))
    go_on(other, visited=20)


def test_an_older_copy_of_the_log_is_refused_until_the_flow_is_reset(
    ran: Bench, open_bench: Make, tmp_path: Path
) -> None:
    ran.log.close()
    log, backup = ran.shop.config.data_path / "log.db", tmp_path / "backup.db"
    shutil.copy(log, backup)
    bench = open_bench()
    go_on(bench)
    bench.log.close()
    shutil.copy(backup, log)
    restored = open_bench()
    restored.publish("events.clickstream", visits(10, 5))
    assert "published after offset 10: it is another log, or an older copy" in refusal(restored)
    reset_recovery(state_of(restored))
    go_on(restored, visited=15)


def test_retention_that_overtook_a_slot_is_refused_naming_the_gap_until_the_flow_is_reset(
    ran: Bench,
) -> None:
    ran.publish("events.clickstream", visits(10, 3))
    forget_everything(ran)
    ran.publish("events.clickstream", visits(13, 3))
    message = refusal(ran)
    assert "retention removed offsets 10..12 before it read them" in message
    assert "tidegate reset sessionize" in message
    reset_recovery(state_of(ran))
    ran.run("sessionize")
    assert users(ran) == [*expected(10), "u13", "u14"]
    (status,) = slot_statuses(ran.shop, ("sessionize",))
    assert status.difference == 3  # what was lost stays visible


def forget_everything(bench: Bench) -> None:
    bench.log.apply_retention(2**61, {"events.clickstream": 1.0})


def on_a_new_log(bench: Bench, open_bench: Make) -> Bench:
    bench.log.close()
    for file in bench.shop.config.data_path.glob("log.db*"):
        file.unlink()
    return open_bench()


# --- rules ---------------------------------------------------------------------------------------


def requests(first: int, count: int) -> list[bytes | None]:
    payment = {"user_id": "u", "cents": 100}
    return [
        request_of(
            payment | {"transaction_id": f"t{number}", "time": START + timedelta(hours=number)}
        )
        for number in range(first, first + count)
    ]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "rules"
    shutil.copytree(load_config().rules, folder)
    return folder


def score_twice(bench: Bench, before: Path) -> tuple[Slot, list[Record]]:
    """The slot, whose state after the first half is copied, and what it published."""
    bench.publish("scoring.requests", requests(0, 5))
    bench.run("score")
    (slot,) = bench.shop.slots("score")
    shutil.copytree(slot.directory, before)
    bench.publish("scoring.requests", requests(5, 5))
    bench.run("score")
    return slot, bench.records("scores")


def test_changed_rules_hold_from_what_is_not_published_yet_on(
    open_bench: Make, rules: Path, tmp_path: Path
) -> None:
    bench = open_bench(rules=str(rules))
    slot, scored = score_twice(bench, tmp_path / "before")
    # What kill -9 leaves: outputs that the last snapshot does not cover.
    shutil.rmtree(slot.directory)
    shutil.copytree(tmp_path / "before", slot.directory)
    (rules / "night_owl.yaml").unlink()
    changed = open_bench(rules=str(rules))
    changed.publish("scoring.requests", requests(10, 1))
    changed.run("score")
    *before, last = changed.records("scores")
    assert before == scored
    assert json.loads(last.value or b"")["rule_set"] == changed.shop.rules.version
    assert changed.shop.rules.version != bench.shop.rules.version


def promote(models: Path, weight: float) -> str:
    """Makes a model of the amount alone the champion; its version."""
    version = keep_model(models, weight)
    Registry(models).promote(NAME, version, "2026-05-01T00:00:00+00:00", "promoted")
    return version


def test_another_champion_scores_what_is_not_published_yet(
    open_bench: Make, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    first = promote(models, 0.5)
    bench = open_bench(models=str(models))
    slot, scored = score_twice(bench, tmp_path / "before")
    assert {json.loads(record.value or b"")["model"] for record in scored} == {first}

    second = promote(models, 0.7)
    after_clean_stop = open_bench(models=str(models))
    after_clean_stop.publish("scoring.requests", requests(10, 1))
    after_clean_stop.run("score")
    *_, last = after_clean_stop.records("scores")
    assert json.loads(last.value or b"")["model"] == second
    assert after_clean_stop.records("scores")[:-1] == scored

    shutil.rmtree(slot.directory)
    shutil.copytree(tmp_path / "before", slot.directory)
    without = open_bench(models=str(tmp_path / "none"))
    before = without.records("scores")
    without.publish("scoring.requests", requests(11, 1))
    without.run("score")
    *same, last = without.records("scores")
    assert same == before
    assert "model" not in json.loads(last.value or b"")


# --- the clock -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [timedelta(hours=-5), timedelta(hours=5)], ids=["back", "ahead"])
def test_a_clock_moved_by_hours_loses_nothing_and_arrival_never_goes_back(
    step: timedelta, open_bench: Make, caplog: pytest.LogCaptureFixture
) -> None:
    now = [START]
    bench = open_bench(clock=lambda: int(now[0].timestamp() * 1e6))
    for moved in (timedelta(), step, timedelta(minutes=1)):
        now[0] += moved
        bench.publish("raw.clickstream", clicks_at(START, f"{now[0].hour}:{now[0].minute}"))
        bench.run("ingest", "sessionize")
    raw = bench.records("raw.clickstream")
    assert [r.arrival_us for r in raw] == sorted(r.arrival_us for r in raw)
    assert len(bench.records("events.clickstream")) == len(raw) == 30
    assert bool(step < timedelta()) == ("the clock is" in caplog.text)


def clicks_at(moment: datetime, visit: str) -> list[bytes | None]:
    return [
        json.dumps(
            {
                "event_id": f"{visit}-{number}",
                "event_type": "page_view",
                "user_id": "u",
                "event_timestamp": (moment - timedelta(seconds=number)).isoformat(),
            }
        ).encode()
        for number in range(10)
    ]


def test_a_lake_that_is_gone_is_noticed_and_a_reset_loads_it_again(bench: Make) -> None:
    first = bench()
    first.publish("events.clickstream", [_visit(number) for number in range(3)])
    first.run("load", topic="events.clickstream")
    shutil.rmtree(first.shop.config.lake_path)
    first.publish("events.clickstream", [_visit(3)])
    with pytest.raises(Refused, match=r"holds its records up to offset 0 only.*reset load"):
        first.run("load", topic="events.clickstream")
    (slot,) = [s for s in first.shop.slots("load") if s.name == "load.events.clickstream.0"]
    reset_recovery(slot.directory)
    first.run("load", topic="events.clickstream")
    rows = sum(
        parquet.read_metadata(file).num_rows
        for file in lake_files(first.shop.config.lake_path, "clickstream")
    )
    assert rows == 4


def _visit(number: int) -> bytes:
    return json.dumps(
        {
            "event_id": str(number),
            "event_type": "page_view",
            "event_timestamp": 1_780_000_000_000,
            "user_id": "u",
        }
    ).encode()
