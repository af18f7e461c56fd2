"""What stops an explanation."""

from dataflows.errors import TidegateError


class NothingKnown(TidegateError):
    """No alert, scored payment or incident has this id."""
