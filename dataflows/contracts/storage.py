"""What every store agrees on when it keeps an event."""

from collections.abc import Mapping

from dataflows.contracts.shapes import Field

_HANDLING = {
    "drop": "personal data: never stored",
    "hash": "personal data: stored as a keyed hash",
    "mask": "personal data: stored masked",
}


def always_stored(field: Field, path: str, pii: Mapping[str, str]) -> bool:
    """Whether a stored event has a value here whenever it has the object around it."""
    return field.required and not field.nullable and pii.get(path) != "drop"


def explain(field: Field, path: str, pii: Mapping[str, str]) -> str:
    """The field's description, with what happens to it when it is personal data."""
    handling = _HANDLING.get(pii.get(path, ""), "")
    return ". ".join(part for part in (field.description, handling) if part)
