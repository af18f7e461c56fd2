"""What can be wrong with a place that a change of contracts reaches, for a person."""

from dataflows.errors import TidegateError


class SchemaError(TidegateError):
    """A place cannot be compared or changed; running the command again is safe."""
