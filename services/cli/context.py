"""What every command starts from: the configuration, and the shop opened on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.errors import TidegateError
from dataflows.runtime.exits import Exit

if TYPE_CHECKING:
    from dataflows.flows.shop import Shop
    from dataflows.runtime.config import Config

_chosen: dict[str, Path | None] = {"config": None, "data_dir": None}


def choose(config: Path | None, data_dir: Path | None) -> None:
    """Remembers the options that stand before the command."""
    _chosen["config"], _chosen["data_dir"] = config, data_dir


def choose_data_dir(directory: Path) -> None:
    """For a command that works in a directory of its own."""
    _chosen["data_dir"] = directory


def config(more: Mapping[str, object] | None = None) -> Config:
    """The configuration of this command, with what it sets itself under dotted keys."""
    from dataflows.runtime.config import load_config

    overrides = dict(more or {})
    if _chosen["data_dir"] is not None:
        overrides["data_dir"] = str(_chosen["data_dir"])
    environment = {k: v for k, v in os.environ.items() if k != "TIDEGATE_CONFIG"}
    return load_config(_chosen["config"], environment, overrides)


def options() -> list[str]:
    """The same choice as arguments, for a process that this one starts."""
    chosen = [("--config", _chosen["config"]), ("--data-dir", _chosen["data_dir"])]
    return [text for name, value in chosen if value for text in (name, str(value))]


def shop() -> Shop:
    """The shop, with every topic there."""
    from dataflows.flows.opening import open_shop

    settings = config()
    kernels()
    return open_shop(settings)


def kernels() -> None:
    """Before anything that computes: every kernel, compiled."""
    from services.status.kernels import need_kernels

    need_kernels(say=lambda line: print(f"tidegate: {line}", file=sys.stderr, flush=True))


def shop_as_it_is() -> Shop:
    """The shop, whatever topics its log has."""
    from dataflows.flows.opening import connect_shop

    return connect_shop(config())


def exit_code(error: TidegateError) -> Exit:
    from dataflows.connectors.bigquery_client import BigQueryUnavailable
    from dataflows.connectors.log import LogUnreachable
    from dataflows.runtime.recovery import LeaseHeld
    from services.schema.errors import SchemaError
    from services.supervisor.supervise import WorkersFailed
    from services.warehouse.errors import ChecksFailed, WarehouseError

    if isinstance(error, ChecksFailed):
        return Exit.CHECK_FAILED
    if isinstance(error, WorkersFailed):
        known = (Exit.UNAVAILABLE, Exit.REFUSED)
        return Exit(error.code) if error.code in known else Exit.CRASHED
    passing = isinstance(error, LeaseHeld | LogUnreachable | BigQueryUnavailable)
    passing |= isinstance(error, WarehouseError | SchemaError) and error.may_pass
    return Exit.UNAVAILABLE if passing else Exit.REFUSED
