"""The project's own contracts, and copies of their folder that a test may change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dataflows.contracts import load_contracts

SCHEMAS = Path(__file__).resolve().parents[3] / "schemas"
CONTRACTS = load_contracts(SCHEMAS)
SOURCES = sorted(CONTRACTS)


def copy_schemas(tmp_path: Path) -> Path:
    """A copy of schemas/, history included."""
    return Path(shutil.copytree(SCHEMAS, tmp_path / "schemas"))


def edit_schema(schemas: Path, source: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a copied schema in place."""
    file = schemas / source / "v1.schema.json"
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document))


def replace_text(file: Path, old: str, new: str) -> None:
    """Replace text that must be there."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
