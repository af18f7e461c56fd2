"""Which features of payments a shop declares, beside the catalogue."""

from __future__ import annotations

from pathlib import Path

from dataflows.features.declared import NOTHING_DECLARED, DeclaredFeatures, load_declared
from dataflows.runtime.config import Config


def declared_features(config: Config) -> DeclaredFeatures:
    """Those of the configured folder; none where none is configured.

    Raises SpecError: a spec cannot be used.
    """
    if not config.features:
        return NOTHING_DECLARED
    from dataflows.detection.predicates import compile_predicate  # only filters need the SQL parser

    return load_declared(Path(config.features), compile_predicate)
