"""What a system said, held against what is right."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.peers.workloads import Answer, Key

GONE = object()  # the value of a key that a system takes back


@dataclass
class Judged:
    """Counts, as they come in, the rows that are missing, wrong, unknown or repeated.

    Args:
        right: the right answer.
        corrects: the system publishes a key again when it knows better, and means the last one;
            of any other system a second row of a key is a repeated one.
        known_before: keys of an earlier load, of no interest any more.
    """

    right: Answer
    corrects: bool = False
    known_before: frozenset[Key] = frozenset()
    said: dict[Key, object] = field(default_factory=dict)
    repeated: int = 0
    _hits: int = 0

    def hear(self, key: Key, value: object) -> None:
        if key in self.known_before:
            return
        before = self.said.get(key, GONE)
        if before is not GONE and not self.corrects:
            self.repeated += 1
        if key in self.right:
            wanted = self.right[key]
            self._hits += (value == wanted) - (before == wanted)
        if value is GONE:
            self.said.pop(key, None)
        else:
            self.said[key] = value

    @property
    def complete(self) -> bool:
        """Every row of the right answer was said; there may be others beside them."""
        return self._hits == len(self.right)

    @property
    def error(self) -> float:
        """Rows that are missing, wrong, unknown or repeated, by the rows of the right answer."""
        unknown = sum(key not in self.right for key in self.said)
        wrong = len(self.right) - self._hits
        return (wrong + unknown + self.repeated) / max(len(self.right), 1)
