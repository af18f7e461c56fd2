"""A batch as rows of a table, on its way to the lake or to BigQuery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataflows.connectors.records import Records
from dataflows.runtime.sink import Processed


@dataclass(frozen=True, slots=True)
class Tabulated:
    """A batch as rows of a table; `processed` has the fates and the rejected records.

    `offsets` and `dates` belong to the rows of `table`, one each. `records` is the batch itself,
    for a store that may refuse some of it.
    """

    processed: Processed
    table: pa.Table
    offsets: NDArray[np.int64]
    dates: NDArray[np.datetime64]
    records: Records | None = None
