"""What can be wrong with an archive, for a person."""

from dataflows.errors import TidegateError


class ArchiveError(TidegateError):
    """The archive, or the lake beside it, is not what the command needs."""


class ArchiveDamaged(ArchiveError):
    """A file of the archive is missing, half, or not what was written."""
