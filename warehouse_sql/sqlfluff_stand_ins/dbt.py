"""Stands in for the macros that dbt brings."""

from __future__ import annotations


def type_string() -> str:
    return "varchar"


def type_int() -> str:
    return "int"


def type_bigint() -> str:
    return "bigint"


def concat(parts: list[str]) -> str:
    return " || ".join(parts)


def hash(text: str) -> str:
    return f"md5({text})"


def split_part(text: str, delimiter: str, number: int) -> str:
    return f"split_part({text}, {delimiter}, {number})"
