"""Slots that go on from their state at the same time do not end the process."""

from __future__ import annotations

import subprocess
import sys

from dataflows.runtime.config import HOUSE

PROGRAM = """
import sys
from threading import Barrier, Thread
import msgspec
from dataflows.eventtime.snapshots import decode_snapshot

sys.setswitchinterval(1e-6)
fields = [(f"field_{k}", int) for k in range(12)]

def together(number):
    inner = msgspec.defstruct(f"Inner{number}", fields)
    kind = msgspec.defstruct(f"Header{number}", [("version", int), ("of", inner)], array_like=True)
    snapshot = msgspec.msgpack.encode([1, dict.fromkeys(dict(fields), 7)])
    ready = Barrier(4)

    def restore():
        ready.wait()
        assert decode_snapshot(snapshot, kind, (1,), "test").of.field_3 == 7

    threads = [Thread(target=restore) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

for number in range(1500):
    together(number)
"""


def test_slots_may_restore_the_same_kind_of_state_at_once() -> None:
    """Without preparation msgspec ends the process: SIGSEGV."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
