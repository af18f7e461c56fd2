"""Three brokers: leaders die in the middle of a transaction, replicas are missing, leaders move."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import kafka_broker
import pytest
from confluent_kafka import ElectionType, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from faults_table import Figures
from footprint import worker_name
from ground import PATIENCE_S, Ground
from places import Running, wait_until

from dataflows.connectors.kafka import KafkaLog
from dataflows.connectors.log import LogUnreachable
from dataflows.connectors.records import published
from dataflows.runtime.exits import Exit
from services.broker.broker import Cluster

pytestmark = pytest.mark.kafka

PER_SECOND = 100
UNMET_S = 15.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    kafka_broker.require_kafka()
    started = Cluster(tmp_path / "kafka")
    yield started
    started.kill()


@pytest.fixture
def shop(cluster: Cluster, tmp_path: Path, figures: Figures) -> Iterator[Ground]:
    made = Ground(tmp_path / "shop", cluster.url, figures.seed)
    yield made
    made.close()


def asking(cluster: Cluster) -> AdminClient:
    return AdminClient(
        {"bootstrap.servers": cluster.url.removeprefix("kafka://"), **kafka_broker.QUIET}
    )


def leader(cluster: Cluster, topic: str, partition: int) -> int:
    """The number of the node, from 1."""
    found = asking(cluster).list_topics(topic, timeout=60).topics[topic]
    return int(found.partitions[partition].leader)


def bring_back(cluster: Cluster, node: int) -> None:
    cluster.nodes[node - 1].start()
    cluster.nodes[node - 1].await_started()


def stopped(worker: Running) -> bool:
    stat = Path(f"/proc/{worker.process.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def went_on(shop: Ground, offset: int) -> bool:
    try:
        return shop.progress("sessionize") > offset
    except LogUnreachable:
        return False  # on a busy machine another broker may take its time to lead


def kill_leaders_mid_transaction(shop: Ground, cluster: Cluster, rounds: int) -> int:
    """Each time: a worker halts with a transaction open, the leader of what it wrote to dies, the
    worker goes on: to the end of what it was doing, or to its own."""
    for _ in range(rounds):
        shop.feed(2_000)
        ingest = shop.run("ingest")
        shop.drain("ingest")
        assert ingest.stop() == 0, ingest.stderr
        worker = shop.run_struck(
            f"mid transaction:{shop.dice.randint(2, 6)}",
            "sessionize",
            "events.clickstream/0",
            STRUCK_BY="SIGSTOP",
        )
        wait_until(lambda w=worker: stopped(w), "an open transaction", 0.02, PATIENCE_S)
        before, node = shop.progress("sessionize"), leader(cluster, "sessions", 0)
        cluster.nodes[node - 1].kill()
        os.kill(worker.process.pid, signal.SIGCONT)
        wait_until(
            lambda w=worker, n=before: w.process.poll() is not None or went_on(shop, n + 50),
            "the worker to go on, or to end",
            0.1,
            PATIENCE_S,
        )
        bring_back(cluster, node)
        if worker.process.poll() is None:
            assert worker.stop() in (Exit.OK, Exit.CRASHED), worker.stderr
    return rounds


@pytest.mark.faults
@pytest.mark.survives(29)
@pytest.mark.timeout(1200)
def test_a_leader_killed_mid_transaction(shop: Ground, cluster: Cluster, figures: Figures) -> None:
    kills = kill_leaders_mid_transaction(shop, cluster, rounds=1)
    figures.add(leaders_killed=kills, **shop.settle().exact())


@pytest.mark.faults
@pytest.mark.survives(31)
def test_who_asked_a_leader_before_asks_its_successor(cluster: Cluster, tmp_path: Path) -> None:
    """Its client keeps in mind who led each partition."""
    log = KafkaLog(cluster.url)
    log.create_topics({"events": 12})
    log.append([published("events", [b"k"], [b"v"], partition=p) for p in range(12)])
    for node in (1, 2, 3):
        assert {log.offsets("events", p) for p in range(12)} == {(0, 1)}
        cluster.nodes[node - 1].kill()
        wait_until(lambda n=node: all_led(cluster, "events", n), "other leaders", 0.2, PATIENCE_S)
        assert {log.offsets("events", p) for p in range(12)} == {(0, 1)}
        bring_back(cluster, node)
        elect_preferred_leaders(cluster)
    log.close()


def all_led(cluster: Cluster, topic: str, dead: int) -> bool:
    parts = asking(cluster).list_topics(topic, timeout=60).topics[topic].partitions.values()
    return all(part.leader not in (-1, dead) for part in parts)


@pytest.mark.faults
@pytest.mark.survives(29, 31)
@pytest.mark.timeout(3600)
def test_leaders_killed_mid_transaction_and_each_node_in_turn(
    shop: Ground, cluster: Cluster, figures: Figures
) -> None:
    kills = kill_leaders_mid_transaction(shop, cluster, rounds=5)
    service = shop.up()
    with shop.feeding(PER_SECOND):
        for node in (1, 2, 3):
            shop.await_progress("score", shop.progress("score") + 10)
            cluster.nodes[node - 1].kill()
            shop.await_progress("score", shop.progress("score") + 10)
            bring_back(cluster, node)
            elect_preferred_leaders(cluster)
        shop.await_progress("score", shop.progress("score") + 10)
    figures.add(leaders_killed=kills, nodes_killed=3, elections=3, **shop.settle(service).exact())


def elect_preferred_leaders(cluster: Cluster) -> None:
    """Until every partition is led by its first replica, which takes a moment to catch up."""

    def elected() -> bool:
        asked = asking(cluster)
        try:
            asked.elect_leaders(ElectionType.PREFERRED, None).result(60)
        except KafkaException:
            return False
        topics = asked.list_topics(timeout=60).topics.values()
        parts = [p for topic in topics for p in topic.partitions.values()]
        return all(p.leader == p.replicas[0] for p in parts)

    wait_until(elected, "the preferred leaders", 0.5, PATIENCE_S)


@pytest.mark.faults
@pytest.mark.survives(30)
@pytest.mark.timeout(3600)
def test_too_few_replicas_hold_up_what_needs_them_and_lose_nothing(
    shop: Ground, cluster: Cluster, figures: Figures
) -> None:
    service = shop.up()
    with shop.feeding(PER_SECOND):
        shop.await_progress("sessionize", 100)
        require_replicas(cluster, "sessions", 3)
        node = leader(cluster, "sessions", 0) % 3 + 1
        cluster.nodes[node - 1].kill()
        time.sleep(UNMET_S)
        before = shop.progress("sessionize")
        time.sleep(UNMET_S)
        assert shop.progress("sessionize") == before
        assert shop.progress("features") > 0
        bring_back(cluster, node)
        shop.await_progress("sessionize", before + 100)
    figures.add(unmet_s=2 * UNMET_S, **shop.settle(service).exact())


def require_replicas(cluster: Cluster, topic: str, count: int) -> None:
    """min.insync.replicas of a topic."""
    entry = ConfigEntry(
        "min.insync.replicas", str(count), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = asking(cluster)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(60)


@pytest.mark.faults
@pytest.mark.survives(12)
@pytest.mark.timeout(3600)
def test_a_sink_out_of_reach_moves_no_offset(
    cluster: Cluster, tmp_path: Path, figures: Figures
) -> None:
    """The only copy of the topic `sessions` is on a node that dies; what feeds it goes on."""
    copies = NewTopic(
        "sessions", 2, replica_assignment=[[3], [3]], config={"min.insync.replicas": "1"}
    )
    admin = asking(cluster)
    for future in admin.create_topics([copies]).values():
        future.result(60)
    shop = Ground(tmp_path / "shop", cluster.url, figures.seed)
    try:
        service = shop.up()
        with shop.feeding(PER_SECOND):
            shop.await_progress("sessionize", 100)
            cluster.nodes[2].kill()
            time.sleep(UNMET_S)
            before, others = shop.progress("sessionize"), shop.progress("features")
            time.sleep(UNMET_S)
            assert shop.progress("sessionize") == before
            shop.await_progress("features", others + 1)
            # Whoever starts meanwhile has nothing to do with that topic.
            (light,) = [pid for pid in service.children() if worker_name(pid) == "light"]
            os.kill(light, signal.SIGKILL)
            shop.await_progress("features", shop.progress("features") + 10)
            bring_back(cluster, 3)
            shop.await_progress("sessionize", before + 100)
        figures.add(away_s=2 * UNMET_S, **shop.settle(service).exact())
    finally:
        shop.close()
