"""Whatever the order in which events come in: once reprocessed, gold is what a full build makes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from built_warehouse import Built, config_of
from warehouse_shop import DAYS, MONDAY, Delivery, Shop, put

from services.warehouse.build import Asked, build, reprocess
from services.warehouse.database import open_database

FIRST = MONDAY.date()


def gold(directory: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of silver and gold."""
    with open_database(directory / "warehouse" / "warehouse.duckdb", read_only=True) as database:
        names = database.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_schema IN ('silver', 'gold')"
        ).fetchall()
        return {
            f"{schema}.{name}": database.execute(
                f'SELECT * FROM {schema}."{name}" ORDER BY ALL'
            ).fetchall()
            for schema, name in names
        }


def fully_built(directory: Path, beside: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What a full build makes of the same lake."""
    shutil.copytree(directory / "lake", beside / "lake")
    shutil.copy(directory / "pii.key", beside)
    assert build(config_of(beside)).kind == "full"
    return gold(beside)


def request(directory: Path, deliveries: Sequence[Delivery]) -> None:
    """What the late flow asks for once it has buffered these."""
    dates = {(d.table, d.document["event_timestamp"][:10]) for d in deliveries}
    now = datetime.now(UTC).isoformat()
    documents = [
        {
            "source": source,
            "event_date": day,
            "late_events": 1,
            "first_event_at": now,
            "last_event_at": now,
        }
        for source, day in sorted(dates)
    ]
    put(
        directory / "lake",
        [Delivery("reprocess.requests", document, MONDAY) for document in documents],
    )


def waves(shop: Shop, chance: random.Random) -> Iterator[list[Delivery]]:
    """All that was delivered, first most of it, then the rest of the buffered ones in two parts.

    Each wave is in an order of its own, but for what one topic says of one session.
    """
    late = [d for d in shop.deliveries if d.topic.startswith("buffered.")]
    chance.shuffle(late)
    held_back = late[: len(late) // 2]
    first = [d for d in shop.deliveries if not any(d is other for other in held_back)]
    chance.shuffle(first)
    yield first
    cut = chance.randrange(1, len(held_back))
    yield held_back[:cut]
    yield held_back[cut:]


def test_late_events_in_any_order_give_what_a_full_build_gives(
    tmp_path: Path, in_this_process: None
) -> None:
    chance = random.Random(11)
    directory = tmp_path / "late"
    first, *later = waves(Shop(11, users=12, clicks=150, payments=60), chance)
    put(directory / "lake", first)
    build(config_of(directory))
    for number, wave in enumerate(later):
        put(directory / "lake", wave)
        if number:  # without one, too: a request may come later than its events
            request(directory, wave)
        assert reprocess(config_of(directory)).kind == "reprocessed"
    assert gold(directory) == fully_built(directory, tmp_path / "full")
    assert reprocess(config_of(directory)).kind == "not asked"
    assert build(config_of(directory)).kind == "unchanged"


def test_only_the_dates_that_changed_are_made_anew(
    built: Built, tmp_path: Path, in_this_process: None
) -> None:
    directory = copied(built, tmp_path)
    today = str(FIRST + timedelta(days=2))
    more = [d for d in Shop(21, clicks=40).of("clickstream") if day(d) == today]
    put(directory / "lake", more)
    report = build(config_of(directory))
    assert report.kind == "changed dates"
    clicks = [*more, *built.shop.of("clickstream")]
    ids = {d.document["event_id"] for d in clicks if day(d) == today}
    same = {day(d) for d in clicks if d.document["event_id"] in ids}
    assert set(map(str, report.dates)) == same < set(map(day, clicks))
    assert gold(directory) == fully_built(directory, tmp_path / "full")


def test_named_dates_are_made_anew_and_requests_wait_on(
    built: Built, tmp_path: Path, in_this_process: None
) -> None:
    directory = copied(built, tmp_path)
    request(directory, built.shop.of("clickstream")[:1])
    report = reprocess(config_of(directory), Asked(FIRST, FIRST, "scores"))
    assert report.dates == [FIRST]
    assert reprocess(config_of(directory)).kind == "reprocessed"
    assert reprocess(config_of(directory)).kind == "not asked"
    assert gold(directory) == gold(built.directory)


def test_what_else_has_changed_on_a_named_date_takes_its_own_with_it(
    built: Built, tmp_path: Path, in_this_process: None
) -> None:
    directory = copied(built, tmp_path)
    profiles = [d for d in Shop(41).of("customer_profiles") if day(d) == str(FIRST)]
    put(directory / "lake", profiles)
    report = reprocess(config_of(directory), Asked(FIRST, FIRST, "scores"))
    assert len(report.dates) == DAYS
    assert gold(directory) == fully_built(directory, tmp_path / "full")


def day(delivery: Delivery) -> str:
    return str(delivery.document["event_timestamp"][:10])


def copied(built: Built, beside: Path) -> Path:
    """A data directory of this test's own."""
    return Path(shutil.copytree(built.directory, beside / "copy"))
