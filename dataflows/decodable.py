"""Types made ready to be decoded into by several threads.

msgspec looks a type over when something is first decoded into it, or when a decoder of it is made,
and lets other threads run meanwhile. One that comes to the same type then, or to one that holds it,
ends the process: SIGSEGV (msgspec 0.22). Slots are threads: what they decode into is made ready
when its module is imported, or under the lock here.
"""

from __future__ import annotations

from threading import RLock
from typing import Final

import msgspec

LOOKING_OVER: Final = RLock()
"""Held by whoever makes decoders of types that other threads may see, too."""


def make_decodable(kind: type) -> None:
    """Look a type over, once; cheap afterwards."""
    with LOOKING_OVER:
        msgspec.msgpack.Decoder(kind)
