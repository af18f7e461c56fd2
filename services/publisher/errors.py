"""What stops a publication; a single bad line does not, it is reported."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from dataflows.errors import TidegateError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.publisher.report import PublishReport


class PublishError(TidegateError):
    """The command cannot be carried out as it was given; nothing has been published."""


class PublishInterrupted(TidegateError):
    """The log or the file system failed half way; `report` tells what was published until then."""

    def __init__(self, message: str, report: PublishReport) -> None:
        super().__init__(message)
        self.report = report


def listing(names: Iterable[str], limit: int = 20) -> str:
    """`a, b, c`, shortened after `limit` names."""
    names = [name if len(name) <= 40 else f"{name[:39]}…" for name in names]
    shown = ", ".join(names[:limit]) or "none"
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def suggestion(name: str, known: Iterable[str]) -> str:
    """` (did you mean x or y?)`, or nothing when no known name is near."""
    known = list(known)
    near = [path for path in known if path.rpartition(".")[2] == name]
    near = near or get_close_matches(name, known, n=3)
    return f" (did you mean {' or '.join(near)}?)" if near else ""
