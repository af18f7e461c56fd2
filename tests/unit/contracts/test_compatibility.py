"""Contracts against their accepted history: every kind of break is refused, growth is not."""

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from contract_folders import SCHEMAS, copy_schemas, edit_schema, replace_text

from dataflows.contracts import ContractError
from dataflows.contracts.compatibility import (
    Breaking,
    accept,
    check_compatibility,
    compare_with_history,
)

Schema = dict[str, Any]
Edit = Callable[[Schema], object]
TODAY = date(2026, 11, 27)


def test_the_committed_history_is_the_accepted_form_of_every_contract(tmp_path: Path) -> None:
    changes = compare_with_history(SCHEMAS)
    assert changes.breaking == []
    assert changes.additions == []
    assert accept(copy_schemas(tmp_path), TODAY) == []


def field(path: str, **keywords: Any) -> Edit:
    """Set keywords of a property (dotted path); None takes one away. A $ref is resolved first."""

    def edit(schema: Schema) -> None:
        *parents, name = path.split(".")
        node = schema
        for parent in parents:
            node = node["properties"][parent]
            node = node.get("items", node)
        spec = node["properties"].setdefault(name, {})
        if "$ref" in spec:
            spec |= schema["$defs"][spec.pop("$ref").rpartition("/")[2]]
        spec |= keywords
        for keyword in [keyword for keyword, value in spec.items() if value is None]:
            del spec[keyword]

    return edit


def removed(path: str) -> Edit:
    def edit(schema: Schema) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            schema = schema["properties"][parent]
            schema = schema.get("items", schema)
        del schema["properties"][name]

    return edit


def requires(*names: str) -> Edit:
    return lambda schema: schema["required"].extend(names)


def both(*edits: Edit) -> Edit:
    def edit(schema: Schema) -> None:
        for one in edits:
            one(schema)

    return edit


BREAKS: dict[str, tuple[str, Edit, str]] = {
    "removed field": ("transactions", removed("order_id"), "order_id"),
    "removed nested field": ("transactions", removed("device.language"), "device.language"),
    "removed field of an item": (
        "transactions",
        both(
            lambda schema: schema["properties"]["items"]["items"]["required"].remove("product_id"),
            removed("items.product_id"),
        ),
        "items.product_id",
    ),
    "other type": (
        "customer_profiles",
        field("marketing_opt_in", type="integer"),
        "marketing_opt_in",
    ),
    "money to text": (
        "clickstream",
        field("cart.value", **{"x-tidegate": None}),
        "cart.value",
    ),
    "other type of an item": ("product_catalog", field("tags", items={"type": "integer"}), "tags"),
    "other type of a map's values": (
        "product_catalog",
        field("attributes", additionalProperties={"type": "integer"}),
        "attributes",
    ),
    "map to object": (
        "product_catalog",
        field("attributes", additionalProperties=None, properties={"a": {"type": "string"}}),
        "attributes",
    ),
    "no longer null": ("clickstream", field("user_id", type="string"), "user_id"),
    "no longer epoch milliseconds": (
        "customer_profiles",
        field("signed_up_at", type="string"),
        "signed_up_at",
    ),
    "value removed": ("transactions", field("status", enum=["authorized"]), "status"),
    "enum where there was none": (
        "clickstream",
        field("category", enum=["shoes"], maxLength=None),
        "category",
    ),
    "higher minimum": ("transactions", field("items.quantity", minimum=2), "items.quantity"),
    "lower maximum": ("transactions", field("items.quantity", maximum=99), "items.quantity"),
    "bound where there was none": ("clickstream", field("category", minLength=1), "category"),
    "shorter text": ("clickstream", field("category", maxLength=1), "category"),
    "more items": ("transactions", field("items", minItems=2), "items"),
    "fewer items": ("transactions", field("items", maxItems=2), "items"),
    "shorter items": (
        "product_catalog",
        field("tags", items={"type": "string", "maxLength": 1}),
        "tags",
    ),
    "other pattern": ("transactions", field("currency", pattern="^E[A-Z]{2}$"), "currency"),
    "pattern where there was none": ("clickstream", field("category", pattern="^a"), "category"),
    "newly required": ("transactions", requires("order_id"), "order_id"),
    "newly required nested": (
        "transactions",
        lambda schema: schema["properties"]["device"].update(required=["device_id"]),
        "device.device_id",
    ),
    "new field that is required": (
        "transactions",
        both(field("shop", type="string"), requires("shop")),
        "shop",
    ),
    "new field of an item that is required": (
        "transactions",
        both(
            field("items.sku", type="string"),
            lambda schema: schema["properties"]["items"]["items"]["required"].append("sku"),
        ),
        "items.sku",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_in_a_schema_is_refused(tmp_path: Path, name: str) -> None:
    source, edit, place = BREAKS[name]
    schemas = copy_schemas(tmp_path)
    edit_schema(schemas, source, edit)
    breaking = check_compatibility(schemas)
    assert {(change.source, change.place) for change in breaking} == {(source, place)}
    history = (schemas / "history" / source / "v1.json").read_bytes()
    with pytest.raises(ContractError, match="start a new source"):
        accept(schemas, TODAY)
    assert (schemas / "history" / source / "v1.json").read_bytes() == history


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("topic: raw.transactions", "topic: raw.payments", "topic"),
        ("partitions: 1", "partitions: 2", "partitions"),
        ("key: user_id\n", "key: terminal_id\n", "key"),
        ("user: user_id\n", "", "user"),
        ("dedup_key: transaction_id", "dedup_key: user_id", "dedup_key"),
        ("version: v1", "version: v1\nreference: true", "reference"),
        ("version: v1", "version: v1\nrequire_user: true", "require_user"),
        ("pii:\n  ip_address: hash\n", "", "ip_address"),
        ("ip_address: hash", "ip_address: drop", "ip_address"),
    ],
)
def test_a_break_in_a_declaration_is_refused(
    tmp_path: Path, old: str, new: str, place: str
) -> None:
    schemas = copy_schemas(tmp_path)
    replace_text(schemas / "transactions" / "contract.yaml", old, new)
    assert [change.place for change in check_compatibility(schemas)] == [place]


