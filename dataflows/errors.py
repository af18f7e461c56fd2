"""The base of every error that is shown to a person. Light to import, so that commands start fast."""


class TidegateError(Exception):
    """A message for a person: one line that says what is wrong, where, and what to do."""
