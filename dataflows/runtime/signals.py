"""SIGTERM and SIGINT mean: drain. Installed before anything heavy is imported."""

from __future__ import annotations

import os
import signal
import threading

STOP = threading.Event()
SUPERVISED = "TIDEGATE_SUPERVISED"


def install() -> threading.Event:
    """Sets the event on SIGTERM, SIGINT, and, when supervised, when the supervisor is gone.

    A supervisor holds the other end of the process's stdin, so its death, however sudden, is seen
    as the end of that stream.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: STOP.set())
    if os.environ.pop(SUPERVISED, ""):
        threading.Thread(target=_stop_at_end_of_stdin, name="supervisor", daemon=True).start()
    return STOP


def _stop_at_end_of_stdin() -> None:
    # Not through sys.stdin: a thread inside its buffer would abort the interpreter at its end.
    while os.read(0, 4096):
        pass
    STOP.set()
