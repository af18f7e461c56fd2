"""The columns that rules read, for every past payment: made once, kept as Parquet.

They are computed by the kernels of the stream, payments in order of arrival, so each is what the
stream saw. With several partitions payments of one device may have met in another order.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataflows.detection.payment_model import PaymentModel, model_column, open_champion
from dataflows.features.catalogue import (
    CUSTOMER,
    DAY_US,
    DEVICE,
    MODEL_SCORE,
    PAYMENT,
    payment_columns,
)
from dataflows.features.columns import Column, Kind
from dataflows.features.declared import DeclaredFeatures
from dataflows.features.declared_state import DeclaredState
from dataflows.features.rolling import FeatureSet, Payments, RollingFeatures
from dataflows.flows.feature_files import declared_features
from dataflows.runtime.config import Config
from services.history.errors import HistoryError
from services.history.payments import payments, verdicts
from services.warehouse.held_lake import hold_lake

LATENESS_US = 7 * DAY_US
"""State is kept this much longer than windows reach, whatever order partitions are read in."""
_FORMAT = b"1"
_TYPES = {Kind.NUMBER: pa.float64(), Kind.BOOLEAN: pa.bool_(), Kind.TEXT: pa.string()}
_IDS = ("transaction_id", "user_id", "device_id")


@dataclass(frozen=True)
class History:
    """`payments`: a Parquet file with the ids, `event_us`, every column of the catalogue and those
    that are declared, in order of arrival. `verdicts`: transaction_id, is_fraud, known_us.
    `version` names the features, `model` the champion that made `model_score`."""

    payments: Path
    verdicts: pa.Table
    version: str
    model: str | None
    declared: DeclaredFeatures


def open_history(config: Config, say: Callable[[int], None] = lambda rows: None) -> History:
    """The history of the lake as it is now; made anew if the lake has changed.

    `say` is told how many payments are done. Raises HistoryError if there are none, LakeError if
    the lake cannot be read, SpecError if a declared feature cannot be used, ModelError if the
    champion cannot be served.
    """
    if not (config.lake_path / "transactions").is_dir():
        raise HistoryError(
            f"{config.lake_path}: no payments in the lake: let `tidegate up` load some, or name "
            "the data directory with -d"
        )
    with _workplace(config.data_path / "history") as work:
        hold_lake(config.lake_path, ("transactions", "labels"), work)
        found = {
            table: sorted((work / table).rglob("*.parquet")) for table in ("transactions", "labels")
        }
        declared = declared_features(config)
        champion = open_champion(config.models_path, declared)
        model = champion.version if champion else None
        names = [str(file.relative_to(work)) for file in found["transactions"]]
        version = partial(_version, declared)
        kept = work.parent / f"payments-{version(str(model), *names)}.parquet"
        if not kept.exists():
            past = payments(found["transactions"])
            _write(work / kept.name, _history(past, declared, champion, say))
            for older in work.parent.glob("payments-*.parquet"):
                older.unlink()
            os.replace(work / kept.name, kept)
        return History(kept, verdicts(found["labels"]), version(), model, declared)


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """An empty folder for one at a time; what one that was killed has left is removed."""
    work = folder / "making"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work)


def column_of(rows: pa.Table, name: str) -> Column:
    """A column of the history as the kernel made it."""
    array = rows[name].combine_chunks()
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(array.type):
        array = array.fill_null(False)
    return Column(array.to_numpy(zero_copy_only=False), valid)


def _version(declared: DeclaredFeatures, *of: str) -> str:
    """Of features, and of what they are of."""
    digest = blake2b(_FORMAT, digest_size=6)
    specs = [spec.version for spec in declared.specs]
    parts = [*of, repr(CUSTOMER), repr(DEVICE), repr(PAYMENT), *specs]
    digest.update("\0".join(parts).encode())
    return digest.hexdigest()


def _history(
    batches: Iterable[pa.RecordBatch],
    declared: DeclaredFeatures,
    champion: PaymentModel | None,
    say: Callable[[int], None],
) -> Iterator[pa.Table]:
    customer = RollingFeatures(CUSTOMER, LATENESS_US)
    device = RollingFeatures(DEVICE, LATENESS_US)
    own_features = DeclaredState(declared.specs, LATENESS_US)
    read = _read(CUSTOMER) | _read(DEVICE) | set(own_features.fields)
    done, latest_us = 0, np.iinfo(np.int64).min
    for batch in batches:
        times_us = batch["event_us"].to_numpy()
        cents = batch["cents"].to_numpy()
        # The last one is that after the batch.
        watermarks_us = np.maximum.accumulate(np.maximum(np.append(times_us, latest_us), latest_us))
        latest_us = int(watermarks_us[-1])
        fields = {name: batch[name].to_pylist() for name in read}
        paid = Payments(fields, cents, times_us, watermarks_us)
        own = payment_columns(cents, times_us, partial(_values, batch))
        columns = {
            **{name: make() for name, make in own.items()},
            **customer.process(paid),
            **device.process(paid),
            **own_features.process(paid),
        }
        columns[MODEL_SCORE.name] = model_column(champion, columns, len(batch))
        ids = {name: batch[name] for name in _IDS}
        arrays = {
            name: _array(spec.kind, columns[name]) for name, spec in declared.catalogue.items()
        }
        yield pa.table({**ids, "event_us": batch["event_us"], **arrays})
        done += len(batch)
        say(done)


def _read(declared: FeatureSet) -> set[str]:
    return {declared.entity, *declared.others}


def _values(batch: pa.RecordBatch, name: str) -> list[object]:
    values: list[object] = batch[name].to_pylist()
    return values


def _array(kind: Kind, column: Column) -> pa.Array:
    values = column.values
    if kind is Kind.NUMBER:
        values = values.astype(np.float64)
    return pa.array(values, _TYPES[kind], mask=~column.valid)


def _write(file: Path, tables: Iterator[pa.Table]) -> None:
    """Raises HistoryError if there is nothing to write."""
    first = next(tables, None)
    if first is None:
        raise HistoryError("no payment in the lake was scored yet: publish some, and wait for load")
    with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
