"""Files of events as tables of columns, each cell still as the file has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from services.features.errors import EventsError
from services.publisher.errors import PublishError, listing
from services.publisher.files import open_inputs

SUFFIXES = (".parquet", ".csv", ".jsonl")


@dataclass(frozen=True)
class EventFile:
    """The columns wanted of a file, n rows; `place` says where a row stands, for errors."""

    name: str
    columns: dict[str, pa.Array]
    place: Callable[[int], str]


def read_events(path: str, wanted: dict[str, str]) -> EventFile:
    """The columns of a Parquet file, a CSV with a header, or JSON lines.

    `wanted` is column -> how to say so if it is not there. Raises EventsError.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise EventsError(f"{path}: is none of {', '.join(SUFFIXES)} by its name: rename it")
    try:
        open_inputs([path], whole=suffix == ".parquet")
    except PublishError as error:
        raise EventsError(str(error)) from error
    read = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}[suffix]
    try:
        file = read(path, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise EventsError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    if not len(next(iter(file.columns.values()))):
        raise EventsError(f"{path}: there is no event in it")
    return file


def _chosen(path: str, there: list[str], wanted: dict[str, str]) -> list[str]:
    for name, remedy in wanted.items():
        if name not in there:
            raise EventsError(
                f"{path}: there is no column {name!r}: {remedy}; the columns are {listing(there)}"
            )
        if there.count(name) > 1:
            raise EventsError(f"{path}: there are two columns {name!r}: rename one of them")
    return list(wanted)


def _parquet(path: str, wanted: dict[str, str]) -> EventFile:
    names = _chosen(path, pa.parquet.read_schema(path).names, wanted)
    table = pa.parquet.read_table(path, columns=names)
    columns = {name: table[name].combine_chunks() for name in names}
    return EventFile(path, columns, lambda row: f"{path}: row {row + 1}")


def _csv(path: str, wanted: dict[str, str]) -> EventFile:
    with pa.csv.open_csv(path) as reader:
        there = reader.schema.names
    names = _chosen(path, there, wanted)
    table = pa.csv.read_csv(
        path,
        convert_options=pa.csv.ConvertOptions(
            include_columns=names,
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        ),
    )
    columns = {name: table[name].combine_chunks() for name in names}
    return EventFile(path, columns, lambda row: f"{path}:{row + 2}")


def _jsonl(path: str, wanted: dict[str, str]) -> EventFile:
    rows, lines = [], []
    decode = msgspec.json.Decoder(dict[str, object]).decode
    with open(path, "rb") as stream:
        for line, raw in enumerate(stream, 1):
            if raw.isspace():
                continue
            try:
                rows.append(decode(raw))
            except msgspec.MsgspecError as error:
                raise EventsError(f"{path}:{line}: is no JSON object ({error})") from error
            lines.append(line)
    names = _chosen(path, list(dict.fromkeys(key for row in rows for key in row)), wanted)
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except pa.ArrowException as error:
            raise EventsError(
                f"{path}: {name}: is not of one kind in all lines: {str(error).splitlines()[0]}"
            ) from error
    return EventFile(path, columns, lambda row: f"{path}:{lines[row]}")
