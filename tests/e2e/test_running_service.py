"""What a running service says of itself, and how it refuses a second one beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest
from places import CONFIG, EVENTS, Place, Running
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from dataflows.runtime.config import load_config
from dataflows.runtime.metrics import DECLARED
from services.supervisor.metrics import RESTARTS, UP
from services.supervisor.service import LEASE_WAIT

PARKS_SOON = CONFIG.replace("[service]", 'park_after = "500ms"\n[service]')
REFUSED_WITHIN_S = 5.0
_direct = build_opener(ProxyHandler({}))


class Service:
    """A service that has taken in a small simulation."""

    def __init__(self, place: Place, running: Running):
        self.place, self.running = place, running
        (worker,) = json.loads(place.tidegate("status", "--json").stdout)["workers"]
        self.worker_port = worker["port"]
        self.supervisor_port = running.stderr.partition("127.0.0.1:")[2].partition("/")[0]

    def get(self, path: str, port: object = None) -> str:
        """From the worker, unless another port is given."""
        with _direct.open(
            f"http://127.0.0.1:{port or self.worker_port}/{path}", timeout=10
        ) as page:
            return str(page.read().decode())

    def metrics(self, port: object = None) -> dict[str, Metric]:
        found = text_string_to_metric_families(self.get("metrics", port))
        return {family.name: family for family in found}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place = Place(tmp_path_factory.mktemp("service"), PARKS_SOON)
    running = place.up()
    done = place.tidegate(*EVENTS)
    assert done.returncode == 0, done.stderr
    place.wait_until_drained()
    yield Service(place, running)
    place.clean_up()


def test_every_declared_metric_is_there_with_help_and_a_sample_a_slot(service: Service) -> None:
    found = service.metrics()
    slots = {(s.flow, s.topic, str(s.partition)) for s in service.place.statuses()}
    worked = {(s.flow, s.topic, str(s.partition)) for s in service.place.statuses() if s.offset}
    assert len(worked) > 10
    for declared in DECLARED:
        family = found[declared.name]
        assert family.documentation == declared.help
        seen = {
            tuple(sample.labels[name] for name in ("flow", "topic", "partition"))
            for sample in family.samples
        }
        if set(declared.labels) == {"flow", "topic", "partition"}:
            assert worked <= seen <= slots, declared.name
        else:
            assert seen, declared.name


def test_metrics_say_what_status_says(service: Service) -> None:
    found = service.metrics()
    statuses = {(s.flow, s.topic, str(s.partition)): s for s in service.place.statuses()}

    def by_slot(name: str) -> dict[tuple[str, str, str], float]:
        return {
            (s.labels["flow"], s.labels["topic"], s.labels["partition"]): s.value
            for s in found[name].samples
        }

    differences = by_slot("tidegate_reconciliation_difference_records")
    assert set(differences.values()) == {0.0}
    for slot, offset in by_slot("tidegate_slot_offset").items():
        assert offset == statuses[slot].offset
    assert set(by_slot("tidegate_slot_lag_records").values()) == {0.0}
    dead = sum(sample.value for sample in found["tidegate_dead_letters"].samples)
    assert dead == sum(status.failed for status in statuses.values()) > 0


def test_metrics_are_as_promtool_wants_them(service: Service) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool on the PATH")
    for port in (service.worker_port, service.supervisor_port):
        shown = service.get("metrics", port)
        command = [promtool, "check", "metrics"]
        done = subprocess.run(command, input=shown, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr + done.stdout


def test_probes_answer_and_other_paths_say_which_there_are(service: Service) -> None:
    for port in (service.worker_port, service.supervisor_port):
        assert service.get("livez", port) == "ok\n"
        assert service.get("readyz", port) == "ok\n"
        with pytest.raises(OSError, match="404"):
            service.get("", port)


def test_the_supervisor_counts_its_workers(service: Service) -> None:
    found = service.metrics(service.supervisor_port)
    for declared, value in ((UP, 1.0), (RESTARTS, 0.0)):
        (sample, *_) = found[declared.name].samples
        assert (sample.labels, sample.value) == ({"worker": "light"}, value)
        assert found[declared.name].documentation == declared.help


@pytest.mark.parametrize(
    "command", [("up",), ("run", "sessionize"), ("reset", "sessionize", "--yes")], ids=" ".join
)
def test_what_another_process_holds_is_refused_in_one_line(
    command: tuple[str, ...], service: Service
) -> None:
    refused = service.place.tidegate(*command)
    assert refused.returncode == 75
    (line,) = refused.stderr.splitlines()[-1:]
    assert line.startswith("tidegate: ")
    holder = service.running.process.pid if command == ("up",) else service.running.children()[0]
    assert f"held by process {holder}" in line
    assert "Traceback" not in refused.stderr


def test_the_wait_for_what_is_held_leaves_time_to_start() -> None:
    assert max(LEASE_WAIT.seconds, load_config().slots.lease_wait.seconds) < REFUSED_WITHIN_S


def test_an_idle_service_rests(service: Service) -> None:
    """The figure is printed; the bound only tells resting from spinning."""
    pids = [service.running.process.pid, *service.running.children()]

    def worked_s() -> float:
        ticks = 0
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    time.sleep(1.0)  # slots park
    before, started = worked_s(), time.monotonic()
    time.sleep(2.0)
    share = (worked_s() - before) / (time.monotonic() - started)
    print(f"idle: {share:.1%} of a core")
    assert share < 0.6
