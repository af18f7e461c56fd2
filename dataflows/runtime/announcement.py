"""What a process of a data directory tells others about itself, in run/<name>.json."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec


class Announcement(msgspec.Struct, frozen=True):
    """A process: where its probes answer, and which flows it hosts."""

    name: str
    pid: int
    port: int
    flows: list[str]
    started_us: int


def announce(directory: Path, name: str, pid: int, port: int, flows: list[str]) -> None:
    """Writes it whole or not at all; what an earlier process of the name said is replaced."""
    directory.mkdir(parents=True, exist_ok=True)
    fresh = directory / f"{name}.json.new"
    announcement = Announcement(name, pid, port, flows, time.time_ns() // 1_000)
    fresh.write_bytes(msgspec.json.encode(announcement))
    fresh.rename(directory / f"{name}.json")


def announcements(directory: Path) -> Iterator[Announcement]:
    """Every process that announced itself, by name; some may be gone."""
    for file in sorted(directory.glob("*.json")):
        yield msgspec.json.decode(file.read_bytes(), type=Announcement)
