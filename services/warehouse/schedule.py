"""Builds the warehouse again and again, on a machine of its own; elsewhere a CronJob does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dataflows.durations import Duration
from dataflows.errors import TidegateError
from dataflows.runtime.config import Config
from services.warehouse.build import build
from services.warehouse.terminal import lines


def keep_building(
    config: Config, every: Duration, stop: threading.Event, say: Callable[[str], None]
) -> None:
    """Builds at once and then as often as told, until `stop`; a build under way is finished.

    Each build makes anew what has changed since, late events among it. One that fails leaves the
    last good warehouse, says why, and the next one tries again.

    Args:
        every: from the start of a build to the start of the next; at once if one takes longer.
        say: gets a line a build.
    """
    while not stop.is_set():
        started = time.monotonic()
        try:
            say(" ".join(lines(build(config))[:2]))
        except TidegateError as error:
            say(str(error))
        stop.wait(max(0.0, every.seconds - (time.monotonic() - started)))