def test_another_event_time_is_refused(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    edit_schema(schemas, "customer_profiles", requires("signed_up_at"))
    declaration = schemas / "customer_profiles" / "contract.yaml"
    replace_text(declaration, "event_time: event_timestamp", "event_time: signed_up_at")
    places = {change.place for change in check_compatibility(schemas)}
    assert places == {"event_time", "signed_up_at"}


def test_a_new_sum_is_refused_and_an_old_one_may_go(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    declaration = schemas / "transactions" / "contract.yaml"
    replace_text(declaration, "parts: items.amount", "parts: items.unit_price")
    changes = compare_with_history(schemas)
    assert [change.place for change in changes.breaking] == ["sums"]
    assert [change.place for change in changes.additions] == ["sums"]


def test_a_removed_source_is_refused(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    shutil.rmtree(schemas / "labels")
    assert check_compatibility(schemas) == [
        Breaking("labels", "contract", "removed; its topic is in use")
    ]


def test_a_new_version_does_not_excuse_a_break(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    edit_schema(schemas, "labels", removed("note"))
    (schemas / "labels" / "v1.schema.json").rename(schemas / "labels" / "v2.schema.json")
    replace_text(schemas / "labels" / "contract.yaml", "version: v1", "version: v2")
    assert [str(change) for change in check_compatibility(schemas)] == ["labels: note: removed"]


GROWTH: dict[str, Edit] = {
    "new optional field": field("shop", type="string"),
    "new optional object with a required member": field(
        "shop", type="object", properties={"id": {"type": "string"}}, required=["id"]
    ),
    "new nested field": field("device.os", type="string"),
    "new value": field("status", enum=["authorized", "captured", "refunded", "declined", "held"]),
    "any value": field("status", enum=None),
    "now null": field("order_id", type=["string", "null"]),
    "lower minimum": field("items.quantity", minimum=0),
    "higher maximum": field("items.quantity", maximum=10**6),
    "longer text": field("order_id", maxLength=256),
    "no bound": field("order_id", maxLength=None),
    "no pattern": field("currency", pattern=None),
    "no longer required": lambda schema: schema["required"].remove("currency"),
    "integer to number": field("items.quantity", type="number"),
}


@pytest.mark.parametrize("name", GROWTH)
def test_growth_is_reported_then_accepted(tmp_path: Path, name: str) -> None:
    schemas = copy_schemas(tmp_path)
    edit_schema(schemas, "transactions", GROWTH[name])
    changes = compare_with_history(schemas)
    assert changes.breaking == []
    assert {change.source for change in changes.additions} == {"transactions"}
    assert {file.parent.name for file in accept(schemas, TODAY)} == {"transactions"}
    assert compare_with_history(schemas).additions == []


def test_more_personal_data_is_growth(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    replace_text(
        schemas / "transactions" / "contract.yaml", "pii:\n", "pii:\n  terminal_id: hash\n"
    )
    changes = compare_with_history(schemas)
    assert changes.breaking == []
    assert [change.place for change in changes.additions] == ["terminal_id"]


def test_descriptions_owners_and_retention_are_free(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    declaration = schemas / "transactions" / "contract.yaml"
    replace_text(declaration, "owner: payments@", "owner: checkout@")
    replace_text(declaration, "retention_days: 90", "retention_days: 7")
    edit_schema(schemas, "transactions", field("order_id", description="Other words"))
    assert compare_with_history(schemas).breaking == compare_with_history(schemas).additions == []


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"topic": "raw.labels"})])
def test_a_spoilt_history_is_named(tmp_path: Path, content: str) -> None:
    schemas = copy_schemas(tmp_path)
    (schemas / "history" / "labels" / "v1.json").write_text(content)
    with pytest.raises(ContractError, match=r"history/labels/v1.json: .*restore it from git"):
        check_compatibility(schemas)
