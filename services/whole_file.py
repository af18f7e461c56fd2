"""A file that is there whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dataflows.errors import TidegateError


@contextmanager
def whole_file(out: str, refuse: type[TidegateError]) -> Iterator[Path]:
    """The path of a file to fill, which takes its place when the block ends well.

    Raises `refuse`, one line, if it cannot be written; what was there before is untouched.
    """
    place = Path(out)
    try:
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
        os.close(handle)
    except OSError as error:
        raise refuse(f"{out}: cannot be written: {error.strerror or error}") from error
    try:
        yield Path(name)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, place)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, OSError):
            raise refuse(f"{out}: cannot be written: {error.strerror or error}") from error
        raise
