"""What processes and their state take up, seen from outside."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from places import Running

PAGE = os.sysconf("SC_PAGE_SIZE")
MB = 1 << 20
STARTED_S = 30.0
LOGS = "*-wal"


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / MB


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def sizes_mb(directory: Path, pattern: str) -> list[float]:
    sizes = []
    for file in directory.rglob(pattern):
        with suppress(OSError):  # a file that is gone takes up nothing
            sizes.append(file.stat().st_size / MB)
    return sizes


def state_mb(directory: Path) -> float:
    """Without write-ahead logs: SQLite folds one in from 1,000 pages on, so that the sizes of many
    say when their processes were started, not what these keep."""
    return sum(sizes_mb(directory, "*")) - sum(sizes_mb(directory, LOGS))


def worker_name(pid: int) -> str | None:
    """None of a process that is dead and waits to be buried."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return words[words.index(b"--name") + 1].decode() if b"--name" in words else None


def age_s(pid: int) -> float:
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    since_boot_s = float(Path("/proc/uptime").read_text().split()[0])
    return since_boot_s - int(started) / os.sysconf("SC_CLK_TCK")


class Samples:
    """Figures over time, by name, of processes that have had time to start everything."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(list)

    def take(self, service: Running, state: Path) -> None:
        with suppress(OSError, ProcessLookupError):  # killed while we look
            for pid in [service.process.pid, *service.children()]:
                if age_s(pid) < STARTED_S:
                    continue
                name = worker_name(pid) if pid != service.process.pid else "supervisor"
                if name is None:
                    continue
                self.taken[f"{name} MB"].append(resident_mb(pid))
                self.taken[f"{name} descriptors"].append(descriptors(pid))
        self.taken["state MB"].append(state_mb(state))
        self.taken["longest write-ahead log MB"].append(max(sizes_mb(state, LOGS), default=0.0))

    def growth(self) -> dict[str, tuple[float, float]]:
        """The medians of the second third of the time, and of the last."""
        return {
            name: (
                statistics.median(values[len(values) // 3 : 2 * len(values) // 3]),
                statistics.median(values[2 * len(values) // 3 :]),
            )
            for name, values in self.taken.items()
            if len(values) >= 9
        }


def assert_flat(samples: Samples, slack: float = 1.25, least: float = 12.0) -> None:
    """No figure grew by more than a quarter (and by so much at all) in the last third."""
    grown = {
        name: (round(before, 1), round(after, 1))
        for name, (before, after) in samples.growth().items()
        if after > before * slack and after > before + least
    }
    assert not grown, grown
