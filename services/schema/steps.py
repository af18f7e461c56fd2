"""A plan: what separates each place from the contracts, a step each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Place = Literal["history", "lake", "dbt", "bigquery"]
Do = Literal[
    "create",  # a table, or a source that is new
    "add",  # a column
    "relax",  # it need not be there any more
    "widen",  # its type holds more
    "allow",  # more values are accepted
    "describe",  # in other words
    "cluster",  # by other columns
    "write",  # a file that is generated
    "itself",  # happens without anybody doing it
    "by hand",  # a person has to do it
    "refuse",  # would take something away
]
_LEFT_ALONE = ("itself", "by hand", "refuse")


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A difference at a place. `column` is a dotted path, "" for the table as a whole.

    A column that is added has a type, a mode, a description, and how it is handled if it is
    personal data. `instead` says how to have what is refused.
    """

    place: Place
    do: Do
    table: str
    column: str = ""
    what: str = ""
    type: str = ""
    mode: str = ""
    description: str = ""
    personal: str = ""
    instead: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Every step, place by place, and where those places are; `bigquery` may be left out."""

    schemas: str
    lake: str
    warehouse_sql: str
    bigquery: str | None
    steps: list[Step]

    @property
    def refused(self) -> list[Step]:
        return [step for step in self.steps if step.do == "refuse"]

    @property
    def changes(self) -> list[Step]:
        """What `apply` does."""
        return changes(self.steps)

    def at(self, place: Place) -> list[Step]:
        return [step for step in self.steps if step.place == place]


def changes(steps: Sequence[Step]) -> list[Step]:
    """The steps that are to be done, without those that happen by themselves or by hand."""
    return [step for step in steps if step.do not in _LEFT_ALONE]
