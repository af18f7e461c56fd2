"""Who may work on the bundles of a slot: one at a time, wherever the bundles are.

A shared folder has no locks that hold everywhere, so a lease is a file that only one can make:
`<slot>.<number>.lease`, each number once. Whoever makes the next one while the last is released or
has expired holds it, and the number goes into the name of what it writes: who was believed dead and
writes nevertheless writes under a lower number, which nobody reads any more.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from dataflows.runtime.recovery import LeaseHeld
from services.bundles.shelf import Shelf

LASTS_S = 600.0
_SUFFIX = ".lease"


class _Holder(msgspec.Struct, frozen=True):
    owner: str
    expires: float  # seconds since the epoch
    released: bool = False


def _default_owner() -> str:
    return f"{socket.gethostname()}, process {os.getpid()}"


class SharedLease:
    """The right to write and read bundles of a slot, until `release` or for ten minutes.

    Raises:
        LeaseHeld: somebody else has it; says who and until when.
    """

    def __init__(
        self,
        shelf: Shelf,
        slot: str,
        owner: str | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self._shelf, self._slot = shelf, slot
        last = max(_numbers(shelf, slot), default=0)
        if last:
            self._refuse_if_held(last, clock())
        self.number = last + 1
        self._holder = _Holder(owner or _default_owner(), clock() + LASTS_S)
        if not shelf.write_new(self._file(self.number), msgspec.json.encode(self._holder)):
            raise self._just_taken()
        numbers = _numbers(shelf, slot)
        if max(numbers) > self.number:  # it was slow, and its number had come and gone
            shelf.remove(self._file(self.number))
            raise self._just_taken()
        for number in numbers:
            if number < self.number:
                shelf.remove(self._file(number))

    def _refuse_if_held(self, number: int, now: float) -> None:
        found = self._shelf.read(self._file(number))
        if found is None:
            raise self._just_taken()
        content, written = found
        try:
            holder = msgspec.json.decode(content, type=_Holder)
        except msgspec.MsgspecError:  # on its way, or half of it for ever
            holder = _Holder("somebody", written + LASTS_S)
        if not holder.released and holder.expires > now:
            until = datetime.fromtimestamp(holder.expires, UTC).isoformat(timespec="seconds")
            raise LeaseHeld(
                f"{self._shelf.url}: {holder.owner} is at work on the bundles of slot "
                f"{self._slot}; wait until it is done, or until {until} if it has died"
            )

    def _just_taken(self) -> LeaseHeld:
        where, slot = self._shelf.url, self._slot
        return LeaseHeld(f"{where}: somebody else has just begun to work on slot {slot}; try again")

    def release(self) -> None:
        """Lets the next one in; the file stays, so that no number comes twice."""
        released = msgspec.structs.replace(self._holder, released=True)
        self._shelf.write(self._file(self.number), msgspec.json.encode(released))

    def _file(self, number: int) -> str:
        return f"{self._slot}.{number:08d}{_SUFFIX}"


def _numbers(shelf: Shelf, slot: str) -> list[int]:
    found = [name.removesuffix(_SUFFIX) for name in shelf.names() if name.endswith(_SUFFIX)]
    parts = [name.rpartition(".") for name in found]
    return [int(number) for name, _, number in parts if name == slot and number.isdecimal()]
