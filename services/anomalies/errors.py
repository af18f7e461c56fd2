"""What stops the scoring of a series."""

from dataflows.errors import TidegateError


class SeriesError(TidegateError):
    """The file is no series, or the place for the scores cannot take them; nothing is written."""
