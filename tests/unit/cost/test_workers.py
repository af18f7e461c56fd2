"""CPU of a record: of workers that run and have had enough to do, else as configured."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cost_shop import config_of

from dataflows.contracts import load_contracts
from dataflows.flows.topology import FLOWS, Topology, topology
from dataflows.runtime.announcement import announce
from dataflows.runtime.config import HOUSE, Config
from services.cost.volumes import Flow
from services.cost.workers import workers

METRICS = """\
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 3.0
# TYPE tidegate_publish_latency_seconds histogram
tidegate_publish_latency_seconds_bucket{{flow="ingest",partition="0",le="+Inf"}} {0}
tidegate_publish_latency_seconds_count{{flow="ingest",partition="0"}} {0}
tidegate_publish_latency_seconds_sum{{flow="ingest",partition="0"}} 1.0
tidegate_publish_latency_seconds_bucket{{flow="ingest",partition="1",le="+Inf"}} 50000
tidegate_publish_latency_seconds_count{{flow="ingest",partition="1"}} 50000
tidegate_publish_latency_seconds_sum{{flow="ingest",partition="1"}} 1.0
"""


@contextmanager
def worker(text: str) -> Iterator[int]:
    """A process's metrics; its port."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode() if self.path == "/metrics" else b"ok")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def wiring(config: Config) -> Topology:
    return topology(load_contracts(HOUSE / "schemas"), config)


def flows(config: Config) -> dict[str, Flow]:
    found = workers(config, wiring(config))
    return {flow.name: flow for each in found for flow in each.flows}


def test_without_a_service_it_is_as_configured(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    found = flows(config)
    assert set(found) == set(FLOWS)
    assert found["ingest"].cpu_us == Decimal("5.4")
    assert found["ingest"].source == "5.4 µs a record (configured)"
    assert found["score"].inputs == ("scoring.requests",)


def test_flows_share_pods_as_they_share_workers(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    found = workers(config, wiring(config))
    assert {each.name: [flow.name for flow in each.flows] for each in found} == {
        **{name: [name] for name in config.service.alone},
        "light": ["features", "score", "measure", "detect", "watch", "late"],
    }


def test_a_worker_that_had_enough_to_do_is_measured(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with worker(METRICS.format(50_000)) as port:
        announce(config.run_path, "ingest", 1, port, ["ingest"])
        found = flows(config)
    assert found["ingest"].cpu_us == 30
    assert found["ingest"].source == "30.0 µs a record (measured, of 100,000 that the worker had)"
    assert found["load"].source.endswith("(configured)")


def test_one_that_had_little_to_do_or_is_gone_is_not(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with worker(METRICS.format(49_999)) as port:
        announce(config.run_path, "ingest", 1, port, ["ingest"])
        assert flows(config)["ingest"].cpu_us == Decimal("5.4")
    assert flows(config)["ingest"].cpu_us == Decimal("5.4")
