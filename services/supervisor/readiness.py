"""Whether the workers say they are ready."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence

import msgspec

from dataflows.runtime.config import Config
from dataflows.runtime.worker import WorkerFile
from services.supervisor.groups import Group


def worker_files(config: Config) -> list[WorkerFile]:
    """What the workers of a data directory last told of themselves."""
    files = sorted(config.run_path.glob("*.json"))
    return [msgspec.json.decode(file.read_bytes(), type=WorkerFile) for file in files]


def forget_workers(config: Config) -> None:
    """Removes what workers of an earlier run told."""
    for file in config.run_path.glob("*.json"):
        file.unlink()


def ready_workers(config: Config, groups: Sequence[Group]) -> tuple[bool, str]:
    """Asks each worker's /readyz."""
    ports = {worker.name: worker.port for worker in worker_files(config)}
    waiting = [
        group.name
        for group in groups
        if not _answers(config.service.host, ports.get(group.name), "readyz")
    ]
    return (False, f"waiting for {', '.join(waiting)}") if waiting else (True, "ok")


def _answers(host: str, port: int | None, path: str) -> bool:
    if port is None:
        return False
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/{path}", timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
