"""A dataset of a BigQuery emulator with the tables of the load flow."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.measured import NotMeasured
from dataflows.connectors.bigquery_client import EMULATOR, STORAGE_EMULATOR, connect
from dataflows.contracts import load_contracts
from dataflows.runtime.config import HOUSE
from services.schema.bigquery import wanted_tables
from services.schema.dataset import Dataset

sys.path.append(str(HOUSE / "tests"))  # the emulator belongs to the tests
from bigquery_emulator import PROJECT, emulator


@contextmanager
def emulated_dataset(directory: Path) -> Iterator[str]:
    """Its name, for `[bigquery] dataset`.

    Raises:
        NotMeasured: there is no emulator to be had.
    """
    try:
        with emulator(directory) as started:
            os.environ |= {EMULATOR: started.url, STORAGE_EMULATOR: started.storage}
            name = f"{PROJECT}.bronze"
            connect(PROJECT).create_dataset(name)
            dataset = Dataset(name)
            for table, wanted in wanted_tables(load_contracts(HOUSE / "schemas")).items():
                dataset.create(table, wanted)
            yield name
    except pytest.skip.Exception as reason:
        raise NotMeasured(str(reason)) from reason
