"""A real Kafka of one node for tests: a child process with its data in a temporary directory.

Needs a Java runtime (17 or newer) and Maven, which fetches the jars of the version once into the
user's cache; TIDEGATE_TEST_KAFKA=host:port takes a broker that runs already instead.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

VERSION = "4.1.1"
CACHE = Path.home() / ".cache" / "tidegate" / f"kafka-{VERSION}"
GIVEN = "TIDEGATE_TEST_KAFKA"
START_S = 60.0

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tidegate</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""

PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""


def missing(own: bool = False) -> str | None:
    """Why no broker can be had here, or none of a test's own; None when one can."""
    if os.environ.get(GIVEN) and not own:
        return None
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            return f"needs {tool} to run a Kafka; {GIVEN}=host:port names one for the contracts"
    return None


class Broker:
    """A Kafka that this process started; it can be killed and started again on the same data."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._jars = _jars()
        self.port, controller = _free_ports(2)
        directory.mkdir(parents=True, exist_ok=True)
        self._properties = directory / "server.properties"
        self._properties.write_text(
            PROPERTIES.format(port=self.port, controller=controller, data=directory / "data")
        )
        self._log = directory / "kafka.log"
        cluster = self._java("kafka.tools.StorageTool", "random-uuid").splitlines()[-1]
        self._java(
            *("kafka.tools.StorageTool", "format", "--standalone"),
            *("-t", cluster, "-c", str(self._properties)),
        )
        self.start()

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    def _java(self, *arguments: str) -> str:
        done = subprocess.run(
            ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{self._jars}/*", *arguments],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self) -> None:
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [
                    *("java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=4"),
                    *("-cp", f"{self._jars}/*", "kafka.Kafka", str(self._properties)),
                ],
                cwd=self.directory,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=_end_with_parent,
            )
        give_up = time.monotonic() + START_S
        while b"Kafka Server started" not in self._log.read_bytes():
            assert self.process.poll() is None, self._log.read_text()[-2_000:]
            assert time.monotonic() < give_up, f"Kafka does not start: {self._log}"
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _end_with_parent() -> None:
    """Tests that are killed leave no broker behind (Linux; elsewhere they do)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _jars() -> Path:
    """Where the jars are; fetched the first time, by one process of however many."""
    libs = CACHE / "libs"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / "complete").exists():
            (CACHE / "pom.xml").write_text(POM)
            command = [
                "mvn",
                "-q",
                "-B",
                "dependency:copy-dependencies",
                f"-DoutputDirectory={libs}",
            ]
            done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True)
            if done.returncode:
                give_up(f"cannot fetch Kafka {VERSION} with Maven: {done.stdout[-500:]}")
            (CACHE / "complete").touch()
    return libs


def give_up(why: str) -> None:
    """Skips, and shows why; where the tests must be complete, fails."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"CI runs the tests on Kafka, too: {why}")
    pytest.skip(why)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
