"""What a measurement says."""

from __future__ import annotations

import msgspec


class Measured(msgspec.Struct, kw_only=True):
    """What a case saw; `seconds` is CPU time unless the case is about waiting."""

    events: int
    cpu_seconds: float
    wall_seconds: float
    rss_mb: float = 0.0
    note: str = ""
    figure: str = ""  # what the case is about, where that is neither events nor seconds


class NotMeasured(Exception):
    """What this machine lacks for a case."""


NOT_MEASURED = 75  # the exit code that says so
