"""From a score to a decision and a severity."""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from dataflows.errors import TidegateError


class Decision(StrEnum):
    """What becomes of a payment; both REVIEW and BLOCK raise an alert."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"


class Severity(StrEnum):
    """How urgent an alert is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


DECISIONS = tuple(Decision)
SEVERITIES = tuple(Severity)


class PolicyError(TidegateError):
    """Thresholds that make no sense together."""


@dataclass(frozen=True, slots=True)
class DecisionPolicy:
    """Scores, 0..1, from which a decision or a severity holds."""

    review: float = 0.5
    block: float = 0.9
    medium: float = 0.6
    high: float = 0.75
    critical: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.review <= self.block <= 1:
            raise PolicyError(
                f"decision thresholds: review {self.review}, block {self.block}: "
                "give 0 < review <= block <= 1"
            )
        if not 0 <= self.medium <= self.high <= self.critical <= 1:
            raise PolicyError(
                f"severity thresholds: medium {self.medium}, high {self.high}, "
                f"critical {self.critical}: give them ascending, within 0..1"
            )

    def decide(self, scores: NDArray[np.float64]) -> NDArray[np.int8]:
        """Index into DECISIONS for every score."""
        return self._steps(scores, (self.review, self.block))

    def grade(self, scores: NDArray[np.float64]) -> NDArray[np.int8]:
        """Index into SEVERITIES for every score."""
        return self._steps(scores, (self.medium, self.high, self.critical))

    @staticmethod
    def _steps(scores: NDArray[np.float64], edges: tuple[float, ...]) -> NDArray[np.int8]:
        return np.searchsorted(np.array(edges), scores, side="right").astype(np.int8)


def alert_id(transaction_id: str) -> str:
    """The id of the alert about a payment: 32 hex digits.

    A function of the payment alone, so a replay, or a later rule set, finds the same alert.
    """
    return blake2b(b"alert\0" + transaction_id.encode(), digest_size=16).hexdigest()
