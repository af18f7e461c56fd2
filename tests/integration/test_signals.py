"""A signal is heard, whatever the process does when it comes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# The lock is the event's own: whoever sets or awaits it holds it for a moment.
INSIDE_A_WAIT = """
import signal, sys
from dataflows.runtime.signals import install
stop = install()
with stop._cond:
    for number in map(int, sys.argv[1:]):
        signal.raise_signal(number)
assert stop.wait(30)
"""


@pytest.mark.parametrize(
    "numbers", [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGINT, signal.SIGTERM)]
)
def test_a_signal_inside_a_wait_or_another_signal_is_heard(numbers: tuple[int, ...]) -> None:
    words = [str(int(number)) for number in numbers]
    done = subprocess.run([sys.executable, "-c", INSIDE_A_WAIT, *words], timeout=60)
    assert done.returncode == 0


# As a worker does: the main thread joins the others, and nothing but a signal could wake it.
IN_ANOTHER_THREAD = """
import os, signal, threading, time
from dataflows.runtime.signals import install
stop = install()
def slot():
    time.sleep(0.5)  # the main thread waits by then
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    os._exit(0 if stop.wait(10) else 1)
threading.Thread(target=slot).start()
for thread in threading.enumerate()[1:]:
    thread.join()
"""


def test_a_signal_that_another_thread_takes_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", IN_ANOTHER_THREAD], timeout=60)
    assert done.returncode == 0


def test_other_signals_stop_nothing() -> None:
    program = """
import signal
from dataflows.runtime.signals import install
stop = install()
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.raise_signal(signal.SIGUSR1)
assert not stop.wait(0.3)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
