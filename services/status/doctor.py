"""What a machine needs to run Tidegate, each thing tried."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from dataflows.errors import TidegateError
from dataflows.runtime.config import Config

FREE_BYTES = 2 << 30
SQLITE_AT_LEAST = (3, 35, 0)


class Finding(msgspec.Struct, frozen=True):
    """One thing that was tried."""

    what: str
    good: bool
    detail: str


def examine(config: Config) -> list[Finding]:
    """Tries each thing; none depends on another."""
    checks: list[tuple[str, Callable[[Config], str]]] = [
        ("python", _python),
        ("sqlite", _sqlite),
        ("data directory", _data_directory),
        ("contracts", _contracts),
        ("features", _features),
        ("rules", _rules),
        ("metrics", _metrics),
        ("behaviours", _behaviours),
        ("model", _model),
        ("kernels", _kernels),
    ]
    return [_tried(what, check, config) for what, check in checks]


def _tried(what: str, check: Callable[[Config], str], config: Config) -> Finding:
    try:
        return Finding(what, True, check(config))
    except (TidegateError, OSError, ImportError) as error:
        return Finding(what, False, str(error))


def _python(config: Config) -> str:
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        raise TidegateError(f"{sys.version.split()[0]}; use 3.11 or 3.12")
    return sys.version.split()[0]


def _sqlite(config: Config) -> str:
    if sqlite3.sqlite_version_info < SQLITE_AT_LEAST:
        wanted = ".".join(map(str, SQLITE_AT_LEAST))
        raise TidegateError(
            f"{sqlite3.sqlite_version}; Python must be built with {wanted} or newer"
        )
    return sqlite3.sqlite_version


def _data_directory(config: Config) -> str:
    directory = config.data_path.absolute()
    there = next(path for path in (directory, *directory.parents) if path.exists())
    with tempfile.NamedTemporaryFile(dir=there):
        free = shutil.disk_usage(there).free
    if free < FREE_BYTES:
        raise TidegateError(
            f"{directory}: {free / 1e9:.1f} GB free; a demo wants {FREE_BYTES / 1e9:.0f} GB"
        )
    return f"{directory} can be written, {free / 1e9:.0f} GB free"


def _contracts(config: Config) -> str:
    from dataflows.contracts import load_contracts

    return ", ".join(load_contracts(Path(config.schemas)))


def _features(config: Config) -> str:
    from dataflows.flows.feature_files import declared_features

    declared = declared_features(config)
    if not declared.specs:
        return "none declared: payments have the columns of rules/README.md"
    return f"{len(declared.columns)} declared: {', '.join(declared.columns)}"


def _rules(config: Config) -> str:
    from dataflows.detection.rules import load_rules
    from dataflows.flows.feature_files import declared_features

    rules = load_rules(Path(config.rules), declared_features(config).catalogue)
    return f"{len(rules.rules)} rules, version {rules.version}"


def _metrics(config: Config) -> str:
    from dataflows.contracts import load_contracts
    from dataflows.flows.metric_files import configured_metrics

    metrics, others = configured_metrics(config, load_contracts(Path(config.schemas)))
    unfit = f", {len(others)} do not fit the contracts" if others else ""
    return f"{len(metrics)} metrics, {sum(each.series for each in metrics)} series{unfit}"


def _behaviours(config: Config) -> str:
    from dataflows.detection.behaviours import load_behaviours

    rules = load_behaviours(Path(config.behaviours)).rules
    return f"{len(rules.rules)} behaviours, version {rules.version}"


def _model(config: Config) -> str:
    from dataflows.detection.payment_model import open_champion
    from dataflows.flows.feature_files import declared_features

    champion = open_champion(config.models_path, declared_features(config))
    if champion is None:
        return "no champion in models/: by default payments are scored by rules alone"
    return f"the champion of models/ is {champion.version}, a {champion.model.family}"


def _kernels(config: Config) -> str:
    """Compiled once here, cached on disk, so that no worker waits for it."""
    from services.status.kernels import compile_kernels, need_kernels

    started = time.monotonic()
    need_kernels(say=lambda line: None)
    compile_kernels()
    return f"compiled or found in the cache in {time.monotonic() - started:.1f} s"
