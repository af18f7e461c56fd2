"""Exit codes of every command (docs/reference/cli.md)."""

from enum import IntEnum


class Exit(IntEnum):
    """Sysexits where there is one for it."""

    OK = 0
    CHECK_FAILED = 1  # the command worked; its answer is no
    USAGE = 2
    BAD_DATA = 65  # some input was refused; the rest was accepted
    CRASHED = 70
    UNAVAILABLE = 75  # what is needed is held, or out of reach; try again
    REFUSED = 78  # configuration, state or log do not fit; trying again does not help
