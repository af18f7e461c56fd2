"""A signal is heard, whatever the process does when it comes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# The lock is the event's own: whoever sets or awaits it holds it for a moment.
PROGRAM = """
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
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], timeout=60)
    assert done.returncode == 0
