"""SIGTERM and SIGINT mean: drain. Installed before anything heavy is imported."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

STOP = threading.Event()
SUPERVISED = "TIDEGATE_SUPERVISED"
STDIN = 0


def install() -> threading.Event:
    """Sets the event on SIGTERM, SIGINT, and, when supervised, when the supervisor is gone.

    A supervisor holds the other end of the process's stdin, so its death, however sudden, is seen
    as the end of that stream.
    """
    heard, tell = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        # A handler runs inside whatever the main thread does, another handler included: it must
        # take no lock, and an event has one.
        signal.signal(number, lambda *_: os.write(tell, b"."))
    _in_thread("signals", lambda: os.read(heard, 1))
    if os.environ.pop(SUPERVISED, ""):
        _in_thread("supervisor", _end_of_stdin)
    return STOP


def _in_thread(name: str, waits: Callable[[], object]) -> None:
    def run() -> None:
        waits()
        STOP.set()

    threading.Thread(target=run, name=name, daemon=True).start()


def _end_of_stdin() -> None:
    # Not through sys.stdin: a thread inside its buffer would abort the interpreter at its end.
    while os.read(STDIN, 4096):
        pass
