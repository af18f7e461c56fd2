"""Rule sets in the log: from which record on which is in force.

`tidegate rules apply` puts a set into every partition of scoring.requests, as a control record, and
into control.rules, where all of them are kept; in one transaction. Before the first, the rules of
the folder are in force as a worker found them when it started.
"""

from __future__ import annotations

import time

import msgspec

from dataflows.connectors.log import Log
from dataflows.connectors.records import Output, published
from dataflows.decodable import make_decodable
from dataflows.detection.rules import RuleSet, parse_rules
from dataflows.errors import TidegateError
from dataflows.flows.payments import REQUESTS
from dataflows.flows.shop import Shop
from dataflows.flows.topology import RULE_SETS
from dataflows.runtime.handover import control

_READ_RECORDS = 100
_PATIENCE_S = 5.0


class AppliedRules(msgspec.Struct, frozen=True, kw_only=True):
    """A rule set that was applied: the texts of its files, by id; `number` counts from 1."""

    number: int
    version: str
    applied_at: str
    by: str
    files: dict[str, str]
    note: str = ""

    def rule_set(self) -> RuleSet:
        """Raises RuleError: a newer Tidegate wrote rules that this one cannot read."""
        return parse_rules(self.files, f"rule set {self.version}")


class AppliedAt(msgspec.Struct, frozen=True):
    """An applied set, and when it arrived in the log, in microseconds."""

    arrival_us: int
    applied: AppliedRules


make_decodable(AppliedRules)
_decode = msgspec.json.Decoder(AppliedRules).decode


def decode_rules(content: bytes) -> AppliedRules:
    """What a control record says. Raises TidegateError."""
    try:
        return _decode(content)
    except msgspec.MsgspecError as error:
        raise TidegateError(
            f"{REQUESTS}: a control record with rules cannot be read ({error}); start the version "
            "of Tidegate that wrote it"
        ) from error


def rule_outputs(applied: AppliedRules, partitions: int) -> list[Output]:
    """The records that put a set in force in each partition of scoring.requests."""
    content = msgspec.json.encode(applied)
    kept = published(RULE_SETS, [applied.version.encode()], [content], partition=0)
    return [kept, *(control(REQUESTS, partition, content) for partition in range(partitions))]


def sets_before(shop: Shop) -> list[AppliedAt]:
    """Every set that was applied before a worker starts, in order.

    Raises:
        RuleError: there is none, so that the folder's rules are in force, and they cannot be used.
        LogError: the log cannot be read.
    """
    applied = applied_rules(shop.log)
    if not applied:
        _ = shop.rules  # said now, not when the first payment comes
    return applied


def applied_rules(log: Log) -> list[AppliedAt]:
    """Every set that was applied, in order. Raises LogError."""
    low, high = log.offsets(RULE_SETS, 0)
    found: list[AppliedAt] = []
    if low == high:
        return found
    reader = log.reader(RULE_SETS, 0, low)
    give_up = time.monotonic() + _PATIENCE_S  # offsets at the end may hold no record
    try:
        while reader.position < high and time.monotonic() < give_up:
            records = reader.read(_READ_RECORDS)
            found += [
                AppliedAt(arrival_us, decode_rules(value or b""))
                for arrival_us, value in zip(
                    records.arrival_us.tolist(), records.values, strict=True
                )
            ]
            if not len(records):
                time.sleep(0.001)
    finally:
        reader.close()
    return found
