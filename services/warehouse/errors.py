"""What can be wrong with a warehouse, for a person."""

from dataflows.errors import TidegateError


class WarehouseError(TidegateError):
    """The warehouse cannot be built or asked; the last good one is as it was."""


class ChecksFailed(WarehouseError):
    """It was built, but tests say that it is not right: the last good one stays."""
