"""How the workers of a data directory are: asked of each by its probes."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence

import msgspec

from dataflows.runtime.config import Config
from dataflows.runtime.worker import WorkerFile
from services.supervisor.groups import Group

TIMEOUT_S = 1.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy


class WorkerHealth(msgspec.Struct, frozen=True):
    """A worker as it was found: ready, alive (but not ready), or gone."""

    name: str
    pid: int
    port: int
    flows: list[str]
    state: str


def forget_workers(config: Config) -> None:
    """Removes what workers of an earlier run told."""
    for file in config.run_path.glob("*.json"):
        file.unlink()


def worker_health(config: Config) -> list[WorkerHealth]:
    """Every worker that announced itself on this data directory."""
    return [
        WorkerHealth(
            worker.name, worker.pid, worker.port, worker.flows, _state(config, worker.port)
        )
        for worker in _worker_files(config)
    ]


def ready_workers(config: Config, groups: Sequence[Group]) -> tuple[bool, str]:
    """Whether every group's worker is ready, and if not, which are waited for."""
    ready = {worker.name for worker in worker_health(config) if worker.state == "ready"}
    waiting = [group.name for group in groups if group.name not in ready]
    return (False, f"waiting for {', '.join(waiting)}") if waiting else (True, "ok")


def _worker_files(config: Config) -> list[WorkerFile]:
    files = sorted(config.run_path.glob("*.json"))
    return [msgspec.json.decode(file.read_bytes(), type=WorkerFile) for file in files]


def _state(config: Config, port: int) -> str:
    if _answers(config.service.host, port, "readyz"):
        return "ready"
    return "alive" if _answers(config.service.host, port, "livez") else "gone"


def _answers(host: str, port: int, path: str) -> bool:
    try:
        with _direct.open(f"http://{host}:{port}/{path}", timeout=TIMEOUT_S) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
