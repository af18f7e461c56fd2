"""What keeps a cost from being told, for a person."""

from dataflows.errors import TidegateError


class CostError(TidegateError):
    """There is nothing to measure, or no price for it."""
