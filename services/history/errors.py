"""What stops a look at the past."""

from dataflows.errors import TidegateError


class HistoryError(TidegateError):
    """There is no past to look at, or not the one that was asked for."""
