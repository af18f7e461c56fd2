"""A shop of two sources on a Kafka, with traffic that goes on and flows that may be struck.

The traffic reaches the broker by a way of its own: what befalls the flows does not befall it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from pathlib import Path

from confluent_kafka.admin import AdminClient
from flow_bench import Bench
from kafka_broker import QUIET
from places import Place, Running, wait_until
from traffic import Event, Publisher, Shares, Traffic
from verifier import SOURCES, Verdict, verify

from dataflows.flows.opening import open_shop
from dataflows.flows.topology import FLOWS
from dataflows.runtime.config import HOUSE, load_config
from services.status.slots import SlotStatus, slot_statuses

PATIENCE_S = 400.0  # other work may share the machine
LAUNCHER = Path(__file__).parent / "struck_worker.py"
FEED_EVERY_S = 0.05

CONFIG = """
bus = "{bus}"
data_dir = "data"
schemas = "schemas"
partitions = {{ clickstream = {clicks}, transactions = 1 }}
[slots]
snapshot_interval = "400ms"
batch_records = {batch}
poll_idle = "20ms"
lease_wait = "4s"
reference_wait = "2s"
[lake]
file_records = 2000
[service]
port = 0
restart_backoff = "10ms"
crash_loop_restarts = 100000
heartbeat_after = "1d"
"""


class Ground:
    """
    Args:
        directory: for state, lake and logs.
        bus: the address that the flows get.
        servers: host:port at which the traffic comes in and the verifier reads, if another.
        seed: of the traffic, and of `dice`.
        clicks: partitions of clickstream.
        batch: most records a step takes at once.
    """

    def __init__(
        self,
        directory: Path,
        bus: str,
        seed: int,
        servers: str | None = None,
        clicks: int = 2,
        batch: int = 60,
        shares: Shares | None = None,
        settings: str = "",
        traffic: Traffic | None = None,
    ):
        directory.mkdir(parents=True, exist_ok=True)
        for source in SOURCES:
            shutil.copytree(HOUSE / "schemas" / source, directory / "schemas" / source)
        self.place = Place(directory, CONFIG.format(bus=bus, clicks=clicks, batch=batch) + settings)
        self.bus = bus
        self.servers = servers or bus.removeprefix("kafka://")
        self.partitions = {"clickstream": clicks, "transactions": 1}
        self.dice = random.Random(seed)
        print(f"seed {seed}")
        self._traffic = traffic or Traffic(seed, self.partitions, shares=shares)
        with chdir(directory):
            # Makes the topics, and looks on from then on.
            self._shop = open_shop(load_config(None, {}, {"bus": f"kafka://{self.servers}"}))
        self.admin = AdminClient({"bootstrap.servers": self.servers, **QUIET})
        self._publisher = Publisher(self.servers)

    # --- traffic

    def feed(self, count: int) -> None:
        """Some more events, and until the broker has them."""
        self.send(self._traffic.next(count))

    def send(self, events: Sequence[Event]) -> None:
        """Other events than the usual ones, and until the broker has them."""
        self._publisher.send(events)
        self._publisher.flush()

    @contextmanager
    def feeding(self, per_second: int) -> Iterator[None]:
        """Traffic goes on meanwhile."""
        stop = threading.Event()

        def go_on() -> None:
            while not stop.wait(FEED_EVERY_S):
                count = max(1, round(per_second * FEED_EVERY_S))
                self._publisher.send(self._traffic.next(count))

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    # --- flows

    def up(self) -> Running:
        """The whole service, as soon as its process exists."""
        return self.place.start("up")

    def run(self, flow: str, *slots: str) -> Running:
        """A worker of a flow, or of some slots (`topic/partition`) of it."""
        return self.place.start("run", flow, *_options(slots))

    def run_struck(self, strike: str, flow: str, *slots: str, **environment: str) -> Running:
        """A worker that something happens to; see struck_worker.py."""
        command = [sys.executable, "-P", str(LAUNCHER), strike, "run", flow, *_options(slots)]
        return self.place.run(command, **environment)

    def drain(self, *flows: str) -> None:
        """Waits until the flows have caught up."""
        wait_until(
            lambda: not any(status.lag_records for status in self.statuses(*flows)),
            "the flows to catch up",
            0.1,
            PATIENCE_S,
        )

    def statuses(self, *flows: str) -> list[SlotStatus]:
        # FLOWS has each flow after those whose outputs it reads: once no lag is none at all.
        return slot_statuses(self._shop, flows or FLOWS)

    def progress(self, *flows: str) -> int:
        """The offsets that flows (all, if none is named) have published to, added up."""
        return sum(status.offset for status in self.statuses(*flows))

    def await_progress(self, flow: str, records: int) -> None:
        """Waits until a flow has published so much."""
        wait_until(
            lambda: self.progress(flow) >= records,
            f"{flow} to get to {records}",
            0.1,
            PATIENCE_S,
        )

    # --- the end

    def close(self) -> None:
        """Ends what runs, and tells what was said, for a test that failed."""
        self._shop.log.close()
        self.place.clean_up()

    def end_traffic(self) -> None:
        self._publisher.end(self.partitions)

    def settle(self, service: Running | None = None) -> Verdict:
        """Ends the traffic, lets the service catch up, stops it; the verdict.

        Args:
            service: that runs, or has ended; if need be, a worker of all flows does the rest, and
                then no flow may run.
        """
        self.end_traffic()
        if service is None or service.process.poll() is not None:
            service = self.place.start("run", *FLOWS)
        self.drain()
        assert service.stop() == 0, service.stderr
        return self.verdict()

    def verdict(self) -> Verdict:
        lake = self.place.data / "lake"
        verdict = verify(self.servers, lake if lake.exists() else None)
        for status in self.statuses():
            if status.difference:
                verdict.problems.append(f"{status.flow}: the counts differ by {status.difference}")
        return verdict


def open_bench(shop: Ground) -> Bench:
    """Its flows in this process."""
    return Bench(
        shop.place.data,
        bus=shop.bus,
        schemas=str(shop.place.directory / "schemas"),
        partitions=shop.partitions,
        **{"slots.batch_records": 200},
    )


def _options(slots: Sequence[str]) -> list[str]:
    return [option for slot in slots for option in ("--slot", slot)]


def strike(running: Running) -> None:
    """SIGKILL, and its funeral."""
    running.process.kill()
    running.process.wait()


def strike_a_worker(service: Running, dice: random.Random, share_of_supervisor: float) -> bool:
    """Kills a worker of a service or the service itself; whether one was there to be killed."""
    if dice.random() < share_of_supervisor:
        strike(service)
        return True
    pids = service.children()
    if not pids:
        return False
    with suppress(ProcessLookupError):
        os.kill(dice.choice(pids), signal.SIGKILL)
        return True
    return False


Make = Callable[..., Ground]
