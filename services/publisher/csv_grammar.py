"""Where the cells of a table's line are: RFC 4180 with any one-character separator, or blanks.

A quote inside a cell that does not begin with one stands for itself, as the csv module has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BLANKS = " "
"""The separator of columns aligned by runs of blanks; such a table knows no quotes."""

SEPARATORS = (",", "\t", ";", "|")

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Cells:
    """A line (or several, where cells span lines) taken apart: each cell's text and its start.

    `open_at` is the position of a quote that is never closed, `fault` a (position, reason).
    """

    texts: list[str]
    starts: list[int]
    open_at: int | None = None
    fault: tuple[int, str] | None = None


def separator_of(header: str) -> str:
    """The separator a header line shows: the first of `, TAB ; |` that it has, else blanks.

    A header of one word is a table of one column, separated by commas.
    """
    outside_quotes = re.sub(r'"[^"]*"', "", header)
    found = [separator for separator in SEPARATORS if separator in outside_quotes]
    if found:
        return found[0]
    return BLANKS if '"' not in header and len(header.split()) > 1 else ","


def take_apart(record: str, separator: str) -> Cells:
    """The cells of a record without its line end."""
    if separator == BLANKS:
        words = list(_WORD.finditer(record))
        return Cells([word.group() for word in words], [word.start() for word in words])
    texts: list[str] = []
    starts: list[int] = []
    position = 0
    while True:
        starts.append(position)
        if record.startswith('"', position):
            end = _closing_quote(record, position)
            if end is None:
                return Cells(texts, starts, open_at=position)
            texts.append(record[position + 1 : end].replace('""', '"'))
            end += 1
            if end < len(record) and record[end] != separator:
                reason = f"expected {separator!r} after the closing quote, found {record[end]!r}"
                return Cells(texts, starts, fault=(end, reason))
        else:
            end = record.find(separator, position)
            end = len(record) if end < 0 else end
            texts.append(record[position:end])
            if "\n" in texts[-1]:
                line_end = record.index("\n", position)
                return Cells(texts, starts, fault=(line_end, "a line end outside quotes"))
        if end == len(record):
            return Cells(texts, starts)
        position = end + 1


def _closing_quote(record: str, opening: int) -> int | None:
    position = record.find('"', opening + 1)
    while position >= 0 and record.startswith('""', position):
        position = record.find('"', position + 2)
    return None if position < 0 else position
