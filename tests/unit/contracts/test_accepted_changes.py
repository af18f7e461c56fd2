"""What was accepted of a contract, and when, is listed for good, wherever the accepting dies."""

import json
import os
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from contract_folders import SCHEMAS, SOURCES, copy_schemas, edit_schema, replace_text

from dataflows.contracts import ContractError, accept, accepted_changes
from dataflows.contracts.compatibility import accepted_form
from dataflows.contracts.history import accepted_forms, fingerprint
from dataflows.contracts.loading import load_contract

TODAY, LATER = date(2026, 11, 27), date(2026, 12, 1)


def add_coupon(schemas: Path) -> None:
    edit_schema(schemas, "transactions", lambda schema: schema["properties"].update(coupon=text()))


def text() -> dict[str, Any]:
    return {"type": "string"}


def test_the_committed_list_ends_at_the_committed_form() -> None:
    for source, listed in accepted_changes(SCHEMAS).items():
        (form,) = accepted_forms(SCHEMAS, source).values()
        befores = [entry.before for entry in listed]
        assert befores == ["", *(entry.after for entry in listed[:-1])]
        assert listed[-1].after == fingerprint(form)
        fields = {c.place for entry in listed for c in entry.changes if c.change == "a new field"}
        assert fields == form["fields"].keys()
    assert sorted(accepted_changes(SCHEMAS)) == SOURCES


def test_what_is_accepted_is_listed_behind_what_was(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    before = accepted_changes(schemas)["transactions"]
    add_coupon(schemas)
    replace_text(schemas / "transactions" / "contract.yaml", "pii:\n", "pii:\n  coupon: mask\n")
    accept(schemas, TODAY)
    edit_schema(schemas, "transactions", lambda schema: schema["required"].remove("currency"))
    accept(schemas, LATER)
    listed = accepted_changes(schemas)["transactions"]
    assert listed[:-2] == before
    assert [(entry.date, entry.version) for entry in listed[-2:]] == [
        ("2026-11-27", "v1"),
        ("2026-12-01", "v1"),
    ]
    (coupon,), (currency,) = (entry.changes for entry in listed[-2:])
    assert (coupon.place, coupon.type, coupon.required, coupon.personal) == (
        "coupon",
        "text",
        False,
        "mask",
    )
    assert (currency.place, currency.change) == ("currency", "required is now false")
    assert accept(schemas, LATER) == []


def test_a_new_version_is_listed(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    (schemas / "labels" / "v1.schema.json").rename(schemas / "labels" / "v2.schema.json")
    replace_text(schemas / "labels" / "contract.yaml", "version: v1", "version: v2")
    accept(schemas, TODAY)
    last = accepted_changes(schemas)["labels"][-1]
    assert (last.version, [change.change for change in last.changes]) == ("v2", ["version v2"])
    assert accept(schemas, LATER) == []


def test_a_history_without_a_list_is_read_and_goes_on(tmp_path: Path) -> None:
    schemas = copy_schemas(tmp_path)
    (schemas / "history" / "transactions" / "changes.json").unlink()
    (first,) = accepted_changes(schemas)["transactions"]
    assert (first.date, first.changes[0].change) == (None, "a new source")
    assert accept(schemas, TODAY) == []
    add_coupon(schemas)
    accept(schemas, TODAY)
    listed = accepted_changes(schemas)["transactions"]
    assert [entry.date for entry in listed] == [None, "2026-11-27"]
    assert listed[0] == first


@pytest.mark.parametrize("dies_at", range(4))
def test_accepting_is_finished_by_doing_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    schemas = copy_schemas(tmp_path)
    add_coupon(schemas)
    edit_schema(schemas, "labels", lambda schema: schema["properties"].update(why=text()))
    undisturbed = Path(shutil.copytree(schemas, tmp_path / "undisturbed"))
    accept(undisturbed, TODAY)

    replace, done = os.replace, 0

    def power_cut(old: Path, new: Path) -> None:
        nonlocal done
        if done == dies_at:
            raise KeyboardInterrupt
        done += 1
        replace(old, new)

    monkeypatch.setattr(os, "replace", power_cut)
    with pytest.raises(KeyboardInterrupt):
        accept(schemas, TODAY)
    monkeypatch.undo()
    accept(schemas, TODAY)
    assert accepted_changes(schemas) == accepted_changes(undisturbed)
    assert accepted_forms(schemas, "labels") == accepted_forms(undisturbed, "labels")


def test_a_change_that_goes_on_after_a_power_cut_is_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schemas = copy_schemas(tmp_path)
    add_coupon(schemas)
    monkeypatch.setattr("dataflows.contracts.compatibility.put_form", interrupted)
    with pytest.raises(KeyboardInterrupt):
        accept(schemas, TODAY)
    monkeypatch.undo()
    edit_schema(schemas, "transactions", lambda schema: schema["properties"].update(tip=text()))
    accept(schemas, LATER)
    last = accepted_changes(schemas)["transactions"][-1]
    assert (last.date, [c.place for c in last.changes]) == ("2026-12-01", ["coupon", "tip"])
    assert last.after == fingerprint(accepted_form(load_contract(schemas / "transactions")))
    assert [c.place for c in last.changes].count("coupon") == 1
    assert len(accepted_changes(schemas)["transactions"]) == 2


def interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("content", ["[", "{}", json.dumps([{"date": "2026-11-27"}])])
def test_a_spoilt_list_is_named(tmp_path: Path, content: str) -> None:
    schemas = copy_schemas(tmp_path)
    (schemas / "history" / "labels" / "changes.json").write_text(content)
    with pytest.raises(ContractError, match=r"history/labels/changes.json: .*restore it from git"):
        accepted_changes(schemas)
