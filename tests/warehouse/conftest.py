"""A warehouse built once for all tests that only look at it, whatever process they run in."""

from __future__ import annotations

import fcntl
import os

import pytest
from built_warehouse import Built, config_of
from warehouse_shop import Shop, put, put_dead_letters

from services.warehouse.build import build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    directory, shop = base / "built-shop", Shop(1)
    with open(base / "built-shop.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            put(directory / "lake", shop.deliveries)
            put_dead_letters(directory / "lake", ["not_json", "too_late", "missing_user"])
            build(config_of(directory))
    return Built(shop, directory)
