"""Contracts: what each source may send, read from schemas/, and everything that follows from it."""

from dataflows.contracts.compatibility import (
    Breaking,
    Changes,
    accept,
    accepted_changes,
    check_compatibility,
    compare_with_history,
)
from dataflows.contracts.contract import Contract
from dataflows.contracts.decoding import BatchDecoder, Decoded, Failure
from dataflows.contracts.errors import ContractError, TidegateError
from dataflows.contracts.loading import load_contracts
from dataflows.contracts.money import parse_money
from dataflows.contracts.timestamps import format_timestamps, parse_timestamps

__all__ = [
    "BatchDecoder",
    "Breaking",
    "Changes",
    "Contract",
    "ContractError",
    "Decoded",
    "Failure",
    "TidegateError",
    "accept",
    "accepted_changes",
    "check_compatibility",
    "compare_with_history",
    "format_timestamps",
    "load_contracts",
    "parse_money",
    "parse_timestamps",
]
