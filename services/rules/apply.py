"""Puts a rule set in force: a control record in every partition, at one instant of the log."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from dataflows.connectors.log import Log
from dataflows.detection.rules import RuleSet, parse_rules, rule_texts
from dataflows.features.catalogue import CATALOGUE
from dataflows.features.columns import ColumnSpec
from dataflows.flows.in_force import AppliedRules, applied_rules, rule_outputs, sole_writer
from dataflows.flows.payments import REQUESTS
from dataflows.flows.shop import Shop
from dataflows.flows.topology import RULE_SETS
from services.rules.plan import Plan, plan_rules


def in_force(log: Log) -> AppliedRules | None:
    """The set that was applied last. Raises LogError."""
    applied = applied_rules(log)
    return applied[-1] if applied else None


def plan(shop: Shop) -> tuple[Plan, dict[str, str]]:
    """What would change, and the texts of the folder's rules.

    Raises:
        RuleError: a rule of the folder, or one in force, cannot be used.
        LogError: the log cannot be read.
    """
    folder, catalogue = Path(shop.config.rules), shop.declared.catalogue
    texts, last = rule_texts(folder), in_force(shop.log)
    there = last.rule_set(catalogue) if last else None
    return plan_rules(there, parse_rules(texts, str(folder), catalogue)), texts


def apply(shop: Shop, texts: dict[str, str], note: str) -> AppliedRules:
    """Applies a set of valid rules, in one transaction over all partitions.

    Whoever applies at the same time is fenced: of two, one succeeds.

    Raises:
        Fenced: somebody else applied rules at the same time.
        LogError: the log does not take it.
    """
    with sole_writer(shop, RULE_SETS) as commit:
        last = in_force(shop.log)
        applied = AppliedRules(
            number=last.number + 1 if last else 1,
            version=parse_rules(texts, shop.config.rules, shop.declared.catalogue).version,
            applied_at=datetime.now(UTC).isoformat(timespec="seconds"),
            by=f"{getpass.getuser()}@{socket.gethostname()}",
            note=note,
            files=texts,
        )
        commit(rule_outputs(applied, shop.topology.topics[REQUESTS]), applied.number)
    return applied


def find_rule_set(
    log: Log, version: str, catalogue: Mapping[str, ColumnSpec] = CATALOGUE
) -> RuleSet | None:
    """A set that was applied at some time. Raises LogError, RuleError."""
    for each in reversed(applied_rules(log)):
        if each.version == version:
            return each.rule_set(catalogue)
    return None
