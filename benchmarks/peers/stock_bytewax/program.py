"""The workloads as Bytewax's documentation writes them.

program.py SERVERS INPUT OUTPUT WORKLOAD durable|light DIRECTORY

Reads the input to its end (`tail=False`): a watermark of Bytewax is that of one key, so the window
of a key that stays away closes at the end of the input, or with the clock on the wall.
"""

import sys
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bytewax.operators as op
import bytewax.operators.windowing as win
import msgspec
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SessionWindower, TumblingWindower
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main

GAP, WINDOW, WAIT = timedelta(minutes=30), timedelta(minutes=10), timedelta(minutes=30)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Visit(msgspec.Struct, gc=False):
    user_id: str
    event_timestamp: datetime


class Payment(msgspec.Struct, gc=False):
    transaction_id: str
    user_id: str
    event_timestamp: datetime
    total_amount: str


visit_of = msgspec.json.Decoder(Visit).decode
payment_of = msgspec.json.Decoder(Payment).decode
object_of = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def milliseconds(time):
    return (time - EPOCH) // timedelta(milliseconds=1)


def message(row):
    return KafkaSinkMessage(None, encode(row))


def pass_through(records):
    def add_day(record):
        event = object_of(record.value)
        event["day"] = event["event_timestamp"][:10]
        return KafkaSinkMessage(record.key, encode(event))

    return op.map("add_day", records, add_day)


def visits(records):
    return op.map("decode", records, lambda record: visit_of(record.value))


CLOCK = EventClock(ts_getter=lambda visit: visit.event_timestamp, wait_for_system_duration=WAIT)


def sessions(records):
    def fold(session, visit):
        first, last, count = session
        time = visit.event_timestamp
        return (min(first or time, time), max(last or time, time), count + 1)

    def merge(one, other):
        return (min(one[0], other[0]), max(one[1], other[1]), one[2] + other[2])

    by_user = op.key_on("by_user", visits(records), lambda visit: visit.user_id)
    windows = win.fold_window(
        *("sessions", by_user, CLOCK, SessionWindower(gap=GAP)),
        *(lambda: (None, None, 0), fold, merge),
    )

    def row(keyed_window):
        user, (_, (first, last, count)) = keyed_window
        times = {"started_ms": milliseconds(first), "ended_ms": milliseconds(last)}
        return message({"user_id": user, **times, "count": count})

    return op.map("describe", windows.down, row)


def tumbling(records):
    windower = TumblingWindower(length=WINDOW, align_to=EPOCH)
    counts = win.count_window(
        "count", visits(records), CLOCK, windower, key=lambda visit: visit.user_id
    )

    def row(keyed_count):
        user, (window, count) = keyed_count
        start_ms = window * (WINDOW // timedelta(milliseconds=1))
        return message({"user_id": user, "window_ms": start_ms, "count": count})

    return op.map("describe", counts.down, row)


def scoring(records):
    def score(recent, payment):
        recent = recent if recent is not None else deque()
        cents = int(payment.total_amount.replace(".", ""))
        recent.append((payment.event_timestamp, cents))
        while recent[0][0] <= payment.event_timestamp - WINDOW:
            recent.popleft()
        count, amount = len(recent), sum(cents for _, cents in recent) / 100
        ids = {"transaction_id": payment.transaction_id, "user_id": payment.user_id}
        scored = {"count": count, "amount": amount, "flagged": count >= 4}
        return recent, message({**ids, **scored})

    payments = op.map("decode", records, lambda record: payment_of(record.value))
    by_user = op.key_on("by_user", payments, lambda payment: payment.user_id)
    scores = op.stateful_map("score", by_user, score)
    return op.key_rm("without_user", scores)


def main():
    servers, source, target, workload, mode, directory = sys.argv[1:]
    flow = Dataflow("stock")
    # The client's defaults wait a second between fetches.
    add_config = {"fetch.queue.backoff.ms": "5"}
    records = kop.input(
        "read", flow, brokers=[servers], topics=[source], tail=False, add_config=add_config
    ).oks
    rows = globals()[workload](records)
    kop.output("publish", rows, brokers=[servers], topic=target)
    recovery = None
    if mode == "durable":
        place = Path(directory, "recovery")
        place.mkdir()
        init_db_dir(place, 1)
        recovery = RecoveryConfig(place)
    cluster_main(flow, [], 0, recovery_config=recovery, epoch_interval=timedelta(seconds=10))


if __name__ == "__main__":
    main()
