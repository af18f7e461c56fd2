"""Contracts: what each source may send, read from schemas/, and everything that follows from it."""

from dataflows.contracts.contract import Contract
from dataflows.contracts.decoding import BatchDecoder, Decoded, Failure
from dataflows.contracts.errors import ContractError, TidegateError
from dataflows.contracts.loading import load_contracts
from dataflows.contracts.timestamps import format_timestamps, parse_timestamps

__all__ = [
    "BatchDecoder",
    "Contract",
    "ContractError",
    "Decoded",
    "Failure",
    "TidegateError",
    "format_timestamps",
    "load_contracts",
    "parse_timestamps",
]
