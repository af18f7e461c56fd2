"""`tidegate`, in a process that something happens to: for tests only, the product has no hooks.

    python struck_worker.py STRIKE run FLOW...

STRIKE is `<point>:<n>`: when the point is reached for the n-th time, the process gets SIGKILL, or
the signal that $STRUCK_BY names. `note:0`: nothing happens. Whatever it is, the offsets at which
readers of records begin are written to $STRUCK_NOTES, a line each: topic, partition, offset.

The points wrap the Kafka client, not the product, but for `snapshot`: the first transaction after a
snapshot was taken.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import confluent_kafka
from confluent_kafka import TopicPartition

POINTS = ("start", "before commit", "mid transaction", "after commit", "after snapshot")


class Strike:
    def __init__(self, text: str):
        self.point, _, count = text.partition(":")
        self._left = int(count)
        self.snapshotted = False

    def reached(self, point: str) -> None:
        if point != self.point:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.Signals[os.environ.get("STRUCK_BY", "SIGKILL")])


def install(strike: Strike) -> None:
    class Producer(confluent_kafka.Producer):
        def init_transactions(self, *args: Any) -> None:
            super().init_transactions(*args)
            strike.reached("start")

        def begin_transaction(self) -> None:
            if strike.snapshotted:
                strike.reached("after snapshot")
            super().begin_transaction()

        def commit_transaction(self, *args: Any) -> None:
            strike.reached("before commit")
            if strike.point == "mid transaction":
                self.flush(5)  # the outputs are at the broker, the transaction is open
                strike.reached("mid transaction")
            super().commit_transaction(*args)
            strike.reached("after commit")

    class Consumer(confluent_kafka.Consumer):
        def assign(self, partitions: list[TopicPartition]) -> None:
            note(partitions)
            super().assign(partitions)

    confluent_kafka.Producer = Producer  # type: ignore[misc]
    confluent_kafka.Consumer = Consumer  # type: ignore[misc]

    from dataflows.runtime.stats import SlotStats

    taken = SlotStats.snapshotted

    def snapshotted(*args: Any) -> None:
        taken(*args)
        strike.snapshotted = True

    SlotStats.snapshotted = snapshotted  # type: ignore[method-assign, assignment]


def note(partitions: list[TopicPartition]) -> None:
    if path := os.environ.get("STRUCK_NOTES"):
        lines = (f"{p.topic} {p.partition} {p.offset}\n" for p in partitions)
        with open(path, "a") as notes:
            notes.writelines(line for line in lines if not line.startswith("tidegate."))


if __name__ == "__main__":
    install(Strike(sys.argv.pop(1)))
    from services.cli import main

    main()
