"""Files into a raw topic: `publish_files` is what `tidegate publish` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from dataflows.connectors.records import Output, published
from dataflows.contracts import Contract, TidegateError
from services.publisher.combined_log import CombinedLog
from services.publisher.csv_rows import CsvTable
from services.publisher.errors import PublishError, PublishInterrupted
from services.publisher.files import MAX_RECORD_BYTES, Fault, InputFile, line_blocks, open_inputs
from services.publisher.jsonl import JsonLines, MappedJsonLines
from services.publisher.options import Format, Order, PublishOptions
from services.publisher.ordering import TimeOrder
from services.publisher.parsed import Heads, Parsed, Reader
from services.publisher.report import Progress, PublishReport

BATCH_RECORDS = 5_000
"""So many records are appended at a time."""

Append = Callable[[list[Output]], None]


def publish_files(
    contract: Contract,
    files: Sequence[str],
    options: PublishOptions,
    append: Append,
    on_progress: Callable[[Progress], None] | None = None,
    stdin: BinaryIO | None = None,
) -> PublishReport:
    """Read `files` (`-` is standard input) and append their records to the contract's raw topic.

    Memory does not grow with the files. Raises PublishError before anything is appended when the
    command, a file or a mapping cannot be used; PublishInterrupted when reading or `append` fails
    later. Bad lines are reported, not raised. A dry run does everything but call `append`.
    """
    inputs = open_inputs(files, options.whole_file, stdin)
    publication = _Publication(contract, options, append, on_progress)
    if options.whole_file:
        sources = [(file, _whole(contract, file)) for file in inputs]
        by_time = options.order is Order.TIME
    else:
        readers = [(file, _reader(contract, file, options)) for file in inputs]
        sources = [(file, reader.parse(line_blocks(file.chunks()))) for file, reader in readers]
        by_time = _by_time(inputs, options)
    return publication.run(sources, by_time)


class _Publication:
    """Collects records into batches and appends them, counting."""

    def __init__(
        self,
        contract: Contract,
        options: PublishOptions,
        append: Append,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._options = options
        self._append = append
        self._on_progress = on_progress
        self._waiting = Parsed()
        self._report = PublishReport(contract.source, contract.topic, options.dry_run)

    def run(
        self, sources: Sequence[tuple[InputFile, Iterator[Parsed]]], by_time: bool
    ) -> PublishReport:
        try:
            order = TimeOrder() if by_time else None
            for file, batches in sources:
                self._report.files += 1
                for parsed in batches:
                    self._judge(file, parsed)
                    if order is None:
                        self._take(parsed, at_once=file.is_pipe)
                    else:
                        order.add(parsed)
                    self._tell(file)
            for parsed in order.batches() if order is not None else ():
                self._take(parsed)
                self._tell(sources[-1][0])
            self._flush()
            self._tell(sources[-1][0])
        except PublishError:
            raise
        except (OSError, TidegateError) as error:
            raise self._interrupted(error) from error
        if self._report.rejected and not self._report.accepted:
            self._report.hint = (
                "nothing could be published: does --format (jsonl, csv or combined-log) fit the"
                " file? --whole-file publishes it as one record"
            )
        return self._report

    def _judge(self, file: InputFile, parsed: Parsed) -> None:
        self._report.reject(file.name, parsed.faults)
        self._report.note(file.name, parsed.notes)
        self._report.skipped_blank += parsed.blank

    def _take(self, parsed: Parsed, at_once: bool = False) -> None:
        self._waiting.extend(parsed)
        while len(self._waiting.values) >= BATCH_RECORDS:
            self._publish(self._waiting.first(BATCH_RECORDS))
        if at_once:
            self._flush()

    def _flush(self) -> None:
        if self._waiting.values:
            self._publish(self._waiting.first(BATCH_RECORDS))

    def _publish(self, batch: Parsed) -> None:
        if not self._options.dry_run:
            self._append([published(self._report.topic, batch.keys, [*batch.values])])
        self._report.accept(batch, self._options)

    def _tell(self, file: InputFile) -> None:
        if self._on_progress is not None:
            accepted, rejected = self._report.accepted, self._report.rejected
            self._on_progress(Progress(file.name, file.position, file.size, accepted, rejected))

    def _interrupted(self, error: Exception) -> PublishInterrupted:
        reason = str(error)
        if isinstance(error, OSError) and error.strerror:
            reason = (
                error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
            )
        return PublishInterrupted(
            f"publishing stopped: {reason}; {self._report.accepted:,} records had been published:"
            " give the same command again, what is already there counts as a duplicate",
            self._report,
        )


def _by_time(inputs: Sequence[InputFile], options: PublishOptions) -> bool:
    """JSON lines and a live log have an order of arrival; a table and a log at rest have none."""
    if options.order is not None:
        return options.order is Order.TIME
    at_rest = [
        options.format_of(file.name) is Format.CSV
        or (options.format_of(file.name) is Format.COMBINED_LOG and not file.is_pipe)
        for file in inputs
    ]
    return all(at_rest)


def _reader(contract: Contract, file: InputFile, options: PublishOptions) -> Reader:
    match options.format_of(file.name):
        case Format.CSV:
            return CsvTable(contract, options, file.name, file.head())
        case Format.COMBINED_LOG:
            return CombinedLog(contract, options, file.name)
        case _ if options.mapping or options.constants:
            return MappedJsonLines(contract, options, file.name, file.head())
        case _ if options.timestamp_format is not None:
            raise PublishError(
                f"{file.name}: JSON lines are published as they are: --timestamp-format needs"
                f" --map {contract.event_time}=FIELD"
            )
        case _:
            return JsonLines(contract)


def _whole(contract: Contract, file: InputFile) -> Iterator[Parsed]:
    """The file as one record; its key is None unless it is JSON that has one."""
    content = b""
    for chunk in file.chunks():
        content += chunk
        if len(content) > MAX_RECORD_BYTES:
            reason = f"the file is longer than {MAX_RECORD_BYTES:,} bytes"
            yield Parsed(faults=[Fault(1, 1, reason)])
            return
    heads = Heads(contract)
    keys, times_us = heads.columns([heads.read_any(content) or heads.nothing])
    yield Parsed(keys, [content], times_us)
