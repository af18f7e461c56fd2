"""What stops an explanation."""

from dataflows.errors import TidegateError


class NothingKnown(TidegateError):
    """No alert and no scored payment has this id."""
