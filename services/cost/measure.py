"""Measures everything that is priced: lake, log, warehouse, workers. Changes none of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from dataflows.flows.opening import connect_shop
from dataflows.flows.shop import Shop
from dataflows.runtime.config import Config
from services.cost import log
from services.cost.errors import CostError
from services.cost.lake import LakeRows, read_lake
from services.cost.volumes import Builds, Measured, Table
from services.cost.warehouse import read_manifest, read_warehouse
from services.cost.workers import workers
from services.warehouse.bronze import bronze_tables
from services.warehouse.held_lake import hold_lake
from services.warehouse.place import Place

WEEK_DAYS = 7


@dataclass(frozen=True)
class Traffic:
    """What was measured, and the dates on which there were events, sorted; at least one."""

    measured: Measured
    dates: list[date]


def measure(config: Config) -> Traffic:
    """
    Raises:
        CostError: there is no lake, nothing in it, or what is there does not fit together.
        TidegateError: lake, log or warehouse cannot be read.
    """
    if not config.lake_path.is_dir():
        raise CostError(
            f"{config.lake_path}: no lake there; `tidegate up` writes one, `tidegate demo` makes "
            "one in its own directory"
        )
    shop = connect_shop(config)
    try:
        return _measure(shop)
    finally:
        shop.log.close()


def _measure(shop: Shop) -> Traffic:
    config = shop.config
    lake = _read(shop)
    dates = lake.dates_of(shop.contracts)
    if not dates:
        raise CostError(
            f"{config.lake_path}: holds no events; `tidegate up` loads what is in the log"
        )
    place = Place(config.data_path / "warehouse")
    tables: list[Table] = list(lake.tables.values())
    builds: Builds | None = None
    notes: tuple[str, ...] = ()
    if place.file.is_file():
        built, builds = read_warehouse(place, read_manifest(place))
        tables += built
    else:
        notes = (
            f"{place.file}: no warehouse there, so its storage and queries are not in this; "
            "`tidegate warehouse build` makes it",
        )
    return Traffic(
        Measured(
            topics=log.topics(shop, lake),
            tables=tables,
            workers=workers(config, shop.topology),
            builds=builds,
            notes=notes,
        ),
        dates,
    )


def _read(shop: Shop) -> LakeRows:
    lake, tables = shop.config.lake_path, bronze_tables(shop.contracts)
    with tempfile.TemporaryDirectory(dir=shop.config.data_path, prefix=".cost-") as still:
        hold_lake(lake, tables, Path(still))
        try:
            return read_lake(Path(still), tables)
        except CostError as error:
            raise CostError(str(error).replace(still, str(lake))) from error


def chosen_days(
    dates: Sequence[date], first: date | None, last: date | None, lake: Path
) -> list[date]:
    """The days to price: those asked for, or the last complete week.

    The newest date with events may not be over, so a week ends with the one before it, if there is
    one. A week is shorter where the lake is.

    Args:
        dates: those with events, sorted.

    Raises:
        CostError: there were no events on any of the days.
    """
    oldest, newest = dates[0], dates[-1]
    end = last or (newest if first else dates[-2:][0])
    begin = first or (oldest if last else max(oldest, end - timedelta(WEEK_DAYS - 1)))
    if not any(begin <= day <= end for day in dates):
        raise CostError(
            f"{lake}: holds no events of {begin} to {end}; it has some of {oldest} to {newest}: "
            "choose --from and --to among them"
        )
    return [begin + timedelta(n) for n in range((end - begin).days + 1)]
