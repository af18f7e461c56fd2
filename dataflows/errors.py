"""The base of every error that is shown to a person. Light to import."""


class TidegateError(Exception):
    """A message for a person: one line that says what is wrong, where, and what to do."""

    may_pass = False
    """Whether trying again later can help, with nothing else changed."""
