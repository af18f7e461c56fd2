"""Small integer ids for strings, in order of first use; a freed id is used again."""

from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

NO_NAME = -1


class Names:
    """A two-way map between strings and ids 0..n-1; a forgotten id is given out again."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._names: list[str | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def room(self) -> int:
        """One more than the highest id given out so far."""
        return len(self._names)

    def ids(self, names: Sequence[str | None]) -> NDArray[np.int32]:
        """The id of every name, in order; new names get one. None has NO_NAME."""
        found = map(self._ids.get, names, repeat(NO_NAME))  # type: ignore[arg-type]
        ids = np.fromiter(found, np.int32, len(names))
        for i in np.flatnonzero(ids == NO_NAME).tolist():
            name = names[i]
            if name is not None:
                new = self._ids.get(name)
                ids[i] = self._enter(name) if new is None else new
        return ids

    def _enter(self, name: str) -> int:
        if self._free:
            new = self._free.pop()
            self._names[new] = name
        else:
            new = len(self._names)
            self._names.append(name)
        self._ids[name] = new
        return new

    def name(self, found: int) -> str:
        """The name that an id in use stands for."""
        name = self._names[found]
        if name is None:
            raise KeyError(found)
        return name

    def forget(self, ids: Iterable[int]) -> None:
        """Free ids that nothing uses any more."""
        for found in ids:
            del self._ids[self.name(found)]
            self._names[found] = None
            self._free.append(found)
