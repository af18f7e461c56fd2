"""Bad input and trouble: one line that names the thing and the way out, and nothing half-done."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archived_shop import ArchivedShop, rows
from places import fill, mounted

from dataflows.durations import Duration
from dataflows.runtime.recovery import Lease

DAY = "alerts/event_date=2026-03-04"


@pytest.fixture
def exported(archived: ArchivedShop) -> ArchivedShop:
    archived("export", "backup", "alerts")
    return archived


def manifest(shop: ArchivedShop) -> Path:
    return shop.directory / "backup" / DAY / "v000001.json"


def data(shop: ArchivedShop) -> Path:
    return shop.file(f"backup/{DAY}/*.parquet")


def test_no_lake(archived: ArchivedShop) -> None:
    shutil.rmtree(archived.lake)
    assert archived.refused("export", "backup") == (
        "shop/lake: no lake there; `tidegate up` writes one, `tidegate demo` makes one in its own "
        "directory"
    )
    assert not (archived.directory / "backup").exists()


@pytest.mark.parametrize("command", ["list", "verify", "restore", "drill"])
def test_no_archive(archived: ArchivedShop, command: str) -> None:
    assert archived.refused(command, "nowhere") == (
        "nowhere: holds no archive; `tidegate archive export nowhere` makes one"
    )


def test_no_such_table(exported: ArchivedShop) -> None:
    line = exported.refused("export", "backup", "clicks")
    assert line.startswith("shop/lake: has no table 'clicks'; it has: alerts, clickstream, ")
    for command in ("list", "verify", "restore", "drill"):
        table = "clicks" if command != "drill" else "labels"
        assert exported.refused(command, "backup", table) == (
            f"backup: has no table {table!r}; it has: alerts"
        )


@pytest.mark.parametrize("command", ["export", "list", "verify", "restore", "drill"])
@pytest.mark.parametrize(
    ("span", "says"),
    [
        (("--from", "yesterday"), "'yesterday' is no date such as 2026-05-01"),
        (("--to", "2026-02-30"), "'2026-02-30' is no date such as 2026-05-01"),
        (("--from", "20260301"), "'20260301' is no date such as 2026-05-01"),
        (("--from", "2026-03-04", "--to", "2026-03-03"), "--to 2026-03-03 is before --from 2026"),
    ],
)
def test_no_date(archived: ArchivedShop, command: str, span: tuple[str, ...], says: str) -> None:
    assert says in archived.refused(command, "backup", *span, code=2)


def test_nothing_of_those_dates(exported: ArchivedShop) -> None:
    line = "backup: holds nothing of those dates; it has 2026-03-02 to 2026-03-07"
    for command in ("list", "verify", "restore"):
        assert exported.refused(command, "backup", "--from", "2030-01-01") == line
    assert exported.refused("export", "backup", "--to", "2020-01-01") == (
        "shop/lake: holds nothing of those tables and dates; choose others"
    )


def test_a_driver_or_place_that_is_not_there(archived: ArchivedShop) -> None:
    assert "no folder that can be reached" in archived.refused("export", "gopher://x/y")
    (archived.directory / "file").write_text("")
    assert re.fullmatch(
        r"file/backup: cannot be used \(.*Not a directory.*\); check the address and your rights "
        "there",
        archived.refused("export", "file/backup", "alerts"),
    )
    assert "file" in archived.refused("restore", "file/backup")


def test_the_same_place(exported: ArchivedShop) -> None:
    (exported.directory / "alias").symlink_to("shop/lake")
    for place in ("shop/lake", "shop/lake/backup", "alias", "shop"):
        assert exported.refused("export", place) == (
            f"{place}: archive and lake (shop/lake) cannot be in one another; choose another folder"
        )
    assert "in one another" in exported.refused("restore", "backup", "--into", "backup/lake")


def test_a_hole_in_the_lake(archived: ArchivedShop) -> None:
    archived.file("shop/lake/clickstream/event_date=2026-03-04/*.parquet").unlink()
    assert re.fullmatch(
        r"shop/lake/clickstream: slot \S+ has written [\d,]+ records of 2026-03-04, its files hold "
        r"[\d,]+; put back the files that are gone, or remove that day and restore it from an "
        "archive",
        archived.refused("export", "backup", "clickstream"),
    )
    archived("export", "backup", "clickstream", "--from", "2026-03-05")


def test_a_file_of_the_lake_that_is_broken(archived: ArchivedShop) -> None:
    archived.file(f"shop/lake/{DAY}/*.parquet").write_bytes(b"PAR1 and no more")
    assert "is no Parquet file" in archived.refused("export", "backup", "alerts")


def test_a_table_that_the_load_flow_did_not_write(archived: ArchivedShop) -> None:
    folder = archived.lake / "mine" / "event_date=2026-03-04"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"a": [1]}), folder / "x-000000000000-000000000001.parquet")
    assert archived.refused("export", "backup", "mine") == (
        "shop/lake/mine/event_date=2026-03-04: has no column _topic, which says what record of the "
        "log a row is; only tables that the load flow wrote can be archived"
    )


def break_file(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "is missing":
        file.unlink()
    elif how.startswith("half"):
        file.write_bytes(content[: len(content) // 2])
    else:
        file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


@pytest.mark.parametrize(
    "how", ["is missing", "half of it is there", "changed since it was written"]
)
def test_a_data_file_is_named_when_damaged(exported: ArchivedShop, how: str) -> None:
    file = data(exported)
    break_file(file, how)
    name = file.relative_to(exported.directory)
    said = exported.fails_check("verify", "backup")
    assert said.startswith(f"✗ {name}: {how}"), said
    assert said.count("✗") == 1
    assert "; 1 problem." in said
    line = exported.refused("restore", "backup", "--into", "back")
    assert line.startswith(f"{name}: {how}")
    assert line.endswith("; put that file back, or restore another version with --version")
    assert exported.refused("drill", "backup").startswith(f"{name}: {how}")
    assert not (exported.directory / "back" / DAY).exists()
    assert not list(exported.directory.glob("back/_*"))


def test_a_manifest_is_named_when_damaged(exported: ArchivedShop) -> None:
    file, good = manifest(exported), manifest(exported).read_bytes()
    name = f"backup/{DAY}/v000001.json"
    for bad, says in (
        (good[: len(good) // 2], "cannot be read any more ("),
        (b"\xff" + good, "cannot be read any more ("),
        (good.replace(b'"version": 1', b'"version": 2'), "changed since it was written"),
    ):
        file.write_bytes(bad)
        said = exported.fails_check("verify", "backup")
        assert said.startswith(f"✗ {name}: {says}"), said
        assert "belong to no version" not in said
        for command in ("list", "export", "restore", "drill"):
            words = (command, "backup", *(("--into", "back") if command == "restore" else ()))
            line = exported.refused(*words)
            assert line.startswith(f"{name}: {says}")
            assert line.endswith("put it back, or remove it and export again")
    file.unlink()
    exported("export", "backup", "alerts")
    assert file.is_file()
    exported("verify", "backup")


def test_a_manifest_in_the_wrong_place(exported: ArchivedShop) -> None:
    other = exported.directory / "backup/alerts/event_date=2026-03-05/v000001.json"
    shutil.copy(other, manifest(exported))
    line = f"backup/{DAY}/v000001.json: is of alerts/event_date=2026-03-05, version 1"
    assert line in exported.fails_check("verify", "backup")
    assert exported.refused("restore", "backup", "--into", "back").startswith(line)


def test_a_version_that_is_missing(exported: ArchivedShop) -> None:
    shutil.move(manifest(exported), manifest(exported).with_name("v000002.json"))
    said = exported.fails_check("verify", "backup")
    assert f"✗ backup/{DAY}/v000001.json: is missing" in said
    assert exported.refused("restore", "backup", "--version", "9", "--into", "back") == (
        "backup/alerts/event_date=2026-03-02/v000009.json: there is no such version; `tidegate "
        "archive list backup alerts` shows those that are there"
    )


@pytest.mark.parametrize("name", [f"{DAY}/v000001.json", "alerts/progress.json"])
def test_a_newer_format(exported: ArchivedShop, name: str) -> None:
    file = exported.directory / "backup" / name
    file.write_text(json.dumps({"format": 2, "else": "entirely"}))
    line = (
        f"backup/{name}: is of format 2, this code reads up to 1; use the version of Tidegate "
        "that wrote it"
    )
    assert exported.refused("restore", "backup", "--into", "back") == line
    assert f"✗ {line}" in exported.fails_check("verify", "backup")


def test_rows_that_are_not_those_of_the_manifest(exported: ArchivedShop) -> None:
    """Each file is what its hash says, but the manifest does not go with them."""
    from services.archive.manifest import Manifest, decode, encode
    from services.archive.store import Archive, Choice
    from services.archive.verify import verify

    file = manifest(exported)
    found = decode(file.read_bytes(), Manifest, "")
    other = Manifest(**{**{f: getattr(found, f) for f in found.__struct_fields__}, "files": []})
    assert other.files == []
    file.write_bytes(encode(other))
    line = f"backup/{DAY}/v000001.json: "
    assert exported.refused("restore", "backup", "--into", "back").startswith(line)
    report = verify(Archive(str(exported.directory / "backup")), Choice(), lambda _: None)
    assert [problem.file.endswith(f"{DAY}/v000001.json") for problem in report.problems] == [True]


def test_nothing_is_written_over(exported: ArchivedShop) -> None:
    before = rows(exported.lake, "alerts")
    file = exported.file(f"shop/lake/{DAY}/*.parquet")
    pq.write_table(pq.ParquetFile(file).read().slice(1), file)
    assert exported.refused("restore", "backup") == (
        f"shop/lake/{DAY}: holds something else already; restore into an empty directory with "
        "--into, choose other days with --from and --to, or move this one away"
    )
    assert len(rows(exported.lake, "alerts")) == len(before) - 1
    shutil.rmtree(file.parent)
    exported("restore", "backup")
    assert rows(exported.lake, "alerts") == before


def test_one_at_a_time(exported: ArchivedShop) -> None:
    lease = Lease(exported.directory / "shop" / "archive", "x", Duration.parse("0s"))
    for command in ("export", "drill"):
        assert exported.refused(command, "backup", code=75).startswith("the archive: held by proc")
    lease.release()
    lease = Lease(exported.directory / "back" / "_restoring", "x", Duration.parse("0s"))
    line = exported.refused("restore", "backup", "--into", "back", code=75)
    assert line.startswith("a restore into back: held by process")
    lease.release()


@pytest.fixture
def small_disk(exported: ArchivedShop) -> Iterator[Path]:
    place = exported.directory / "disk"
    place.mkdir()
    with mounted(place, "-t", "tmpfs", "-o", "size=256k", "tmpfs"):
        yield place


def test_a_full_disk(exported: ArchivedShop, small_disk: Path) -> None:
    fill(small_disk / "filler", leave=12_288)
    line = exported.refused("export", "disk/backup", "alerts")
    assert line.startswith("disk/backup")
    assert "No space left" in line
    assert "make room there" in line
    line = exported.refused("restore", "backup", "--into", "disk/lake")
    assert line.startswith("disk/lake")
    assert "o space left" in line
    assert "make room" in line
    assert not list(small_disk.glob("lake/**/*.parquet"))
    (small_disk / "filler").unlink()
    exported("export", "disk/backup", "alerts", "--to", "2026-03-03")
    exported("verify", "disk/backup")
    exported("restore", "disk/backup", "--into", "disk/again")


def test_a_place_that_may_only_be_read(exported: ArchivedShop) -> None:
    place = exported.directory / "disk"
    shutil.copytree(exported.directory / "backup", place / "backup")
    with mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        line = exported.refused("export", "disk/new", "alerts")
        assert line.startswith("disk/new: cannot be used (")
        assert line.endswith("check the address and your rights there")
        line = exported.refused("restore", "backup", "--into", "disk/lake")
        assert line.startswith("disk/lake/_restoring: cannot be written (Read-only file system)")
        exported("verify", "disk/backup")
        exported("restore", "disk/backup", "--into", "back")
