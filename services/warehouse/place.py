"""Where a warehouse lives: a folder of the data directory."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """The paths of a warehouse.

    The scratch file has the name of the last good one: DuckDB calls a database, and views in it
    their tables, by the file's name.
    """

    root: Path

    @property
    def file(self) -> Path:
        """The last good warehouse."""
        return self.root / "warehouse.duckdb"

    @property
    def building(self) -> Path:
        """What a build works in; of no use to anybody else."""
        return self.root / "building"

    @property
    def scratch(self) -> Path:
        return self.building / self.file.name

    @property
    def failed(self) -> Path:
        """What the last build that failed had built."""
        return self.root / "failed.duckdb"

    @property
    def failures(self) -> Path:
        """What failed in builds since the last good one."""
        return self.root / "failures.json"

    @property
    def lake(self) -> Path:
        """The lake as it was when the build began."""
        return self.building / "lake"

    @property
    def dbt(self) -> Path:
        """dbt's own files: manifest, results, log."""
        return self.root / "dbt"

    @property
    def metrics(self) -> Path:
        """Of the last build, in Prometheus' text format."""
        return self.root / "metrics.prom"

    @property
    def docs(self) -> Path:
        return self.root / "docs.html"
