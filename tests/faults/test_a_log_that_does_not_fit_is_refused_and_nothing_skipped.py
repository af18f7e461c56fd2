"""What a Kafka may do to the slots on it: each is refused by name, offsets stay, and the way out
leads to the results of an undisturbed run."""

from __future__ import annotations

import shutil

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions
from faults_table import Figures
from flow_bench import Bench
from ground import PATIENCE_S, Ground, Make, open_bench

from dataflows.connectors.log import LogError
from dataflows.flows import sessionize
from dataflows.runtime import slot as slots
from dataflows.runtime.slot import Refused

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]

TOPIC = "events.clickstream"


@pytest.fixture
def shop(ground: Make, figures: Figures) -> Ground:
    return ground(seed=figures.seed)


def published(shop: Ground, flow: str) -> list[int]:
    """The next offset of each slot of a flow."""
    return [status.offset for status in shop.statuses(flow)]


def refusal(bench: Bench, flow: str) -> str:
    with pytest.raises(Refused) as caught:
        bench.run(flow)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.faults
@pytest.mark.survives(23, 24)
def test_an_older_state_is_caught_up_and_one_of_other_code_is_refused(
    shop: Ground, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    bench = open_bench(shop)
    state = bench.shop.config.state_path
    shop.feed(1_000)
    bench.run("ingest", "features", "sessionize", "score")
    shutil.copytree(state, state.with_name("backup"))
    shop.feed(1_000)
    bench.run("ingest", "features", "sessionize", "score")
    before = published(shop, "sessionize")

    with monkeypatch.context() as patch:
        patch.setattr(slots, "SNAPSHOT_VERSION", slots.SNAPSHOT_VERSION - 1)
        assert "snapshot version " in refusal(bench, "sessionize")
    with monkeypatch.context() as patch:
        sound = sessionize.map_value
        patch.setattr(sessionize, "map_value", lambda _, *others: sound("renamed", *others))
        message = refusal(bench, "sessionize")
        assert "steps = " in message
        assert "tidegate reset sessionize" in message
    assert published(shop, "sessionize") == before

    shutil.rmtree(state)
    state.with_name("backup").rename(state)
    bench.run("ingest", "features", "sessionize", "score")
    bench.log.close()
    figures.add(restored="half of the log ago", **shop.settle().exact())


@pytest.mark.survives(18)
def test_records_that_retention_took_before_they_were_read_are_named(
    shop: Ground, figures: Figures
) -> None:
    bench = open_bench(shop)
    shop.feed(600)
    bench.run("ingest", "sessionize")
    before = published(shop, "sessionize")
    shop.feed(600)
    bench.run("ingest")
    gone = TopicPartition(TOPIC, 0, before[0] + 20)
    for future in shop.admin.delete_records([gone]).values():
        future.result(60)
    message = refusal(bench, "sessionize")
    assert f"retention removed offsets {before[0]}..{before[0] + 19}" in message
    assert "tidegate reset sessionize" in message
    assert published(shop, "sessionize")[0] == before[0]
    bench.log.close()
    figures.add(removed=20)


@pytest.mark.faults
@pytest.mark.survives(16)
def test_without_its_dead_letter_topic_a_flow_stops_and_skips_nothing(
    shop: Ground, figures: Figures
) -> None:
    bench = open_bench(shop)
    shop.feed(500)
    bench.run("ingest")
    before = published(shop, "ingest")
    for future in shop.admin.delete_topics(["dlq.late"]).values():
        future.result(60)
    shop.feed(2_500)
    bench.run("ingest")
    with pytest.raises(LogError, match=r"dlq\.late|publishing"):
        bench.run("late")
    assert published(shop, "ingest") != before
    late = published(shop, "late")
    bench.log.close()

    bench = open_bench(shop)  # makes the topic again
    assert published(shop, "late") == late
    bench.run("late")
    bench.log.close()
    figures.add(**shop.settle().exact())


@pytest.mark.faults
@pytest.mark.survives(17)
def test_partitions_added_under_load_are_refused_by_name(shop: Ground, figures: Figures) -> None:
    service = shop.up()
    with shop.feeding(100):
        shop.await_progress("score", 10)
        added = shop.admin.create_partitions([NewPartitions("raw.clickstream", 3)])
        for future in added.values():
            future.result(60)
        ended = service.process.poll()
        assert ended is None, service.stderr
    assert service.stop() == 0, service.stderr
    again = shop.up()
    assert again.process.wait(PATIENCE_S) == 78
    assert "topic raw.clickstream has 3 partition(s)" in again.stderr
    assert "not 2" in again.stderr
    figures.add(partitions="2 to 3, refused")
