"""The demo: starts the flows as real processes, simulates, waits, checks, reports."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from dataflows.detection.rules import RuleSet
from dataflows.errors import TidegateError
from dataflows.flows.opening import open_shop
from dataflows.flows.reference import reference_behind
from dataflows.flows.shop import Shop
from dataflows.runtime.config import Config
from dataflows.runtime.recovery import Lease
from services.backtest.backtest import backtest
from services.demo.latency import alert_latencies_ms
from services.demo.progress import Progress
from services.demo.service import Service
from services.history.features import open_history
from services.report.facts import Facts, LagSample, RunFigures, gather
from services.report.model import Day, RuleFacts, WarehouseFacts
from services.report.page import write_page
from services.simulator.driver import publish_chunks
from services.simulator.settings import SimulationSettings
from services.simulator.simulate import Simulation, simulate
from services.simulator.stream import Chunk
from services.simulator.truth import write_truth
from services.status.slots import SlotStatus, flow_totals, slot_statuses
from services.supervisor.service import LEASE_WAIT
from services.warehouse.build import build
from services.warehouse.place import Place
from services.warehouse.query import query

SAMPLE_EVERY_S = 0.5
REFERENCE_EVERY_S = 0.05
DRAINED_SAMPLES = 3  # in a row without lag: outputs of one flow are inputs of the next
DRAIN_TIMEOUT_S = 120.0
DAYS = """
    SELECT CAST(event_date AS VARCHAR) AS date, click_count AS clicks, payment_count AS payments,
        purchase_count AS purchases, revenue
    FROM gold.fct_daily_summary ORDER BY event_date
"""
MARKER_FILE = "made-by-tidegate-demo"
EVER = date(1970, 1, 1)


class DemoSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to simulate and how fast."""

    days: int = 30
    events: int = 320_000
    seed: int = 7
    rate: float = 8_000.0


def run_demo(
    config: Config,
    settings: DemoSettings,
    stop: threading.Event,
    options: Sequence[str],
    progress: Progress,
) -> tuple[Facts, Path]:
    """Runs the whole demo on an empty log.

    Returns:
        The facts, and where the report is.

    Raises:
        TidegateError: a worker failed, or the flows did not catch up.
    """
    shop = open_shop(config)
    progress.step("preparing the shop's month")
    simulation = simulate(_simulation_settings(shop, settings))
    write_truth(simulation.truth, config.data_path / "ground_truth.json")
    service = Service(config, options, progress.note)
    started_at, started = datetime.now(UTC), time.monotonic()
    watch = _Watch(shop, service, progress)
    try:
        progress.step("starting the flows")
        service.wait_until_ready(stop)
        progress.step("publishing")
        publishing = time.monotonic()
        _publish(shop, simulation, settings, progress, watch, stop)
        progress.step("letting the flows finish")
        watch.until_drained(stop)
        seconds = time.monotonic() - publishing
    finally:
        service.stop()
    progress.step("building the warehouse")
    warehouse = _warehouse(config, simulation.truth.currency)
    progress.step("judging the rules")
    rules = _rules(config, shop.rules)
    progress.step("checking and reporting")
    facts = gather(
        config.lake_path,
        flow_totals(slot_statuses(shop)),
        simulation.truth,
        watch.samples,
        _figures(
            shop, settings, simulation.records, started_at, seconds, time.monotonic() - started
        ),
        warehouse,
        rules,
    )
    page = config.data_path / "report.html"
    write_page(facts, page)
    return facts, page


def empty(directory: Path) -> None:
    """Removes what an earlier demo left: only a directory that a demo made, and nobody uses.

    Raises:
        LeaseHeld: another demo runs in the directory.
        TidegateError: the directory holds something else.
    """
    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARKER_FILE).is_file():
            raise TidegateError(
                f"{directory}: holds something that no demo made; give the demo another --data-dir"
            )
        lease = Lease(directory, f"data directory {directory}", LEASE_WAIT)
        shutil.rmtree(directory)
        lease.release()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARKER_FILE).touch()


