"""SIGTERM and SIGINT mean: drain. Installed before anything heavy is imported."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

STOP = threading.Event()
SUPERVISED = "TIDEGATE_SUPERVISED"
STDIN = 0
STOPS = (signal.SIGTERM, signal.SIGINT)


def install() -> threading.Event:
    """Sets the event on SIGTERM, SIGINT, and, when supervised, when the supervisor is gone.

    A supervisor holds the other end of the process's stdin, so its death, however sudden, is seen
    as the end of that stream.
    """
    heard, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in STOPS:
        signal.signal(number, _leave_it_to_the_thread)
    _in_thread("signals", lambda: _until_told(heard))
    if os.environ.pop(SUPERVISED, ""):
        _in_thread("supervisor", _end_of_stdin)
    return STOP


def _leave_it_to_the_thread(number: int, frame: object) -> None:
    """The main thread may run this late or never: it is not woken if another thread took the
    signal, as happens on a busy machine with two in a row. And inside a wait or another handler it
    must take no lock, which setting an event does."""


def _until_told(heard: int) -> None:
    """Python writes the number of a signal there, in whichever thread it came."""
    while not set(STOPS) & set(os.read(heard, 64)):
        pass


def _in_thread(name: str, waits: Callable[[], object]) -> None:
    def run() -> None:
        waits()
        STOP.set()

    threading.Thread(target=run, name=name, daemon=True).start()


def _end_of_stdin() -> None:
    # Not through sys.stdin: a thread inside its buffer would abort the interpreter at its end.
    while os.read(STDIN, 4096):
        pass
