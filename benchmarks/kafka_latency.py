"""From a payment's publication to its alert's visibility, over a real Kafka and all three hops.

python -m benchmarks.kafka_latency --rate 2000 --seconds 20

`tidegate run ingest` and `tidegate run features score` are processes of their own. Payments come at
a steady rate; twenty a second are of customers who pay again and again, so that each raises an
alert, which a consumer of committed records awaits. Exactly once, snapshots on.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from dataflows.contracts.timestamps import format_timestamps
from dataflows.flows.opening import open_shop
from dataflows.runtime.config import load_config
from services.broker.broker import Broker

TICK_S = 0.01
USERS = 1_000_000  # of few, each would soon have paid often within an hour
ALERTS_S = 20
ALERTS_S_BEFORE = 4  # until it counts: a thousand alerts an hour of one rule are a flood
WARM_UP_S = 90.0  # at most: imports, compilation, the first alerts
SETTLE_S = 45.0  # a young broker compiles its code, for which it takes a core
CAUGHT_UP_S = 0.5
PATIENCE_S = 10.0


class _Alert(msgspec.Struct):
    transaction_id: str


_decode = msgspec.json.Decoder(_Alert).decode


class Traffic:
    """Payments as a source publishes them; `sent` holds when those that raise alerts went out."""

    def __init__(self, servers: str, rate: int):
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 1})
        self._a_tick = round(rate * TICK_S)
        self._rng = np.random.default_rng(1)
        self._made = 0
        self.sent: dict[str, float] = {}

    def tick(self, number: int, alerts_s: int) -> None:
        now = time.time()
        (at,) = format_timestamps(np.array([int(now * 1e6)]))
        for user in self._rng.integers(0, USERS, self._a_tick).tolist():
            self._pay(f"u-{user:06d}", at)
        if number % round(1 / TICK_S / alerts_s) == 0:
            self.sent[self._pay(f"again-{number % 7}", at)] = time.time()
        self._producer.poll(0)

    def _pay(self, user: str, at: str) -> str:
        self._made += 1
        name = f"t-{self._made:09d}"
        value = (
            b'{"transaction_id":"%b","user_id":"%b","event_timestamp":"%b","total_amount":"19.90",'
            b'"currency":"EUR","items":[{"product_id":"p-1","quantity":1,"unit_price":"19.90",'
            b'"amount":"19.90"}],"status":"captured","payment":{"method":"card","card_id":"c-%b",'
            b'"card_country":"DE"},"device":{"device_id":"d-%b","user_agent":"Mozilla/5.0"},'
            b'"shipping_country":"DE"}'
        ) % (name.encode(), user.encode(), at.encode(), user.encode(), user.encode())
        self._producer.produce("raw.transactions", value, user.encode(), 0)
        return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        kafka = Broker(Path(directory) / "kafka")
        try:
            measure(kafka, Path(directory) / "data", arguments.rate, arguments.seconds)
        finally:
            kafka.kill()


def measure(kafka: Broker, data: Path, rate: int, seconds: float) -> None:
    data.mkdir()
    file = data / "benchmark.toml"
    file.write_text("[partitions]\ntransactions = 1\n")
    open_shop(load_config(file, {}, {"data_dir": str(data), "bus": kafka.url}))
    environment = {
        **os.environ,
        "TIDEGATE_BUS": kafka.url,
        "TIDEGATE_CONFIG": str(file),
        "OMP_NUM_THREADS": "1",
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "services.cli", "--data-dir", str(data), "run", *run],
            env=environment,
        )
        for run in (("ingest", "--slot", "raw.transactions/0"), ("features", "score"))
    ]
    try:
        servers = kafka.url.removeprefix("kafka://")
        traffic = Traffic(servers, rate)
        counted_from, seen = pay_and_watch(traffic, alerts_of(servers), seconds)
        print(in_words(rate, traffic.sent, seen, counted_from), flush=True)
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        for worker in workers:
            worker.wait()


def alerts_of(servers: str) -> Consumer:
    """A consumer of committed alerts, from the first on."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "latency",
            "fetch.wait.max.ms": 5,
            "isolation.level": "read_committed",
        }
    )
    partitions = len(consumer.list_topics("alerts", timeout=10).topics["alerts"].partitions)
    consumer.assign([TopicPartition("alerts", partition, 0) for partition in range(partitions)])
    return consumer


def pay_and_watch(
    traffic: Traffic, consumer: Consumer, seconds: float
) -> tuple[float, dict[str, float]]:
    """Since when it counts (the flows have caught up), and when each alert was seen."""
    seen: dict[str, float] = {}
    started, number = time.time(), 0
    counted_from = end = started + WARM_UP_S
    while (now := time.time()) < end + PATIENCE_S:
        if now < end and now >= started + number * TICK_S:
            traffic.tick(number, ALERTS_S if now >= counted_from else ALERTS_S_BEFORE)
            number += 1
        for message in consumer.consume(100, timeout=0.002):
            if message.error() is None:
                name = _decode(message.value() or b"").transaction_id
                seen.setdefault(name, time.time())
                caught_up = seen[name] - traffic.sent.get(name, 0.0) < CAUGHT_UP_S
                if caught_up and end == counted_from:
                    counted_from, end = now + SETTLE_S, now + SETTLE_S + seconds
        if now >= end and traffic.sent.keys() <= seen.keys():
            break
    return counted_from, seen


def in_words(rate: int, sent: dict[str, float], seen: dict[str, float], counted_from: float) -> str:
    counted = {name: at for name, at in sent.items() if at >= counted_from}
    ms = [1e3 * (seen[name] - at) for name, at in counted.items() if name in seen]
    p50, p95, p99, most = np.percentile(ms, (50, 95, 99, 100))
    return (
        f"{rate} payments/s: {len(ms)} alerts, {len(counted) - len(ms)} not seen; "
        f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms, at most {most:.0f} ms"
    )


if __name__ == "__main__":
    main()
