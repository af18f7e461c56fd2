"""What can be wrong with a contract."""

from dataflows.errors import TidegateError

__all__ = ["ContractError", "TidegateError"]


class ContractError(TidegateError):
    """A folder in schemas/ cannot be used: the message names the file, the place and the remedy."""
