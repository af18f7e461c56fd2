"""The decoders accept what a JSON Schema validator accepts, and keep all of it."""

import json
from typing import Any

import msgspec
import pytest
from contract_documents import documents, mutated
from contract_folders import CONTRACTS, SOURCES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from dataflows.contracts import Contract
from dataflows.contracts.examination import RawExaminer
from dataflows.contracts.refusal import AMOUNT_MISMATCH
from dataflows.contracts.structs import generate_structs

FUZZ = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def accepted_by_json_schema(contract: Contract, document: Any) -> bool:
    validator = Draft202012Validator(contract.json_schema, format_checker=FormatChecker())
    return bool(validator.is_valid(document))


def encode(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def merge(event: Any, extras: Any) -> Any:
    """An event with the fields that its contract did not know put back in their places."""
    if isinstance(event, dict):
        shared = {name: merge(event[name], extras[name]) for name in event.keys() & extras.keys()}
        return {**event, **extras, **shared}
    return [merge(one, unknown) for one, unknown in zip(event, extras, strict=True)]


@pytest.mark.parametrize("source", SOURCES)
@FUZZ
@given(data=st.data())
def test_a_valid_document_decodes_and_encodes_to_itself(source: str, data: st.DataObject) -> None:
    contract = CONTRACTS[source]
    document = data.draw(documents(contract.json_schema))
    assert accepted_by_json_schema(contract, document)
    decoded = contract.decode([encode(document)])
    if decoded.failures:
        assert decoded.failures[0].reason == AMOUNT_MISMATCH
    else:
        assert json.loads(msgspec.json.encode(decoded.events[0])) == document
        assert decoded.extras is None


@pytest.mark.parametrize("source", SOURCES)
@FUZZ
@given(data=st.data())
def test_a_mutated_document_gets_the_validators_verdict_and_loses_nothing(
    source: str, data: st.DataObject
) -> None:
    contract = CONTRACTS[source]
    document = data.draw(mutated(contract.json_schema))
    decoded = contract.decode([encode(document)])
    reasons = [failure.reason for failure in decoded.failures]
    if reasons != [AMOUNT_MISMATCH]:
        assert (not reasons) is accepted_by_json_schema(contract, document), decoded.failures
    if not reasons:
        extras = json.loads(decoded.extras[0] or b"{}") if decoded.extras else {}
        assert merge(json.loads(msgspec.json.encode(decoded.events[0])), extras) == document


@pytest.mark.parametrize("source", SOURCES)
@FUZZ
@given(data=st.data())
def test_the_careful_examination_agrees_with_the_strict_decoder(
    source: str, data: st.DataObject
) -> None:
    contract = CONTRACTS[source]
    structs = generate_structs("Again", contract.shape)
    examine = RawExaminer(structs, contract.shape, max_record_bytes=2**20)
    text = encode(data.draw(documents(contract.json_schema)))
    strict = msgspec.json.Decoder(structs.Strict).decode(text)
    for event in (examine(text).event, examine._examine_members(text).event):
        assert msgspec.json.encode(event) == msgspec.json.encode(strict)