def _simulation_settings(shop: Shop, settings: DemoSettings) -> SimulationSettings:
    now = datetime.now(UTC)
    return SimulationSettings(
        start=(now - timedelta(days=settings.days)).date(),
        days=settings.days,
        target_events=settings.events,
        seed=settings.seed,
        partitions={source: shop.topology.topics[f"raw.{source}"] for source in shop.contracts},
        published_us=int(now.timestamp() * 1e6) + 3_600_000_000,
    )


def _publish(
    shop: Shop,
    simulation: Simulation,
    settings: DemoSettings,
    progress: Progress,
    watch: _Watch,
    stop: threading.Event,
) -> None:
    """Publishes beside the watch; whichever fails ends the other."""
    enough = threading.Event()
    with ThreadPoolExecutor(1, "publish") as pool:
        publishing = pool.submit(
            publish_chunks,
            shop.log,
            _in_turn(shop, simulation, enough),
            settings.rate,
            enough,
            progress.published,
        )
        try:
            while not publishing.done():
                watch.sample(stop)
        finally:
            enough.set()
        publishing.result()


def _in_turn(shop: Shop, simulation: Simulation, enough: threading.Event) -> Iterator[Chunk]:
    """Each chunk as soon as ingest knows the products and customers of those before: nobody pays
    within a second of signing up."""
    for chunk in simulation.chunks():
        while reference_behind(shop) and not enough.wait(REFERENCE_EVERY_S):
            pass
        yield chunk


def _warehouse(config: Config, currency: str) -> WarehouseFacts:
    built = build(config)
    answer = query(Place(config.data_path / "warehouse").file, DAYS)
    return WarehouseFacts(
        seconds=built.seconds,
        models=built.models,
        tests=built.tests,
        currency=currency,
        days=[
            msgspec.convert(dict(zip(answer.columns, row, strict=True)), Day) for row in answer.rows
        ],
    )


def _rules(config: Config, rules: RuleSet) -> list[RuleFacts]:
    history, judged = open_history(config), []
    for rule in (*rules.live, *rules.shadow):
        answer = backtest(history, rule, rules.live, EVER, cases=1)
        judged.append(
            RuleFacts(
                rule=answer.rule,
                state=answer.state,
                hits=answer.hits.payments,
                fraud=answer.hits.fraud,
                legitimate=answer.hits.legitimate,
                alone=answer.alone.payments,
                precision=answer.precision,
                recall=answer.recall,
                example=answer.cases[0].reason if answer.cases else "",
            )
        )
    return judged


def _figures(
    shop: Shop,
    settings: DemoSettings,
    events: int,
    started_at: datetime,
    seconds: float,
    wall: float,
) -> RunFigures:
    p50, p99 = alert_latencies_ms(shop.log)
    return RunFigures(
        events=events,
        wall_seconds=wall,
        events_per_second=events / seconds,
        alert_latency_p50_ms=p50,
        alert_latency_p99_ms=p99,
        started_at=started_at.isoformat(timespec="seconds"),
        seed=settings.seed,
        days=settings.days,
    )


class _Watch:
    """Samples lag while the demo runs."""

    def __init__(self, shop: Shop, service: Service, progress: Progress):
        self._shop, self._service, self._progress = shop, service, progress
        self._started = time.monotonic()
        self.samples: list[LagSample] = []

    def sample(self, stop: threading.Event) -> list[SlotStatus]:
        self._service.attend()
        if stop.wait(SAMPLE_EVERY_S):
            raise TidegateError("interrupted; the flows were stopped cleanly")
        statuses = slot_statuses(self._shop)
        totals = flow_totals(statuses)
        seconds = time.monotonic() - self._started
        self.samples += [LagSample(seconds, t.flow, t.lag_records) for t in totals]
        self._progress.flows(totals)
        return statuses

    def until_drained(self, stop: threading.Event) -> None:
        give_up = time.monotonic() + DRAIN_TIMEOUT_S
        drained = 0
        while drained < DRAINED_SAMPLES:
            behind = [s for s in self.sample(stop) if s.lag_records]
            drained = 0 if behind else drained + 1
            if time.monotonic() > give_up:
                names = ", ".join(f"{s.flow} {s.topic}/{s.partition}" for s in behind)
                raise TidegateError(
                    f"the flows did not catch up in {DRAIN_TIMEOUT_S:.0f} s: {names}"
                )
