"""How the processes of a data directory are: asked of each by its probes."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence

import msgspec

from dataflows.runtime.announcement import Announcement, announcements
from dataflows.runtime.config import Config
from services.supervisor.groups import Group

TIMEOUT_S = 1.0
SUPERVISOR_S = 5.0  # it asks its workers first
SUPERVISOR = "supervisor"
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy


class WorkerHealth(msgspec.Struct, frozen=True):
    """A worker as it was found: ready, alive (but not ready), or gone."""

    name: str
    pid: int
    port: int
    flows: list[str]
    state: str


def forget_workers(config: Config) -> None:
    """Removes what processes of an earlier run told."""
    for file in config.run_path.glob("*.json"):
        file.unlink()


def worker_health(config: Config) -> list[WorkerHealth]:
    """Every worker that announced itself on this data directory."""
    return [
        WorkerHealth(each.name, each.pid, each.port, each.flows, _state(config, each.port))
        for each in announcements(config.run_path)
        if each.name != SUPERVISOR
    ]


def worker_metrics(config: Config, worker: WorkerHealth) -> str:
    """What a worker's /metrics says; nothing if it does not answer."""
    there, text = _ask(config.service.host, worker.port, "metrics")
    return f"{text}\n" if there else ""


def ready_workers(config: Config, groups: Sequence[Group]) -> tuple[bool, str]:
    """Whether every group's worker is ready, and if not, which are waited for."""
    ready = {worker.name for worker in worker_health(config) if worker.state == "ready"}
    waiting = [group.name for group in groups if group.name not in ready]
    return (False, f"waiting for {', '.join(waiting)}") if waiting else (True, "ok")


def service_health(config: Config) -> tuple[bool, str]:
    """Whether what runs on this data directory is ready, and why not.

    The supervisor answers for its workers; workers without one answer for themselves.
    """
    there = list(announcements(config.run_path))
    if not there:
        return False, f"nothing runs on {config.data_path}; `tidegate up` starts it"
    for each in [a for a in there if a.name == SUPERVISOR] or there:
        ready, text = _ask(config.service.host, each.port, "readyz", SUPERVISOR_S)
        if not ready:
            return False, f"{_called(each)}: {text}"
    return True, "every slot is running"


def _called(process: Announcement) -> str:
    return f"{process.name} (process {process.pid}, port {process.port})"


def _state(config: Config, port: int) -> str:
    if _ask(config.service.host, port, "readyz")[0]:
        return "ready"
    return "alive" if _ask(config.service.host, port, "livez")[0] else "gone"


def _ask(host: str, port: int, path: str, timeout_s: float = TIMEOUT_S) -> tuple[bool, str]:
    """Whether a probe is content, and what it says."""
    try:
        with _direct.open(f"http://{host}:{port}/{path}", timeout=timeout_s) as response:
            return response.status == 200, response.read().decode().strip()
    except urllib.error.HTTPError as error:
        return False, error.read().decode(errors="replace").strip()
    except (urllib.error.URLError, OSError) as error:
        return False, f"does not answer ({getattr(error, 'reason', error)})"
