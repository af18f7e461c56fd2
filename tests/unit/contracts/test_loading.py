"""Loading schemas/: the six sources, and a clear refusal of whatever does not hold together."""

from pathlib import Path

import pytest
from contract_folders import CONTRACTS, SCHEMAS, SOURCES, copy_schemas, edit_schema, replace_text

from dataflows.contracts import ContractError, load_contracts
from dataflows.contracts.examples import check_examples

SIX = {
    "clickstream",
    "customer_profiles",
    "customer_support",
    "labels",
    "product_catalog",
    "transactions",
}


def test_the_six_sources() -> None:
    assert CONTRACTS.keys() >= SIX
    assert list(CONTRACTS) == sorted(CONTRACTS)
    assert {source: CONTRACTS[source].partitions for source in SIX} == {
        source: 2 if source == "clickstream" else 1 for source in SIX
    }
    reference = {source for source in SIX if CONTRACTS[source].reference}
    assert reference == {"customer_profiles", "product_catalog"}
    assert {source for source in SIX if CONTRACTS[source].require_user} == {"clickstream"}


@pytest.mark.parametrize("source", SOURCES)
def test_every_example_is_as_its_place_says(source: str) -> None:
    examples = SCHEMAS / source / "examples"
    assert len(list(examples.glob("pass/*.json"))) >= 3
    assert len(list(examples.glob("fail/*.json"))) >= 5
    assert check_examples(CONTRACTS[source], SCHEMAS / source) == []


def test_an_example_in_the_wrong_place_is_found(tmp_path: Path) -> None:
    folder = copy_schemas(tmp_path) / "labels"
    (folder / "examples/pass/chargeback.json").rename(folder / "examples/fail/chargeback.json")
    (folder / "examples/fail/origin_null.json").rename(folder / "examples/pass/origin_null.json")
    problems = check_examples(CONTRACTS["labels"], folder)
    assert len(problems) == 2
    assert "origin_null.json: should pass, but is refused: `$.origin`" in problems[0]
    assert "chargeback.json: should fail, but is accepted" in problems[1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: v1", "version: 1", "Expected `str`"),
        ("version: v1", "version: v2", "v2.schema.json: missing"),
        ("version: v1", "version: [", "not YAML"),
        ("version: v1", "colour: blue\nversion: v1", "unknown field `colour`"),
        ("topic: raw.transactions", "topic: payments", r"`\$.topic`"),
        ("topic: raw.transactions", "topic: raw.labels", "raw.labels belongs to labels already"),
        ("partitions: 1", "partitions: 0", r"`\$.partitions`"),
        ("owner: payments@shop.example\n", "", "missing required field `owner`"),
        ("key: user_id\n", "key: customer\n", "`key`: 'customer' is not a field"),
        ("key: user_id\n", "key: items\n", "`key`: 'items' must be of type string"),
        ("user: user_id\n", "user: buyer\n", "`user`: 'buyer' is not a field"),
        ("user: user_id\n", "require_user: true\n", "`require_user`: needs `user`"),
        ("dedup_key: transaction_id", "dedup_key: order_id", "'order_id' must be required"),
        (
            "event_time: event_timestamp",
            "event_time: currency",
            "'currency' must be a required date",
        ),
        ("ip_address: hash", "ip_address: burn", "Invalid enum value 'burn'"),
        ("ip_address: hash", "ip: hash", "'ip' is not a field"),
        ("ip_address: hash", "items: hash", "'items' must be of type string"),
        ("ip_address: hash", "user_id: hash", "'user_id' identifies records"),
        ("parts: items.amount", "parts: amount", r"`\$.sums\[0\].parts`"),
        ("parts: items.amount", "parts: items.quantity", "items.quantity must be required money"),
        ("parts: items.amount", "parts: device.amount", "device.amount must be required money"),
        ("total: total_amount", "total: currency", "'currency' must be money"),
        ("partition_by: event_timestamp", "partition_by: status", "'status' must be a date-time"),
        ("cluster_by: [user_id, status]", "cluster_by: [items]", "'items' must be a scalar"),
        ("cluster_by: [user_id, status]", "cluster_by: [a, b, c, d, e]", "length <= 4"),
    ],
)
def test_a_broken_declaration_is_refused_with_file_and_place(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    schemas = copy_schemas(tmp_path)
    replace_text(schemas / "transactions" / "contract.yaml", old, new)
    with pytest.raises(ContractError, match=message) as refusal:
        load_contracts(schemas)
    assert str(schemas / "transactions") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_or_misnamed_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no such folder"):
        load_contracts(tmp_path / "nowhere")
    schemas = copy_schemas(tmp_path)
    (schemas / "Refunds").mkdir()
    with pytest.raises(ContractError, match=r"Refunds: a source's name must be"):
        load_contracts(schemas)
    (schemas / "Refunds").rename(schemas / "refunds")
    with pytest.raises(ContractError, match=r"refunds/contract.yaml: missing"):
        load_contracts(schemas)


def test_a_broken_schema_file_is_refused(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    (schemas / "labels" / "v1.schema.json").write_text("{")
    with pytest.raises(ContractError, match=r"labels/v1.schema.json: not JSON"):
        load_contracts(schemas)
    (schemas / "labels" / "v1.schema.json").write_bytes(b"\xff")
    with pytest.raises(ContractError, match=r"labels/v1.schema.json: cannot be read"):
        load_contracts(schemas)


def test_a_field_cannot_take_the_name_of_one_that_ingest_adds(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    edit_schema(
        schemas, "labels", lambda schema: schema["properties"].update(extras={"type": "string"})
    )
    with pytest.raises(ContractError, match=r"#/properties/extras: ingest adds a field"):
        load_contracts(schemas)


def test_the_largest_record_can_be_set() -> None:
    small = load_contracts(SCHEMAS, max_record_bytes=10)["labels"]
    assert small.decode([b" " * 11]).failures[0].reason == "too_large"
