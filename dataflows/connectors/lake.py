"""The lake: Parquet files by table and event date, each record in exactly one of them.

    <root>/<table>/event_date=2026-11-23/<slot>-<start>-<next>.parquet
    <root>/<table>/_commits/<slot>.json
    <root>/<table>/_staging/<slot>/<commit>/<number>

A file holds what a slot made of its input offsets start..next-1 for that date, so its name alone
says where each record of the log has gone. A write puts its files into staging, then replaces the
slot's commit file, which lists them and the next offset: from that instant the write has happened.
Then the files are renamed into place. A writer that dies in between is finished by the next one;
one that dies earlier has written nothing.

What readers see: a glob over `**/*.parquet` never finds half a file and never misses a record that
it found before. In the instant of a write it may find the files of some dates and not yet of
others; in the instant of a compaction it may find records twice, in the merged file and in one
that it replaces; a file it has found may be gone when it is opened, which is an error, not a wrong
answer. `lake_files` gives a list without the first two.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataflows.durable import sync
from dataflows.errors import TidegateError

DATE_COLUMN = "event_date"

_NAME = re.compile(r"(?P<slot>[\w.-]+)-(?P<start>\d{12,})-(?P<next>\d{12,})\.parquet")
_SLOT = re.compile(r"[\w.-]+")
_LISTING_ATTEMPTS = 100
_LISTING_WAIT_SECONDS = 0.02

_log = logging.getLogger(__name__)


class LakeError(TidegateError):
    """The lake cannot be written or read; what was committed before is safe."""

    may_pass = True


class LakeFile(NamedTuple):
    """A data file of a table, by what its path says. Sorts by date, slot and offset."""

    date: str
    slot: str
    start: int
    next: int

    @property
    def path(self) -> str:
        """Relative to the table's folder."""
        return f"{DATE_COLUMN}={self.date}/{self.slot}-{self.start:012d}-{self.next:012d}.parquet"

    @staticmethod
    def parse(folder: str, name: str) -> LakeFile | None:
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        date = folder.removeprefix(f"{DATE_COLUMN}=")
        return LakeFile(date, match["slot"], int(match["start"]), int(match["next"]))


class _Placed(msgspec.Struct, frozen=True):
    """A file of a commit, and those it takes the place of."""

    path: str
    replaces: list[str] = []


