"""Builds and runs containers: with Docker, or where there is none with Podman as root.

Podman gets settings and a store of its own in the user's cache, and needs neither systemd nor
cgroups v2. Where it reaches no registry, images that `.ci/containers` made stand in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from kafka_broker import give_up

HOUSE = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate/containers"
PYTHON_IMAGE = "docker.io/library/python:3.11-slim-bookworm"
KAFKA_IMAGE = "docker.io/apache/kafka:4.1.1"
PATIENCE_S = 120.0

_CONTAINERS_CONF = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""
_STORAGE_CONF = """[storage]
driver = "overlay"
graphroot = "{store}"
runroot = "{store}-run"
"""


class Engine:
    """Docker or Podman; `stand_in` says that Kafka's image is ours."""

    def __init__(self, program: str, settings: dict[str, str] | None = None):
        self.program = program
        self.environment = {**os.environ, **(settings or {})}
        self.stand_in = False

    @property
    def is_docker(self) -> bool:
        return self.program == "docker"

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command of the engine, to its end."""
        return _run([self.program, *map(str, arguments)], self.environment, check)

    def has(self, image: str) -> bool:
        return self.run("image", "inspect", image, check=False).returncode == 0

    def build(self, directory: Path, tag: str) -> None:
        options: Sequence[str] = ()
        if not self.is_docker:
            # Health checks are Docker's; a machine's own certificates count in a build, too.
            options = ("--format=docker", "--layers=false", "--pull=never")
            options = (*options, "--volume=/etc/ssl/certs:/etc/ssl/certs:ro")
        self.run("build", "--quiet", *options, "--tag", tag, directory)

    def healthy(self, container: str) -> bool:
        """Whether its health check is content; without systemd nobody but us runs it for Podman."""
        if self.is_docker:
            state = self.run("inspect", "-f", "{{.State.Health.Status}}", container).stdout
            return state.strip() == "healthy"
        return self.run("healthcheck", "run", container, check=False).returncode == 0

    @contextmanager
    def health_checked(self) -> Iterator[None]:
        """Runs the health checks of all containers, as Docker does by itself."""
        stop = Event()

        def check() -> None:
            while not stop.wait(1):
                for container in self.run("ps", "--quiet", check=False).stdout.split():
                    self.healthy(container)

        checking = Thread(target=check, daemon=True)
        if not self.is_docker:
            checking.start()
        try:
            yield
        finally:
            stop.set()
            if not self.is_docker:
                checking.join()

    @contextmanager
    def api(self, directory: Path) -> Iterator[dict[str, str]]:
        """The environment in which docker compose finds the engine."""
        if self.is_docker:
            yield self.environment
            return
        socket = directory / "podman.sock"
        with open(directory / "podman.log", "wb") as log:
            serving = subprocess.Popen(
                ["podman", "system", "service", "--time=0", f"unix://{socket}"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(socket.exists, "Podman's API")
            yield {**self.environment, "DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0"}
        finally:
            serving.terminate()
            serving.wait()


def find_engine() -> Engine:
    """Docker if it runs, else Podman with the images that are needed; else the test is skipped."""
    docker = Engine("docker")
    if shutil.which("docker") and docker.run("info", check=False).returncode == 0:
        return docker
    if shutil.which("podman") is None or os.geteuid() != 0:
        give_up("needs Docker; or Debian, root and what `.ci/containers` installs")
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "containers.conf").write_text(_CONTAINERS_CONF)
    (CACHE / "storage.conf").write_text(_STORAGE_CONF.format(store=CACHE / "store"))
    podman = Engine(
        "podman",
        {
            "CONTAINERS_CONF": str(CACHE / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(CACHE / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        },
    )
    _provide_images(podman)
    return podman


def _provide_images(podman: Engine) -> None:
    base = CACHE / "python-3.11-slim-bookworm.tar"
    if not podman.has(PYTHON_IMAGE) and not _pulled(podman, PYTHON_IMAGE):
        if not base.exists():
            give_up("reaches no registry of images; `.ci/containers` makes what stands in")
        podman.run("import", base, PYTHON_IMAGE)
    if not podman.has(KAFKA_IMAGE) and not _pulled(podman, KAFKA_IMAGE):
        podman.build(Path(__file__).parent / "kafka_image", KAFKA_IMAGE)
    entry = podman.run("image", "inspect", "-f", "{{.Config.Labels}}", KAFKA_IMAGE).stdout
    podman.stand_in = "stand-in" in entry


def _pulled(podman: Engine, image: str) -> bool:
    return podman.run("pull", "--quiet", image, check=False).returncode == 0


def find_compose(engine: Engine) -> list[str]:
    """The command of docker compose; without one the test is skipped."""
    if engine.is_docker and engine.run("compose", "version", check=False).returncode == 0:
        return ["docker", "compose"]
    for program in (shutil.which("docker-compose"), CACHE / "docker-compose"):
        if program and Path(program).exists():
            return [str(program)]
    give_up("needs docker compose; `.ci/containers` fetches it")
    raise AssertionError


def java_mounts(jars: Path) -> list[str]:
    """What the stand-in of Kafka's image lacks, from this machine."""
    java = Path(shutil.which("java") or "").resolve().parents[1]
    settings = (java / "conf" / "net.properties").resolve().parent
    return [
        f"{java}:/opt/java:ro",
        f"{jars}:/opt/kafka/libs:ro",
        *([] if settings.is_relative_to(java) else [f"{settings}:{settings}:ro"]),
    ]


def _run(
    command: Sequence[str], environment: dict[str, str], check: bool
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, env=environment, cwd=HOUSE, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stdout[-3_000:]}{done.stderr[-3_000:]}")
    return done


def wait_until(condition: object, what: str) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < give_up_at, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.5)
