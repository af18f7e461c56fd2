"""dbt's own views of the warehouse: how fresh its sources are, and its documentation."""

from __future__ import annotations

import os
from pathlib import Path

from dataflows.runtime.config import Config
from services.warehouse.bronze import create_bronze
from services.warehouse.dbt_process import Node
from services.warehouse.errors import WarehouseError
from services.warehouse.workshop import workshop


def freshness(config: Config) -> list[Node]:
    """Each source with its age, against the limits in its YAML; from the lake as it is now.

    Raises:
        LeaseHeld: a build is under way.
        WarehouseError: there is no lake, or a file of it is broken.
    """
    with workshop(config) as shop:
        with shop.database() as database:
            create_bronze(database, shop.tables, shop.place.lake, shop.config.lake_path)
            empty = {
                table.name
                for table in shop.tables.values()
                if table.of_contract and not any(name == table.name for name, _ in shop.held)
            }
        command = ["source", "freshness"]
        for name in sorted(empty):
            command += ["--exclude", f"source:bronze.{name}"]
        return shop.dbt.run(command)


def document(config: Config) -> Path:
    """One HTML page with every table, column, test and the lineage; returns where it is.

    Raises:
        LeaseHeld: a build is under way.
        WarehouseError: there is no warehouse yet.
    """
    with workshop(config) as shop:
        if not shop.place.file.is_file():
            raise WarehouseError(
                f"{shop.place.file}: no warehouse there; `tidegate warehouse build` makes it"
            )
        shop.copy_last_good()
        shop.dbt.run(["docs", "generate", "--static"])
        os.replace(shop.place.dbt / "static_index.html", shop.place.docs)
        return shop.place.docs
