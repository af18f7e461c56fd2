"""A warehouse built once for all tests that only look at it, whatever process they run in."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from archived_shop import ArchivedShop
from built_warehouse import Built, config_of
from command_line import CommandLine
from places import made_once
from warehouse_shop import Shop, put, put_dead_letters

from services.warehouse import build as build_module
from services.warehouse import dbt
from services.warehouse.build import build
from services.warehouse.dbt_process import Node, node_of


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    shop = Shop(1)
    with made_once(tmp_path_factory, "built-shop") as (directory, is_new):
        if is_new:
            put(directory / "lake", shop.deliveries)
            put_dead_letters(directory / "lake", ["not_json", "too_late", "missing_user"])
            build(config_of(directory))
    return Built(shop, directory)


@pytest.fixture(scope="session")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with six days of a small shop. Not to be changed."""
    lake = tmp_path_factory.mktemp("week") / "lake"
    put(lake, Shop(1).deliveries)
    return lake


@pytest.fixture
def archived(
    week: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> ArchivedShop:
    """Archive commands on a copy of that lake, in a directory with a name to be quoted."""
    directory = tmp_path / "a shop's häuschen"
    shutil.copytree(week, directory / "shop" / "lake")
    return ArchivedShop(CommandLine(directory, monkeypatch, capfd))


_PARSED: list[Any] = []  # by the first test of a process that needs it


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """dbt without a process of its own, parsed once, without tests: these take most of the time."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    def run(
        self: dbt.Dbt, command: Sequence[str], *, dates: Iterable[Any] = (), tell: object = None
    ) -> list[Node]:
        for name, value in self._environment().items():
            monkeypatch.setenv(name, value)
        if not _PARSED:
            _PARSED.append(dbtRunner().invoke(self._arguments(["parse"], (), {})).result)
        words = list(command)
        if command[: len(build_module.NODES)] == build_module.NODES:
            rest = command[len(build_module.NODES) :]
            kinds = ("--exclude-resource-types", "unit_test", "--exclude-resource-types", "test")
            words = ["build", *kinds, *rest]
        done = dbtRunner(manifest=_PARSED[0]).invoke(self._arguments(words, dates, {}))
        if (environment := DuckDBConnectionManager._ENV) is not None:
            environment.close()  # it keeps the file open otherwise
            DuckDBConnectionManager._ENV = None
        return [node_of(result) for result in getattr(done.result, "results", ())]

    monkeypatch.setattr(dbt.Dbt, "run", run)
