"""A log under test, whichever it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Backend:
    """A running log. It may hold topics and slots of other tests: names are made here."""

    url: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def name(self, what: str) -> str:
        """A topic or slot that nobody else uses."""
        return f"{what}.{next(self._numbers)}"
