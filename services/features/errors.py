"""What stops the making of rows."""

from dataflows.errors import TidegateError


class EventsError(TidegateError):
    """Events that do not fit the spec, or a place that cannot be written; nothing is written."""
