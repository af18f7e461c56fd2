"""A verifier that finds nothing proves nothing: it must notice what a broken product would do.

The product is broken on purpose, in this process, on a real Kafka; what it then publishes is what a
kill or a bug of that kind would leave.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence

import pytest
from faults_table import Figures
from ground import Make, open_bench

from dataflows.connectors.kafka_writer import KafkaWriter
from dataflows.connectors.log import Marker
from dataflows.connectors.records import Output

pytestmark = pytest.mark.kafka

Commit = Callable[[KafkaWriter, Sequence[Output], Marker], None]
Change = Callable[[Sequence[Output]], Sequence[Output]]
SOUND = KafkaWriter.commit


@pytest.mark.faults
@pytest.mark.survives(15)
@pytest.mark.timeout(900)
def test_an_undisturbed_run_is_exact_and_poison_restarts_nothing(
    ground: Make, figures: Figures
) -> None:
    shop = ground(seed=figures.seed)
    shop.feed(4_000)
    shop.end_traffic()
    service = shop.up()
    shop.drain()
    assert service.stop() == 0, service.stderr
    assert "restart" not in service.stderr
    verdict = shop.verdict()
    figures.add(**verdict.exact(), poison=verdict.figures["failed"])
    assert verdict.figures["failed"] > 10


@pytest.mark.timeout(900)
def test_a_dropped_batch_a_repeated_one_and_an_ignored_marker_are_noticed(
    ground: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = ground(seed=1)
    bench = open_bench(shop)
    shop.feed(1_200)
    shop.end_traffic()
    bench.run("ingest", "features", "score")
    assert {problem.partition(":")[0] for problem in shop.verdict().problems} == {
        *("buffered.clickstream", "buffered.transactions", "inputs of clickstream"),
        *("inputs of transactions", "dlq.late of clickstream", "dlq.late of transactions"),
        *("late events asked for, clickstream", "late events asked for, transactions"),
        "sessions",
    }  # what has not run

    with monkeypatch.context() as patch:
        patch.setattr(KafkaWriter, "commit", once(lambda outputs: []))
        bench.run("late")
    with monkeypatch.context() as patch:
        patch.setattr(KafkaWriter, "commit", once(lambda outputs: [*outputs, *outputs]))
        bench.run("sessionize")
    with monkeypatch.context() as patch:
        patch.setattr(KafkaWriter, "marker", None)
        patch.setattr(KafkaWriter, "commit", forgetful)
        shutil.rmtree(bench.shop.config.state_path)  # so that it begins again
        bench.run("score")
    bench.log.close()

    found = "\n".join(shop.verdict().problems)
    print(found)
    assert re.search(r"buffered\.\S+: \d+ missing", found)
    assert re.search(r"inputs of \S+: \d+ missing", found)
    assert re.search(r"revisions of sessions: \d+ repeated", found)
    assert re.search(r"scores: \d+ repeated", found)
    assert re.search(r"alerts: \d+ repeated", found)
    for sound in ("events.", "features", "dlq.clickstream", "dlq.transactions"):
        assert sound not in found


def once(change: Change) -> Commit:
    """A commit that publishes something else, the first time that there is anything."""
    done = False

    def commit(writer: KafkaWriter, outputs: Sequence[Output], marker: Marker) -> None:
        nonlocal done
        if outputs and not done:
            done, outputs = True, change(outputs)
        SOUND(writer, outputs, marker)

    return commit


def forgetful(writer: KafkaWriter, outputs: Sequence[Output], marker: Marker) -> None:
    """A commit that does not mind what was published before."""
    writer._marker = None
    SOUND(writer, outputs, marker)
