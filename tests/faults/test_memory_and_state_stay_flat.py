"""Keys that are done with take up no room, and hours of faults leave nothing behind."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults_table import Figures
from footprint import Samples, assert_flat, resident_mb, state_mb
from ground import Ground, Make, strike_a_worker
from places import Running
from proxy import Proxy
from traffic import Event, Traffic

from dataflows.durations import Duration
from services.broker.broker import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.faults]

WAVES, KEYS = 10, 100_000
START = datetime(2026, 3, 2, tzinfo=UTC)
PER_SECOND = 100
EVERY_S = 120.0


def wave(number: int) -> list[Event]:
    """So many visitors who come once, hours after those before: these have expired by then."""
    at = START + timedelta(hours=5 * number)
    return [
        Event(
            "clickstream",
            key % 2,
            b"v%d-%d" % (number, key),
            json.dumps(
                {
                    "event_id": f"e{number}-{key}",
                    "event_type": "page_view",
                    "user_id": f"v{number}-{key}",
                    "event_timestamp": (at + timedelta(milliseconds=30 * key)).isoformat(),
                }
            ).encode(),
        )
        for key in range(KEYS)
    ]


@pytest.mark.survives(21)
@pytest.mark.timeout(3600)
def test_a_million_keys_of_which_most_expire(ground: Make, figures: Figures) -> None:
    shop = ground(seed=figures.seed, batch=5_000)
    ingest, sessionize = shop.run("ingest"), shop.run("sessionize")
    memory, state = [], []
    for number in range(WAVES):
        shop.send(wave(number))
        shop.drain("ingest", "sessionize")
        time.sleep(2.0)  # a snapshot or two
        memory.append(resident_mb(ingest.process.pid) + resident_mb(sessionize.process.pid))
        state.append(state_mb(shop.place.data / "state"))
    print([round(mb) for mb in memory], [round(mb, 1) for mb in state])
    figures.add(
        keys=WAVES * KEYS,
        memory_mb=" -> ".join(f"{memory[wave]:.0f}" for wave in (0, 4, 9)),
        state_mb=" -> ".join(f"{state[wave]:.1f}" for wave in (0, 4, 9)),
    )
    assert memory[-1] < memory[4] * 1.2
    assert state[-1] < state[4] * 1.2
    assert ingest.stop() == 0, ingest.stderr
    assert sessionize.stop() == 0, sessionize.stderr


class Soak:
    """A service that one fault after another happens to."""

    def __init__(self, shop: Ground, proxy: Proxy, broker: Broker):
        self.shop, self.proxy, self.broker = shop, proxy, broker
        self.service: Running = shop.up()
        self.faults = {
            self.kill_a_worker: 4,
            self.kill_the_supervisor: 1,
            self.reset: 4,
            self.black_hole: 2,
            self.lose_replies: 3,
            self.latency: 2,
            self.restart_the_broker: 1,
        }
        self.counts = dict.fromkeys((fault.__name__ for fault in self.faults), 0)

    def strike(self) -> None:
        (fault,) = self.shop.dice.choices(list(self.faults), list(self.faults.values()))
        self.counts[fault.__name__] += 1
        fault()
        if self.service.process.poll() is not None:
            self.service = self.shop.up()

    def kill_a_worker(self) -> None:
        strike_a_worker(self.service, self.shop.dice, share_of_supervisor=0.0)

    def kill_the_supervisor(self) -> None:
        strike_a_worker(self.service, self.shop.dice, share_of_supervisor=1.0)

    def reset(self) -> None:
        self.proxy.reset()

    def black_hole(self) -> None:
        self.proxy.swallows = True
        time.sleep(self.shop.dice.uniform(1.0, 10.0))
        self.proxy.swallows = False

    def lose_replies(self) -> None:
        self.proxy.lose_replies(2)

    def latency(self) -> None:
        self.proxy.delay_s = 0.03
        time.sleep(5.0)
        self.proxy.delay_s = 0.0

    def restart_the_broker(self) -> None:
        self.broker.kill()
        time.sleep(self.shop.dice.uniform(0.0, 5.0))
        self.broker.start()


@pytest.mark.survives(25)
@pytest.mark.timeout(0)
def test_a_soak_with_seeded_faults(
    proxy: tuple[Proxy, Broker], tmp_path: Path, figures: Figures, pytestconfig: pytest.Config
) -> None:
    """As long as --soak says; the event time of a week goes by in a minute."""
    through, broker = proxy
    seconds = Duration.parse(pytestconfig.getoption("soak")).seconds
    partitions = {"clickstream": 2, "transactions": 1}
    traffic = Traffic(
        figures.seed, partitions, 2_000, every_s=EVERY_S, start=datetime(1990, 1, 1, tzinfo=UTC)
    )
    servers = broker.url.removeprefix("kafka://")
    shop = Ground(tmp_path / "shop", through.url, figures.seed, servers, traffic=traffic)
    samples = Samples()
    try:
        soak, end = Soak(shop, through, broker), time.monotonic() + seconds
        with shop.feeding(PER_SECOND):
            while time.monotonic() < end:
                quiet_until = time.monotonic() + shop.dice.uniform(2.0, 12.0)
                while time.monotonic() < quiet_until:
                    samples.take(soak.service, shop.place.data / "state")
                    time.sleep(1.0)
                soak.strike()
        growth = {
            name: f"{before:.0f} -> {after:.0f}"
            for name, (before, after) in sorted(samples.growth().items())
        }
        figures.add(
            soaked=f"{seconds:.0f} s", **soak.counts, **growth, **shop.settle(soak.service).exact()
        )
        assert_flat(samples)
    finally:
        shop.close()