class _Commit(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last thing a slot did to its table; `records` of all its writes so far, by date."""

    seq: int
    next_offset: int
    files: list[_Placed]
    records: dict[str, int] | None = None  # lakes of earlier versions do not say
    removes: list[str] = []


_decode_commit = msgspec.json.Decoder(_Commit).decode


class LakeGap(NamedTuple):
    """A slot and a date whose files do not hold as many records as were written."""

    slot: str
    date: str
    written: int
    found: int


class SlotProgress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a slot is in a table: the first input offset that is not there, records by date."""

    next_offset: int
    records: dict[str, int]


class _Progress(NamedTuple):
    """The last commit of each slot, and those whose files are not all in place."""

    commits: dict[str, _Commit]
    unfinished: dict[str, _Commit]


class LakeWriter:
    """Writes one table for one slot. One writer at a time, which the slot's lease is there for.

    Opening it finishes the last commit and forgets what was not committed.

    Args:
        root: the folder of all tables, made if it is not there.
        slot: letters, digits, `_`, `.` and `-`.
        small_records: `compact` merges files with fewer records than that.

    Raises:
        LakeError: the folder cannot be used, or was tampered with.
    """

    def __init__(self, root: Path, table: str, slot: str, *, small_records: int = 50_000):
        if not _SLOT.fullmatch(slot):
            raise ValueError(f"{slot!r} cannot be part of a file name")
        self._table = _Table(root / table)
        self._slot = slot
        self._small_records = small_records
        self._records: dict[LakeFile, int] = {}
        self._commit: _Commit | None = self._table.commit(slot)
        if self._commit is None and any(file.slot == slot for file in self._table.files()):
            raise LakeError(
                f"{self._table.folder} holds files of slot {slot}, but its commit file "
                f"{self._table.commit_path(slot)} is gone; restore it, or remove those files to "
                "load them again"
            )
        self._table.forget_staged(slot, keep=self._commit)
        self._resume()

    @property
    def next_offset(self) -> int | None:
        """The first input offset that is not in the lake yet; None before the first write."""
        return None if self._commit is None else self._commit.next_offset

    def write(
        self,
        rows: pa.Table,
        dates: NDArray[np.datetime64],
        start_offset: int,
        next_offset: int,
    ) -> None:
        """Adds what the input offsets start_offset..next_offset-1 gave, one file a date.

        Returns when it is on disk. Rows keep their order within a date. No rows at all only move
        `next_offset`. An error leaves the lake as it was, or as it is after the write; in doubt,
        open a new writer and look at its `next_offset`.

        Args:
            rows: without an `event_date` column: that is in the path.
            dates: the event date of each row.

        Raises:
            ValueError: offsets that are written already, or dates that do not fit the rows.
            LakeError: the disk does not take it.
        """
        self._resume()
        if start_offset < (self.next_offset or 0) or next_offset < start_offset:
            raise ValueError(
                f"{self._table.folder}: offsets {start_offset}..{next_offset} do not follow "
                f"{self.next_offset}"
            )
        with _explained(self._table.folder):
            placed: list[_Placed] = []
            staging, written = self._stage(), self._written()
            for date, part in _by_date(rows, dates):
                file = LakeFile(date, self._slot, start_offset, next_offset)
                _write_parquet(staging / str(len(placed)), part)
                placed.append(_Placed(file.path))
                written[date] += len(part)
            self._publish(next_offset, placed, written)

    def take_back(self, dates: Collection[str]) -> int:
        """Removes what this slot has written of these dates; returns how many records that were.

        All of it is gone, or nothing. Their offsets are not used again.

        Raises:
            LakeError: the disk does not take it.
        """
        self._resume()
        with _explained(self._table.folder):
            files = [file for file in self._mine() if file.date in dates]
            if not files:
                return 0
            written = self._written()
            taken = sum(written.pop(date) for date in {file.date for file in files})
            self._stage()
            self._publish(self.next_offset or 0, [], written, [file.path for file in files])
        return taken

    def _written(self) -> Counter[str]:
        """Records of all writes so far, by date."""
        if self._commit is not None and self._commit.records is not None:
            return Counter(self._commit.records)
        written: Counter[str] = Counter()
        for file in self._mine():
            written[file.date] += self._count(file)
        return written

    def compact(self, min_files: int = 8) -> int:
        """Merges neighbouring small files of a date where that pays; returns how many went.

        Neighbours are merged once there are `min_files` of them, or enough records for a file that
        is no longer small. A file with more records than all that follow it waits for them to
        become more, so that a record is rewritten a few times, not once a compaction.

        Raises:
            LakeError: the disk does not take it.
        """
        self._resume()
        placed: list[_Placed] = []
        with _explained(self._table.folder):
            runs = list(self._runs(min_files))
            if not runs:
                return 0
            staging = self._stage()
            for run in runs:
                merged = self._merge(run)
                if merged is not None:
                    file = LakeFile(run[0].date, self._slot, run[0].start, run[-1].next)
                    _write_parquet(staging / str(len(placed)), merged)
                    placed.append(_Placed(file.path, [old.path for old in run]))
            if placed:
                self._publish(self.next_offset or 0, placed, self._written())
        return sum(len(file.replaces) - 1 for file in placed)

    def _runs(self, min_files: int) -> Iterator[list[LakeFile]]:
        for _, files in groupby(sorted(self._mine()), attrgetter("date")):
            for is_small, neighbours in groupby(files, self._is_small):
                if is_small:
                    yield from self._worth_merging(list(neighbours), min_files)

    def _mine(self) -> list[LakeFile]:
        return [file for file in self._table.files() if file.slot == self._slot]

    def _is_small(self, file: LakeFile) -> bool:
        return self._count(file) < self._small_records

    def _count(self, file: LakeFile) -> int:
        if file not in self._records:
            self._records[file] = pq.read_metadata(self._table.folder / file.path).num_rows
        return self._records[file]

    def _worth_merging(self, files: list[LakeFile], min_files: int) -> Iterator[list[LakeFile]]:
        run: list[LakeFile] = []
        for file in files:
            run.append(file)
            if len(run) > 1 and sum(map(self._count, run)) >= self._small_records:
                yield run
                run = []
        while len(run) > 1 and self._count(run[0]) > sum(map(self._count, run[1:])):
            run.pop(0)
        if len(run) >= max(min_files, 2):
            yield run

    def _merge(self, run: Sequence[LakeFile]) -> pa.Table | None:
        """The rows of all, in order; columns that some files lack are null there."""
        tables = [pq.ParquetFile(self._table.folder / file.path).read() for file in run]
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            path = self._table.folder / run[0].path
            _log.warning("%s and its neighbours stay apart: %s", path, error)
            return None

    def _stage(self) -> Path:
        return self._table.make_staging(self._slot, self._seq + 1)

    @property
    def _seq(self) -> int:
        return 0 if self._commit is None else self._commit.seq

    def _publish(
        self,
        next_offset: int,
        files: list[_Placed],
        records: dict[str, int],
        removes: Sequence[str] = (),
    ) -> None:
        commit = _Commit(self._seq + 1, next_offset, files, records, list(removes))
        self._table.store_commit(self._slot, commit)
        self._resume()

    def _resume(self) -> None:
        """Goes on from what the disk says, whatever became of the step before."""
        self._commit = self._table.commit(self._slot)
        if self._commit is not None:
            self._table.finish(self._slot, self._commit)


def lake_files(root: Path, table: str) -> list[Path]:
    """The files of a table that together hold each committed record once, sorted.

    A write that is not finished yet is left out, whole. A compaction may remove a listed file
    later; opening it then fails, and the list is to be asked for again.

    Raises:
        LakeError: the table cannot be read, or changes all the time.
    """
    place = _Table(root / table)
    with _explained(place.folder):
        for _ in range(_LISTING_ATTEMPTS):
            before = place.progress()
            paths = {file.path for file in place.files()}
            for commit in before.unfinished.values():
                paths -= set(commit.removes)
                for file in commit.files:
                    paths -= {file.path, *file.replaces}
                    if file.replaces:
                        paths |= {file.path} if place.exists(file.path) else set(file.replaces)
            if place.progress() == before:
                return [place.folder / path for path in sorted(paths)]
            time.sleep(_LISTING_WAIT_SECONDS)
    raise LakeError(f"{place.folder} changes all the time; ask again when less is written")


def lake_gaps(root: Path, table: str) -> list[LakeGap]:
    """Where files of a table are gone, or hold what was not written.

    A date that is gone as a whole is no gap: somebody has had enough of it. A slot that is writing
    just now is left out, and so is one whose last writer did not count.

    Raises:
        LakeError: the table cannot be read, or changes all the time.
    """
    place = _Table(root / table)
    with _explained(place.folder):
        for _ in range(_LISTING_ATTEMPTS):
            before = place.progress()
            found = place.records()
            if found is not None and place.progress() == before:
                there = {date for _, date in found}
                return [
                    LakeGap(slot, date, written, found[slot, date])
                    for slot, commit in before.commits.items()
                    if slot not in before.unfinished
                    for date, written in (commit.records or {}).items()
                    if date in there and written != found[slot, date]
                ]
            time.sleep(_LISTING_WAIT_SECONDS)
    raise LakeError(f"{place.folder} changes all the time; ask again when less is written")


def lake_progress(root: Path, table: str) -> dict[str, SlotProgress]:
    """How far each slot is; without those whose last writer did not count, or died in a write.

    Raises:
        LakeError: a commit file is damaged.
    """
    place = _Table(root / table)
    for _ in range(_LISTING_ATTEMPTS):
        progress = place.progress()
        if not progress.unfinished:
            break
        time.sleep(_LISTING_WAIT_SECONDS)
    return {
        slot: SlotProgress(commit.next_offset, commit.records)
        for slot, commit in progress.commits.items()
        if slot not in progress.unfinished and commit.records is not None
    }


def resume_lake(root: Path, table: str, progress: Mapping[str, SlotProgress]) -> list[str]:
    """Lets slots go on with files that were put there for them, as if they had written them.

    Nobody may write meanwhile. A slot that has a commit goes on from that.

    Returns:
        Slots without a commit whose files are not what `progress` says; a writer refuses them.

    Raises:
        LakeError: a file cannot be read, or the disk does not take it.
    """
    place = _Table(root / table)
    refused = []
    with _explained(place.folder):
        found = place.records()
        if found is None:
            raise LakeError(f"{place.folder} changes meanwhile; end what removes files there")
        dates = {date for _, date in found}
        slots = {slot for slot, _ in found} | progress.keys()
        for slot in sorted(slots - place.progress().commits.keys()):
            reached = progress.get(slot, SlotProgress(0, {}))
            if any(found[slot, date] != reached.records.get(date, 0) for date in dates):
                refused.append(slot)
                continue
            commit = _Commit(1, reached.next_offset, [], reached.records)
            place.forget_staged(slot, keep=None)
            place.make_staging(slot, commit.seq)
            place.store_commit(slot, commit)
            place.finish(slot, commit)
    return refused


class _Table:
    """The folder of a table: every path, and every step that must survive a crash."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._commits = folder / "_commits"
        self._staging = folder / "_staging"

    def commit_path(self, slot: str) -> Path:
        return self._commits / f"{slot}.json"

    def commit(self, slot: str) -> _Commit | None:
        path = self.commit_path(slot)
        with _explained(path):
            try:
                return _decode_commit(path.read_bytes())
            except FileNotFoundError:
                return None
            except msgspec.MsgspecError as error:
                raise LakeError(f"{path} is damaged ({error}); restore it") from error

    def files(self) -> list[LakeFile]:
        """All data files, whoever wrote them; foreign files are left alone."""
        found = (
            LakeFile.parse(path.parent.name, path.name)
            for path in self.folder.glob(f"{DATE_COLUMN}=*/*.parquet")
        )
        return [file for file in found if file is not None]

    def exists(self, path: str) -> bool:
        return (self.folder / path).exists()

    def progress(self) -> _Progress:
        """How far all slots are. Two that are equal: nothing was put into place in between."""
        progress = _Progress({}, {})
        for path in sorted(self._commits.glob("*.json")):
            slot = path.name.removesuffix(".json")
            commit = self.commit(slot)
            if commit is not None:
                progress.commits[slot] = commit
                if self._staged(slot, commit.seq).exists():
                    progress.unfinished[slot] = commit
        return progress

    def records(self) -> Counter[tuple[str, str]] | None:
        """What the files of each slot and date hold; None if one went meanwhile."""
        counts: Counter[tuple[str, str]] = Counter()
        for file in self.files():
            try:
                counts[file.slot, file.date] += pq.read_metadata(self.folder / file.path).num_rows
            except FileNotFoundError:
                return None
            except pa.ArrowInvalid as error:
                raise LakeError(
                    f"{self.folder / file.path} is no Parquet file ({error}); restore it"
                ) from error
        return counts

    def make_staging(self, slot: str, seq: int) -> Path:
        """An empty staging folder; its files have no suffix, so that no reader takes them."""
        staging = self._staged(slot, seq)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        return staging

    def forget_staged(self, slot: str, keep: _Commit | None) -> None:
        """Removes what was staged by commits that never came to be."""
        with _explained(self._staging):
            self._commits.mkdir(parents=True, exist_ok=True)
            for staging in (self._staging / slot).glob("*"):
                if keep is None or staging.name != str(keep.seq):
                    shutil.rmtree(staging)

    def store_commit(self, slot: str, commit: _Commit) -> None:
        """Makes the commit happen: all of it, or nothing if the process dies in here."""
        sync(self._staged(slot, commit.seq))
        path = self.commit_path(slot)
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(commit))
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync(self._commits)

    def finish(self, slot: str, commit: _Commit) -> None:
        """Puts a commit's files into place. Can be done again from any point it was left at."""
        staging = self._staged(slot, commit.seq)
        with _explained(self.folder):
            if not staging.exists():  # it goes last
                return
            for number, placed in enumerate(commit.files):
                self._place(staging / str(number), placed)
                sync((self.folder / placed.path).parent)
                for old in placed.replaces:
                    (self.folder / old).unlink(missing_ok=True)
            for path in commit.removes:
                (self.folder / path).unlink(missing_ok=True)
            staging.rmdir()

    def _place(self, staged: Path, placed: _Placed) -> None:
        final = self.folder / placed.path
        if staged.exists():
            final.parent.mkdir(exist_ok=True)
            os.replace(staged, final)
        elif not final.exists():
            raise LakeError(
                f"{final} was committed but is neither there nor in {staged.parent}; restore it"
            )

    def _staged(self, slot: str, seq: int) -> Path:
        return self._staging / slot / str(seq)


def _by_date(rows: pa.Table, dates: NDArray[np.datetime64]) -> Iterator[tuple[str, pa.Table]]:
    days = dates.astype("datetime64[D]")
    if len(days) != len(rows) or np.isnat(days).any() or DATE_COLUMN in rows.column_names:
        raise ValueError(f"a date for each row is needed, and no column {DATE_COLUMN}")
    order = np.argsort(days, kind="stable")
    if (order[1:] < order[:-1]).any():
        rows, days = rows.take(order), days[order]
    for day, start, count in zip(
        *np.unique(days, return_index=True, return_counts=True), strict=True
    ):
        yield str(day), rows.slice(int(start), int(count))


def _write_parquet(path: Path, rows: Any) -> None:
    with path.open("wb") as file:
        pq.write_table(rows, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or path
        raise LakeError(
            f"{place}: {error.strerror or error}; make room and make the lake writable, then start "
            "again: nothing is lost"
        ) from error
