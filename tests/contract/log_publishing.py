"""A process that publishes until it is killed, for tests.

    log_publishing.py commit URL SLOT TOPIC KEYED_TOPIC
    log_publishing.py append URL TOPIC NAME COUNT

`commit` commits as a slot, going on from its marker; it prints each next offset once its commit
has returned, and exits with 3 when fenced. `append` prints `ready`, waits for a line, then appends
COUNT batches with the values `NAME <number>`.
"""

from __future__ import annotations

import sys

import numpy as np

from dataflows.connectors.log import Fenced, Marker, open_log
from dataflows.connectors.records import Output, published

FENCED = 3
BATCH = 20


def commit(url: str, slot: str, topic: str, keyed_topic: str) -> None:
    """The outputs of input offset n are the value n in both topics."""
    writer = open_log(url).writer(slot)
    marker = writer.marker or Marker(seq=0, next_offset=0)
    while True:
        stop = marker.next_offset + 1 + marker.seq % BATCH
        causes = np.arange(marker.next_offset, stop)
        values: list[bytes | None] = [b"%d" % cause for cause in causes]
        outputs = [
            Output(topic, causes, values, values),
            Output(keyed_topic, causes, values, values),
        ]
        marker = Marker(seq=marker.seq + 1, next_offset=stop, counts={"all": {"good": stop}})
        try:
            writer.commit(outputs, marker)
        except Fenced:
            sys.exit(FENCED)
        print(stop, flush=True)


def append(url: str, topic: str, name: str, count: str) -> None:
    log = open_log(url)
    print("ready", flush=True)
    sys.stdin.readline()
    for batch in range(int(count)):
        numbers = range(batch * BATCH, (batch + 1) * BATCH)
        values: list[bytes | None] = [f"{name} {number}".encode() for number in numbers]
        log.append([published(topic, [b"k"] * BATCH, values)])


if __name__ == "__main__":
    {"commit": commit, "append": append}[sys.argv[1]](*sys.argv[2:])
