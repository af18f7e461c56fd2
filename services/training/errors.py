"""What stops a training."""

from dataflows.errors import TidegateError


class TrainingError(TidegateError):
    """No model comes of these events and this spec: the message says why, and what to do."""
