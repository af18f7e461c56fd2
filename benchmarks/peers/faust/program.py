"""The workloads as Faust's documentation writes them, sessions by hand: it has no such windows.

program.py SERVERS INPUT OUTPUT WORKLOAD durable|light DIRECTORY

A window's count is published whenever it changes, and the last one counts: `on_window_close` goes
by the clock on the wall, so events of the past find their windows closed.
"""

import sys
from datetime import datetime, timedelta

import faust

GAP_MS, WINDOW = 1_800_000, timedelta(minutes=10)
WINDOW_MS, WAIT_MS = 600_000, 1_800_000
servers, source, target, workload, mode, directory = sys.argv[1:]
durable = mode == "durable"
app = faust.App(
    "faust-peer",
    broker=f"kafka://{servers}",
    store="rocksdb://" if durable else "memory://",
    datadir=directory,
    topic_partitions=1,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    processing_guarantee="exactly_once" if durable else "at_least_once",
    web_enabled=False,
)
events = app.topic(source, value_type=bytes, value_serializer="json", partitions=1)
rows = app.topic(target, value_serializer="json", partitions=1)


def milliseconds(event):
    return round(datetime.fromisoformat(event["event_timestamp"]).timestamp() * 1_000)


async def pass_through(stream):
    async for event in stream:
        await rows.send(value={**event, "day": event["event_timestamp"][:10]})


async def tumbling(stream):
    async for event in stream:
        user, ms = event["user_id"], milliseconds(event)
        counts[user] += 1
        row = {"user_id": user, "window_ms": ms - ms % WINDOW_MS, "count": counts[user].value()}
        await rows.send(value=row)


async def sessions(stream):
    newest = 0
    async for event in stream:
        user, ms = event["user_id"], milliseconds(event)
        newest = max(newest, ms)
        open_ones = [one for one in table[user] if one[1] + GAP_MS + WAIT_MS >= newest]
        near = [one for one in open_ones if one[0] - GAP_MS <= ms <= one[1] + GAP_MS]
        first = min([ms, *(one[0] for one in near)])
        last = max([ms, *(one[1] for one in near)])
        count = 1 + sum(one[2] for one in near)
        table[user] = [*(one for one in open_ones if one not in near), [first, last, count]]
        for one in near:
            if one[0] != first:  # its start was another one: take it back
                await rows.send(value={"user_id": user, "started_ms": one[0], "count": 0})
        row = {"user_id": user, "started_ms": first, "ended_ms": last, "count": count}
        await rows.send(value=row)


async def scoring(stream):
    async for event in stream:
        user, ms = event["user_id"], milliseconds(event)
        recent = [entry for entry in table[user] if entry[0] > ms - WINDOW_MS]
        recent.append([ms, int(event["total_amount"].replace(".", ""))])
        table[user] = recent
        count, cents = len(recent), sum(entry[1] for entry in recent)
        scored = {"count": count, "amount": cents / 100, "flagged": count >= 4}
        ids = {"transaction_id": event["transaction_id"], "user_id": user}
        await rows.send(value={**ids, **scored})


if workload == "tumbling":
    counts = (
        app.Table("counts", default=int, partitions=1)
        .tumbling(WINDOW)
        .relative_to(lambda event: milliseconds(event.value) / 1_000)
    )
elif workload != "pass_through":
    table = app.Table("state", default=list, partitions=1)
app.agent(events)(globals()[workload])

if __name__ == "__main__":
    app.worker_init()
    worker = faust.Worker(app, loglevel="warning")
    worker.execute_from_commandline()
