"""Reasons in words: a template with {columns}, filled with values as people write them."""

import string
from collections.abc import Mapping
from dataclasses import dataclass

from dataflows.detection.predicates import unknown_column
from dataflows.errors import TidegateError
from dataflows.features.columns import Columns, ColumnSpec, Kind, Scalar, Unit

MISSING = "unknown"


class SentenceError(TidegateError):
    """A template that cannot be filled."""


@dataclass(frozen=True)
class Sentence:
    """A parsed template; `columns` are the names it shows."""

    template: str
    columns: tuple[str, ...]
    _parts: tuple[tuple[str, ColumnSpec | None], ...]

    def render(self, columns: Columns, row: int) -> str:
        """The sentence for one row."""
        words = []
        for text, spec in self._parts:
            words.append(text)
            if spec is not None:
                column = columns[spec.name]
                value = column.values.item(row) if column.valid[row] else None
                words.append(in_words(value, spec))
        return "".join(words)


def parse_sentence(template: str, specs: Mapping[str, ColumnSpec]) -> Sentence:
    """Parse a template over the declared columns.

    Raises SentenceError for an unknown column or a placeholder that is more than a name.
    """
    parts: list[tuple[str, ColumnSpec | None]] = []
    try:
        for text, name, form, conversion in string.Formatter().parse(template):
            if name is None:
                parts.append((text, None))
                continue
            if form or conversion or not name.isidentifier():
                raise SentenceError(f"{{{name}}} must be a column's name and nothing else")
            if name not in specs:
                raise SentenceError(unknown_column(name, specs))
            parts.append((text, specs[name]))
    except ValueError as error:
        raise SentenceError(f"{error}: write {{column}}, and {{{{ or }}}} for a brace") from error
    names = tuple(spec.name for _, spec in parts if spec is not None)
    return Sentence(template, names, tuple(parts))


def in_words(value: Scalar | None, spec: ColumnSpec) -> str:
    """A value as people write it: 1,234.50, 7, 3 min, 12.4, 03:00."""
    if value is None:
        return MISSING
    if spec.kind is Kind.BOOLEAN:
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    match spec.unit:
        case Unit.COUNT:
            return f"{value:,.0f}"
        case Unit.MONEY:
            return f"{value:,.2f}"
        case Unit.RATIO:
            return f"{value:,.1f}"
        case Unit.HOUR:
            return f"{value:02.0f}:00"
        case Unit.SECONDS:
            return _duration(value)
        case Unit.NONE:
            return f"{value:g}"


def _duration(seconds: float) -> str:
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
