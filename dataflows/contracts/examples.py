"""Check a source's examples: every pass/ decodes, no fail/ does, and JSON Schema agrees."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator, FormatChecker

from dataflows.contracts.contract import Contract
from dataflows.contracts.refusal import AMOUNT_MISMATCH


def check_examples(contract: Contract, folder: Path) -> list[str]:
    """One line for every example in `folder`/examples that is not as its place says; or none."""
    problems = []
    for verdict in ("pass", "fail"):
        for file in sorted((folder / "examples" / verdict).glob("*.json")):
            problem = _problem(contract, file.read_bytes(), expected=verdict == "pass")
            if problem:
                problems.append(f"{file}: {problem}")
    return problems


def _problem(contract: Contract, text: bytes, *, expected: bool) -> str | None:
    failures = contract.decode([text]).failures
    if expected and failures:
        return f"should pass, but is refused: {failures[0].message}"
    if not expected and not failures:
        return "should fail, but is accepted"
    beyond_json_schema = bool(failures) and failures[0].reason == AMOUNT_MISMATCH
    validator = Draft202012Validator(contract.json_schema, format_checker=FormatChecker())
    if not beyond_json_schema and validator.is_valid(json.loads(text)) is not expected:
        return "the decoder and JSON Schema do not agree; report this as a defect"
    return None
