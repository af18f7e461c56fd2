"""Values of a contract's field as an Arrow column."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from dataflows.contracts.shapes import Array, Map, Money, Object, Shape, Timestamp
from dataflows.contracts.timestamps import parse_timestamps
from dataflows.flows.pseudonyms import Pseudonyms


def column(
    shape: Shape, values: Sequence[Any], kind: pa.DataType, path: str, pseudonyms: Pseudonyms
) -> pa.Array:
    """The column of type `kind`; absent and null values are null.

    Args:
        path: the field's dotted path, by which personal data is known.
    """
    present = [None if value is msgspec.UNSET else value for value in values]
    match shape:
        case Object():
            return _object(shape, present, kind, path, pseudonyms)
        case Array():
            return _array(shape, present, kind, path, pseudonyms)
        case Map():
            return pa.array([v if v is None else list(v.items()) for v in present], kind)
        case Money():
            return pa.array(present, pa.string()).cast(kind)
        case Timestamp():
            times_us, _ = parse_timestamps([0 if value is None else value for value in present])
            return pa.array(times_us, mask=_absent(present)).cast(kind)
        case _:
            return pa.array(pseudonyms.apply(path, present), kind)


def _object(
    shape: Object, values: list[Any], kind: pa.StructType, path: str, pseudonyms: Pseudonyms
) -> pa.Array:
    fields = [kind.field(i) for i in range(kind.num_fields)]
    children = [
        column(
            shape.fields[field.name].shape,
            [None if value is None else getattr(value, field.name) for value in values],
            field.type,
            f"{path}.{field.name}",
            pseudonyms,
        )
        for field in fields
    ]
    return pa.StructArray.from_arrays(children, fields=fields, mask=pa.array(_absent(values)))


def _array(
    shape: Array, values: list[Any], kind: pa.ListType, path: str, pseudonyms: Pseudonyms
) -> pa.Array:
    lengths = [len(value) if value is not None else 0 for value in values]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    items = list(chain.from_iterable(value for value in values if value is not None))
    child = column(shape.items, items, kind.value_type, path, pseudonyms)
    return pa.ListArray.from_arrays(offsets, child, type=kind, mask=pa.array(_absent(values)))


def _absent(values: Sequence[Any]) -> np.ndarray:
    return np.array([value is None for value in values], np.bool_)
