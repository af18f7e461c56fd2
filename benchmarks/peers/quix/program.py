"""The workloads as the documentation of Quix Streams writes them.

program.py SERVERS INPUT OUTPUT WORKLOAD durable|light DIRECTORY
"""

import sys
from datetime import datetime, timedelta

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Max, Min

GAP, WINDOW, WAIT = timedelta(minutes=30), timedelta(minutes=10), timedelta(minutes=30)
MILLISECOND = timedelta(milliseconds=1)


def event_time(value, headers, timestamp, timestamp_type):
    return round(datetime.fromisoformat(value["event_timestamp"]).timestamp() * 1_000)


def pass_through(events):
    return events.apply(lambda event: {**event, "day": event["event_timestamp"][:10]})


def with_time(events):
    return events.apply(lambda event, key, timestamp, headers: {"ms": timestamp}, metadata=True)


def sessions(events):
    # `final` of idle keys needs closing_strategy="partition", which looks at every key of the
    # partition whenever one session is due: 500 events/s at 2,000 keys. So: each session so far.
    # One is open for its gap beyond the gap that an event may be late: half an hour.
    windows = with_time(events).session_window(inactivity_gap_ms=GAP, grace_ms=WAIT - GAP)
    running = windows.agg(count=Count(), first=Min("ms"), last=Max("ms")).current()
    return running.apply(
        lambda row, key, timestamp, headers: {
            "user_id": key,
            "started_ms": row["first"],
            "ended_ms": row["last"],
            "count": row["count"],
        },
        metadata=True,
    )


def tumbling(events):
    windows = events.tumbling_window(duration_ms=WINDOW, grace_ms=WAIT)
    return (
        windows.count()
        .final(closing_strategy="partition")
        .apply(
            lambda row, key, timestamp, headers: {
                "user_id": key,
                "window_ms": row["start"],
                "count": row["value"],
            },
            metadata=True,
        )
    )


def scoring(events):
    """State by hand: a sliding window gives aggregates, not the payment that they belong to."""

    def score(payment, key, timestamp, headers, state):
        recent = state.get("recent", [])
        recent.append([timestamp, int(payment["total_amount"].replace(".", ""))])
        oldest = timestamp - WINDOW // MILLISECOND
        recent = [entry for entry in recent if entry[0] > oldest]
        state.set("recent", recent)
        count, cents = len(recent), sum(entry[1] for entry in recent)
        return {
            "transaction_id": payment["transaction_id"],
            "user_id": key,
            "count": count,
            "amount": cents / 100,
            "flagged": count >= 4,
        }

    return events.apply(score, stateful=True, metadata=True)


def main():
    servers, source, target, workload, mode, directory = sys.argv[1:]
    app = Application(
        broker_address=servers,
        consumer_group="quix",
        auto_offset_reset="earliest",
        state_dir=directory,
        processing_guarantee="exactly-once" if mode == "durable" else "at-least-once",
        use_changelog_topics=mode == "durable",
        loglevel="WARNING",
    )
    events = app.topic(
        source,
        key_deserializer="str",
        value_deserializer="json",
        timestamp_extractor=event_time,
    )
    rows = globals()[workload](app.dataframe(events))
    rows.to_topic(app.topic(target, key_serializer="str", value_serializer="json"))
    app.run()


if __name__ == "__main__":
    main()
