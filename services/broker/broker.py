"""Kafka as child processes: one node, or several that replicate, on free ports of this machine."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dataflows.errors import TidegateError
from services.broker.jars import kafka_jars
from services.child_process import end_with_parent

START_S = 90.0
HEAP = "512m"

Properties = Mapping[str, str]


class Broker:
    """A node, broker and controller in one; it can be killed and started again on the same data.

    Args:
        directory: its data, settings and log; what an earlier one left there goes on.
        properties: of the server, beside or instead of the usual ones; `{port}` and
            `{controller}` in their values are filled in.
        port: where it listens; any free one without.

    Raises:
        NoBroker: there is no Java, or no Kafka for it.
        TidegateError: it does not start.
    """

    def __init__(
        self, directory: Path, properties: Properties | None = None, port: int | None = None
    ):
        self.directory = directory
        free, controller = free_ports(2)
        self.port = port or free
        self._node = _Node(
            directory,
            {
                **_usual(node=1, port=self.port, controller=controller, directory=directory),
                "controller.quorum.voters": f"1@127.0.0.1:{controller}",
                # A machine that is short of cores may let it wait, which is no death; but after one
                # it has to wait for so long before it is let in again.
                "broker.session.timeout.ms": "15000",
                "initial.broker.registration.timeout.ms": "120000",
                **_filled(properties or {}, port=self.port, controller=controller),
            },
        )
        if not (directory / "data" / "meta.properties").exists():
            self._node.format()
        self.start()

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self._node.process

    def start(self) -> None:
        """Starts it and waits until it serves."""
        self._node.start()
        self._node.await_started()

    def stop(self) -> None:
        """As an operator would: hands over, flushes, ends."""
        self._node.stop()

    def kill(self) -> None:
        """At once, as a power cut would."""
        self._node.kill()


class Cluster:
    """Brokers that replicate each other; each topic has a copy on every one of them."""

    def __init__(self, directory: Path, nodes: int = 3, properties: Properties | None = None):
        ports, controllers = free_ports(nodes), free_ports(nodes)
        quorum = [f"{n}@127.0.0.1:{port}" for n, port in enumerate(controllers, 1)]
        self.ports = ports
        self.nodes = [
            _Node(
                directory / str(n),
                {
                    **_usual(
                        node=n, port=port, controller=controller, directory=directory / str(n)
                    ),
                    "controller.quorum.voters": ",".join(quorum),
                    "default.replication.factor": str(nodes),
                    "min.insync.replicas": str(nodes // 2 + 1),
                    "offsets.topic.replication.factor": str(nodes),
                    "transaction.state.log.replication.factor": str(nodes),
                    "transaction.state.log.min.isr": str(nodes // 2 + 1),
                    "replica.lag.time.max.ms": "5000",
                    **_filled(properties or {}, port=port, controller=controller),
                },
            )
            for n, (port, controller) in enumerate(zip(ports, controllers, strict=True), 1)
        ]
        cluster = self.nodes[0].random_uuid()
        for node in self.nodes:
            node.format(cluster=cluster)
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.await_started()

    @property
    def url(self) -> str:
        return "kafka://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def kill(self) -> None:
        """All of them."""
        for node in self.nodes:
            node.kill()


class _Node:
    def __init__(self, directory: Path, properties: Properties):
        self.directory = directory.absolute()
        self._jars = kafka_jars()
        directory.mkdir(parents=True, exist_ok=True)
        self._properties = self.directory / "server.properties"
        self._properties.write_text("".join(f"{k}={v}\n" for k, v in properties.items()))
        self._log = self.directory / "kafka.log"
        self.process: subprocess.Popen[bytes]

    def random_uuid(self) -> str:
        return self._storage_tool("random-uuid").splitlines()[-1]

    def format(self, *options: str, cluster: str | None = None) -> None:
        cluster = cluster or self.random_uuid()
        self._storage_tool("format", *options, "-t", cluster, "-c", str(self._properties))

    def _storage_tool(self, *arguments: str) -> str:
        done = subprocess.run(
            [
                *("java", "-XX:TieredStopAtLevel=1", "-cp", f"{self._jars}/*"),
                *("kafka.tools.StorageTool", *arguments),
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise TidegateError(f"Kafka in {self.directory}: {' '.join(done.stderr.split())}")
        return done.stdout.strip()

    def start(self) -> None:
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [
                    *("java", f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-cp", f"{self._jars}/*"),
                    *("kafka.Kafka", str(self._properties)),
                ],
                cwd=self.directory,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the process that started it
                preexec_fn=end_with_parent,
            )

    def await_started(self) -> None:
        give_up = time.monotonic() + START_S
        while b"Kafka Server started" not in (said := self._log.read_bytes()):
            if self.process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                raise TidegateError(f"Kafka does not start: {_trouble(said)}; see {self._log}")
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _trouble(said: bytes) -> str:
    """The line that says why, above its stack trace."""
    lines = said.decode(errors="replace").strip().splitlines()
    return next((line for line in lines if "Exception: " in line), lines[-1] if lines else "")


def _usual(node: int, port: int, controller: int, directory: Path) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(directory.absolute() / "data"),
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
    }


def _filled(properties: Properties, **ports: int) -> dict[str, str]:
    filled = dict(properties)
    for name, port in ports.items():
        filled = {key: text.replace(f"{{{name}}}", str(port)) for key, text in filled.items()}
    return filled


def free_ports(count: int) -> Sequence[int]:
    """Ports of 127.0.0.1 that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
