"""The price file: dated prices by part and region, each with unit and source.

A file that cannot be used is refused with its name, line, field and what to do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from babel.numbers import list_currencies

from dataflows.features.places import Places
from services.cost.errors import CostError
from services.cost.pricing import Part

NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a unit of a part costs in a region from a day on; `free_a_month` in the same unit."""

    part: Part
    region: NonEmpty
    valid_from: date
    unit: str
    price: Decimal
    free_a_month: Decimal = Decimal(0)
    source: Annotated[str, msgspec.Meta(pattern="^https?://")]


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    currency: str
    prices: Annotated[list[Price], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class PriceList:
    """The prices of one region, all of one currency."""

    file: str
    currency: str
    region: str
    _entries: tuple[tuple[int, Price], ...]
    _places: Places

    def on(self, part: Part, day: date) -> Price:
        """The price that is valid on a day.

        Raises:
            CostError: there is none.
        """
        entries = [entry for entry in self._entries if entry[1].part is part]
        valid = [price for _, price in entries if price.valid_from <= day]
        if valid:
            return max(valid, key=lambda price: price.valid_from)
        if not entries:
            raise CostError(
                f"{self.file}: prices: has no price of {part} in {self.region}; add an entry with "
                f"part: {part}, region: {self.region}, unit: {part.unit}"
            )
        number, first = min(entries, key=lambda entry: entry[1].valid_from)
        raise self._places.error(
            f"prices[{number}].valid_from",
            f"the first price of {part} in {self.region} is valid from {first.valid_from}, and "
            f"{day} is to be priced: add one that was valid then",
        )

    def require(self, days: Iterable[date]) -> None:
        """Every part has a price on every day.

        Raises:
            CostError: a part has no price on one of the days.
        """
        for day in days:
            for part in Part:
                self.on(part, day)


def read_prices(file: Path, region: str) -> PriceList:
    """
    Raises:
        CostError: the file cannot be used, or does not know the region.
    """
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise CostError(
            f"{file}: there is no such price file; --prices or [cost] prices name one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CostError(f"{file}: cannot be read as text ({error}); name another one") from error
    return parse_prices(text, str(file), region)


def parse_prices(text: str, source: str, region: str) -> PriceList:
    """The prices of a region from YAML text; `source` names it in errors. Raises CostError."""
    places = Places(text, source, CostError)
    try:
        # Every scalar as it is written: a price never becomes a binary fraction.
        found = msgspec.convert(yaml.load(text, yaml.BaseLoader), _File, strict=False)
    except msgspec.ValidationError as error:
        raise places.invalid(_with_advice(error), _members, {"part": Part}) from error
    if found.currency not in list_currencies():
        raise places.error(
            "currency", f"{found.currency!r} is no currency: write its ISO code, such as USD or EUR"
        )
    _refuse_wrong(found.prices, places)
    regions = sorted({price.region for price in found.prices})
    _refuse_unknown_region(region, regions, source)
    entries = [entry for entry in enumerate(found.prices) if entry[1].region == region]
    return PriceList(source, found.currency, region, tuple(entries), places)


_ADVICE = {
    "Invalid decimal string": "is no number such as 6.25",
    "Invalid RFC3339 encoded date": "is no date such as 2026-05-01",
    "Expected `array` of length >= 1": "is empty: add a price of each part",
    "Expected `str` matching regex '^https?://'": "is no address: say where the price is from",
}


def _with_advice(error: msgspec.ValidationError) -> msgspec.ValidationError:
    text = str(error)
    for said, advice in _ADVICE.items():
        text = text.replace(said, advice)
    return msgspec.ValidationError(text)


def _members(path: str) -> tuple[str, ...]:
    return (Price if path.startswith("prices[") else _File).__struct_fields__


def _refuse_wrong(prices: Collection[Price], places: Places) -> None:
    seen: set[tuple[Part, str, date]] = set()
    for number, price in enumerate(prices):
        at = f"prices[{number}]"
        if price.unit != price.part.unit:
            raise places.error(f"{at}.unit", f"a price of {price.part} is for a {price.part.unit}")
        for field, amount in (("price", price.price), ("free_a_month", price.free_a_month)):
            if not amount.is_finite() or amount < 0:
                raise places.error(f"{at}.{field}", f"{amount} must be a number, 0 or more")
        same = (price.part, price.region, price.valid_from)
        if same in seen:
            raise places.error(
                f"{at}.valid_from",
                f"{price.part} in {price.region} has a price from {price.valid_from} on already: "
                "keep one",
            )
        seen.add(same)


def _refuse_unknown_region(region: str, regions: list[str], source: str) -> None:
    if region not in regions:
        raise CostError(
            f"{source}: has no prices of region {region!r}, it has {', '.join(regions)}; set "
            "[cost] region to one of them, or add entries"
        )
