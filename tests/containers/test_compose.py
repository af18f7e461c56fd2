"""docker compose up: Kafka and every flow, by the real docker compose."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest
from engine import HOUSE, Engine, find_compose, java_mounts, wait_until
from kafka_broker import require_kafka

from dataflows.connectors.log import open_log
from services.broker.broker import free_ports
from services.broker.jars import kafka_jars

pytestmark = [pytest.mark.images, pytest.mark.timeout(900)]

FILE = HOUSE / "docker-compose.yml"
HEALTHY_WITHIN_S = "180"  # a minute is promised; a machine that runs tests is a busy one
SIMULATE = ("simulate", "--events", "2000", "--days", "2", "--customers", "30")
_direct = build_opener(ProxyHandler({}))


class Compose:
    """A project of its own: other ports, the image under test, names that meet no other's."""

    def __init__(self, command: list[str], environment: dict[str, str], override: Path, port: int):
        self._environment = {**environment, "KAFKA_PORT": str(port)}
        self._command = [
            *command,
            *("-p", f"tidegate-test-{os.getpid()}", "-f", str(FILE), "-f", str(override)),
        ]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            cwd=HOUSE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def tidegate(self, *arguments: str) -> str:
        """A command in the container of the service."""
        return self.run("exec", "-T", "tidegate", "tidegate", *arguments).stdout

    def status(self) -> dict[str, Any]:
        """What the command says; it fails where a flow's counts do not add up."""
        said: dict[str, Any] = json.loads(self.tidegate("status", "--json"))
        return said

    def drained(self) -> bool:
        return not any(slot["lag_records"] for slot in self.status()["slots"])


@pytest.fixture
def kafka_port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def compose(engine: Engine, image: str, tmp_path: Path, kafka_port: int) -> Iterator[Compose]:
    override = tmp_path / "override.yml"
    kafka = [f"      - {mount}\n" for mount in mounts(engine)]
    override.write_text(
        "services:\n"
        "  kafka:\n"
        f"    volumes:\n{''.join(kafka)}      - kafka:/var/lib/kafka/data\n"
        "  tidegate:\n"
        f"    image: {image}\n"
        '    ports: !override ["127.0.0.1::9460", "127.0.0.1::9461"]\n'
    )
    with engine.api(tmp_path) as environment, engine.health_checked():
        made = Compose(find_compose(engine), environment, override, kafka_port)
        yield made
        print(made.run("logs", "--no-color", "--tail", "50", check=False).stdout)
        made.run("down", "--volumes", "--timeout", "60")


def mounts(engine: Engine) -> list[str]:
    if not engine.stand_in:
        return []
    require_kafka()
    return java_mounts(kafka_jars())


def test_the_file_is_what_docker_compose_understands(engine: Engine, tmp_path: Path) -> None:
    command = [*find_compose(engine), "-f", str(FILE), "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOUSE)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    for name, service in document["services"].items():
        assert {port["host_ip"] for port in service["ports"]} == {"127.0.0.1"}, name
        assert service["volumes"], name

    broken = tmp_path / "docker-compose.yml"
    broken.write_text(FILE.read_text().replace("healthcheck:", "healthchek:"))
    refused = subprocess.run(
        [*find_compose(engine), "-f", str(broken), "config"], capture_output=True, text=True
    )
    assert "healthchek" in refused.stderr


def test_kafka_and_every_flow_come_up_work_and_go_on_after_a_down(
    compose: Compose, kafka_port: int
) -> None:
    up = ("up", "--detach", "--no-build", "--wait", "--wait-timeout", HEALTHY_WITHIN_S)
    started = time.monotonic()
    compose.run(*up)
    print(f"healthy after {time.monotonic() - started:.0f} s")

    compose.tidegate(*SIMULATE)
    wait_until(compose.drained, "the flows to catch up")
    flows = {flow["flow"]: flow for flow in compose.status()["flows"]}
    assert all(flows[name]["records_in"] for name in FLOWS)

    log = open_log(f"kafka://localhost:{kafka_port}", {})  # as a program on this machine sees it
    raw = {topic: info for topic, info in log.topics().items() if topic.startswith("raw.")}
    assert sum(info.records for info in raw.values()) >= 2_000
    log.close()
    for port in ("9460", "9461"):
        address = compose.run("port", "tidegate", port).stdout.strip()
        with _direct.open(f"http://{address}/metrics", timeout=10) as page:
            assert "tidegate_" in page.read().decode()

    compose.run("stop")
    (state,) = [json.loads(line) for line in compose.run(*PS).stdout.splitlines()]
    assert state["ExitCode"] == 0
    compose.run("down")
    compose.run(*up)
    wait_until(compose.drained, "the flows to stand where they stood")
    assert {flow["flow"]: flow for flow in compose.status()["flows"]} == flows


FLOWS = ("ingest", "sessionize", "features", "score", "load")
PS = ("ps", "--all", "--format", "json", "tidegate")
