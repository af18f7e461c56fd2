"""The base of every error that is shown to a person."""


class TidegateError(Exception):
    """A message for a person: one line that says what is wrong, where, and what to do."""


class ContractError(TidegateError):
    """A folder in schemas/ cannot be used: the message names the file, the place and the remedy."""
