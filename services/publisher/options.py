"""What a person asked for, checked as far as it can be without the contract and the files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from services.publisher.errors import PublishError, listing, suggestion


class Format(StrEnum):
    """How the records lie in a file."""

    JSONL = "jsonl"
    CSV = "csv"
    COMBINED_LOG = "combined-log"


class Order(StrEnum):
    """The order in which records are published."""

    FILE = "file"
    TIME = "time"


EPOCH_SECONDS = "%s"
"""The timestamp format that is not strptime's: seconds since 1970, as `date +%s` prints them."""

_SUFFIXES = {".csv": Format.CSV, ".log": Format.COMBINED_LOG}


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How to read the files and what to make of them.

    `format` None goes by each file's name. `mapping` is field -> column, `constants` field -> text.
    `order` None means by event time for tables and for server logs in files, which have no order of
    arrival, and else as the records come.

    Event times after `not_after_us` (arrival + max_future, microseconds) are left out of the
    report's last event time: ingest refuses those events. `late_after_us` (bound + lateness,
    microseconds) tells how far behind an event is too late for the stream.
    """

    format: Format | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    timestamp_format: str | None = None
    whole_file: bool = False
    dry_run: bool = False
    order: Order | None = None
    not_after_us: int | None = None
    late_after_us: int | None = None

    def format_of(self, name: str) -> Format:
        """The format of the file `name`: as asked for, else by its suffix, else JSON lines."""
        if self.format is not None:
            return self.format
        plain = name.lower().removesuffix(".gz")
        return next((f for suffix, f in _SUFFIXES.items() if plain.endswith(suffix)), Format.JSONL)


def parse_options(
    format: str | None = None,
    mapping: Iterable[str] = (),
    constants: Iterable[str] = (),
    timestamp_format: str | None = None,
    whole_file: bool = False,
    dry_run: bool = False,
    order: str | None = None,
    not_after_us: int | None = None,
    late_after_us: int | None = None,
) -> PublishOptions:
    """The options as typed on a command line (`field=column`, `field=value`).

    Raises PublishError, one line, for anything that contradicts itself or cannot be understood.
    """
    columns = _assignments("--map", "column", mapping)
    values = _assignments("--set", "value", constants)
    for name in columns.keys() & values.keys():
        raise PublishError(f"{name} is given by --map and by --set: leave one of them out")
    if whole_file:
        given = {"--format": format, "--map": columns, "--set": values}
        for option, value in {**given, "--timestamp-format": timestamp_format}.items():
            if value:
                raise PublishError(
                    f"--whole-file publishes each file byte for byte: leave out {option}"
                )
    if timestamp_format is not None:
        _check_timestamp_format(timestamp_format)
    return PublishOptions(
        format=None if format is None else Format(_choice("--format", format, Format)),
        mapping=columns,
        constants=values,
        timestamp_format=timestamp_format,
        whole_file=whole_file,
        dry_run=dry_run,
        order=None if order is None else Order(_choice("--order", order, Order)),
        not_after_us=not_after_us,
        late_after_us=late_after_us,
    )


def _assignments(option: str, right: str, texts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not (name and equals and value):
            raise PublishError(f"{option} {text!r}: write it as {option} field={right}")
        if name in found:
            raise PublishError(
                f"{option} gives {name} twice, {found[name]!r} and {value!r}: leave one of them out"
            )
        found[name] = value
    return found


def _choice(option: str, text: str, known: type[StrEnum]) -> str:
    names = [member.value for member in known]
    if text not in names:
        raise PublishError(
            f"{option} {text!r} is not known{suggestion(text, names)}: use one of {listing(names)}"
        )
    return text


def _check_timestamp_format(text: str) -> None:
    if text == EPOCH_SECONDS:
        return
    example = "--timestamp-format takes strptime's directives, e.g. %Y%m%d or '%d.%m.%Y %H:%M'"
    try:
        parsed = datetime.strptime(datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC).strftime(text), text)
    except (ValueError, re.error) as error:
        raise PublishError(f"--timestamp-format {text!r}: {error}; {example}") from error
    if parsed.year != 2001:
        raise PublishError(f"--timestamp-format {text!r} has no year; {example}")
