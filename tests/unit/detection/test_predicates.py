"""Predicates: numpy and DuckDB agree on random rows and predicates; the rest of SQL is refused."""

from contextlib import suppress
from functools import cache

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlglot import exp, parse_one

from dataflows.detection.predicates import Predicate, PredicateError, compile_predicate
from dataflows.features.columns import Column, Columns, ColumnSpec, Kind, from_list

KINDS = {
    "a": Kind.NUMBER,
    "b": Kind.NUMBER,
    "i": Kind.NUMBER,
    "j": Kind.NUMBER,
    "s": Kind.TEXT,
    "t": Kind.TEXT,
    "f": Kind.BOOLEAN,
    "g": Kind.BOOLEAN,
}
SPECS = {name: ColumnSpec(name, kind, "") for name, kind in KINDS.items()}
TYPES = {
    **dict.fromkeys("ab", pa.float64()),
    **dict.fromkeys("ij", pa.int64()),
    **dict.fromkeys("st", pa.string()),
    **dict.fromkeys("fg", pa.bool_()),
}

floats = st.sampled_from([0.0, -0.0, 0.1, 0.3, 1.0, 2.0, -2.5, 1e-9, 1e12]) | st.floats(-1e6, 1e6)
integers = st.integers(-5, 5) | st.integers(-(2**60), 2**60)
texts = st.sampled_from(["", "a", "A", "DE", "é", "z", "it's", "𝛑", "\uffff"]) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=3
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            **dict.fromkeys("ab", st.none() | floats),
            **dict.fromkeys("ij", st.none() | integers),
            **dict.fromkeys("st", st.none() | texts),
            **dict.fromkeys("fg", st.none() | st.booleans()),
        }
    ),
    min_size=1,
    max_size=12,
)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# Digits only as rules are written: a literal such as 0.1 is exact decimal to DuckDB itself.
number_literals = st.sampled_from(["0", "1", "2", "0.1", "0.3", "2.5", "1e3", "7", "1000000000000"])
text_literals = texts.map(quoted)


def arithmetic(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda x: f"(-{x})"),
        inner.map(lambda x: f"ABS({x})"),
        st.tuples(inner, inner).map(lambda p: f"COALESCE({p[0]}, {p[1]})"),
    )


numbers = st.recursive(st.sampled_from("abij") | number_literals, arithmetic, max_leaves=4)
words = st.sampled_from("st") | text_literals | st.just("COALESCE(s, t, 'none')")
flags = st.sampled_from(["f", "g", "TRUE", "FALSE", "COALESCE(f, g)", "COALESCE(g, FALSE)"])
comparison = st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "!="])


def condition(x: st.SearchStrategy[str], literal: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    negate = st.sampled_from(["", "NOT "])
    some = st.lists(literal, min_size=1, max_size=4).map(", ".join)
    return st.one_of(
        st.tuples(x, comparison, x).map(" ".join),
        st.tuples(x, negate, x, x).map(lambda p: f"{p[0]} {p[1]}BETWEEN {p[2]} AND {p[3]}"),
        st.tuples(x, negate, some).map(lambda p: f"{p[0]} {p[1]}IN ({p[2]})"),
        st.tuples(x, negate).map(lambda p: f"{p[0]} IS {p[1]}NULL"),
    )


atoms = st.one_of(
    condition(numbers, number_literals | number_literals.map(lambda n: f"-{n}")),
    condition(words, text_literals),
    flags,
    st.tuples(flags, st.sampled_from(["=", "<>"]), flags).map(" ".join),
    flags.map(lambda x: f"{x} IS NULL"),
)
predicates = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(
            lambda p: f"({p[0]} {p[1]} {p[2]})"
        ),
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(" ".join),
        inner.map(lambda x: f"NOT ({x})"),
    ),
    max_leaves=6,
)


def columns_of(given_rows: list[dict]) -> Columns:
    columns = {
        name: from_list(kind, [row[name] for row in given_rows]) for name, kind in KINDS.items()
    }
    for name in "ij":  # counts are integers
        whole = np.array([row[name] or 0 for row in given_rows], np.int64)
        columns[name] = Column(whole, columns[name].valid)
    return columns


def answers(predicate: Predicate, columns: Columns) -> list[bool | None]:
    true, false = predicate.holds(columns), predicate.fails(columns)
    assert not (true & false).any()
    return [
        True if yes else False if no else None
        for yes, no in zip(true.tolist(), false.tolist(), strict=True)
    ]


def in_duckdb(sql: str, given_rows: list[dict]) -> list[bool | None]:
    table = pa.table(
        {name: pa.array([row[name] for row in given_rows], kind) for name, kind in TYPES.items()}
    )
    connection = database()
    connection.register("payments", table)
    return [row[0] for row in connection.execute(f"SELECT {sql} FROM payments").fetchall()]


@cache
def database() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


EMPTY = dict.fromkeys(KINDS)


@settings(deadline=None, max_examples=200)
@given(predicates, rows)
@example("a / b > 0 OR a / b <= 0", [{**EMPTY, "a": 1.0, "b": 0.0}, {**EMPTY, "a": 0.0, "b": 0.0}])
@example("i * 0.1 > 0.3", [{**EMPTY, "i": 3}])
@example("j * 0.1 = ABS(COALESCE(a, j * 0.1))", [{**EMPTY, "j": 3}])
@example("NOT (s < t)", [{**EMPTY, "s": "a"}, {**EMPTY, "s": "b", "t": "a"}])
@example("a = a / b", [{**EMPTY, "a": 0.1, "b": 2.2e-311}, {**EMPTY, "a": -0.1, "b": 2.2e-311}])
@example("a * a * b = 0 OR a + a > b", [{**EMPTY, "a": 1e308, "b": 0.0}])
def test_numpy_and_duckdb_agree(text: str, given_rows: list[dict]) -> None:
    predicate = compile_predicate(text, SPECS)
    got = answers(predicate, columns_of(given_rows))
    assert got == in_duckdb(predicate.sql("duckdb"), given_rows)


@settings(deadline=None, max_examples=100)
@given(predicates)
def test_the_sql_for_bigquery_says_the_same(text: str) -> None:
    """Its types, NULLIFs and how it does without infinities aside, it is the same tree."""
    predicate = compile_predicate(text, SPECS)
    bigquery = parse_one(predicate.sql("bigquery"), read="bigquery")
    assert plain(bigquery) == plain(parse_one(predicate.sql("duckdb"), read="duckdb"))


OPERATORS: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.SafeAdd: exp.Add,
    exp.SafeSubtract: exp.Sub,
    exp.SafeMultiply: exp.Mul,
    exp.SafeDivide: exp.Div,
}


def plain(tree: exp.Expr) -> str:
    """One spelling of a tree, without comments and the dialects' flags on nodes."""
    for node in reversed(list(tree.find_all(exp.Nullif, *OPERATORS))):
        if type(node) in OPERATORS:
            node.replace(OPERATORS[type(node)](this=node.this, expression=node.expression))
        elif "inf" in node.expression.sql():
            node.replace(node.this)
    for node in tree.walk():
        node.comments = None
    return tree.sql(dialect="duckdb")


def test_no_calculation_is_left_that_bigquery_could_refuse() -> None:
    tree = parse_one(compile_predicate("a + b * i - a / j > 1", SPECS).sql("bigquery"))
    assert not list(tree.find_all(exp.Add, exp.Sub, exp.Mul, exp.Div))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1 AND b = 2", [True, False, None, False, None]),
        ("a = 1 OR b = 2", [True, True, True, None, None]),
        ("NOT a = 1", [False, False, False, None, None]),
        ("a IS NULL", [False, False, False, True, True]),
        ("a IN (1, 2)", [True, True, True, None, None]),
        ("COALESCE(a, 0) + COALESCE(b, 0) > 2", [True, False, False, True, False]),
        ("a / (a - 1) > 0", [None, None, None, None, None]),
        ("TRUE", [True, True, True, True, True]),
    ],
)
def test_three_valued_logic(text: str, expected: list[bool | None]) -> None:
    given_rows = [{"a": 1, "b": 2}, {"a": 1, "b": 0}, {"a": 1}, {"b": 7}, {}]
    filled = [{**EMPTY, **row} for row in given_rows]
    assert answers(compile_predicate(text, SPECS), columns_of(filled)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("customer = 1", "unknown column customer: known: a, b"),
        ("aa > 1", "did you mean a?"),
        ("s LIKE 'x%'", r"s LIKE 'x%' \(LIKE\) is outside the subset"),
        ("CASE WHEN f THEN a END > 1", r"\(CASE\) is outside"),
        ("a % 2 = 1", r"\(MOD\) is outside"),
        ("CAST(a AS INT) = 1", r"\(CAST\) is outside"),
        ("a IN (SELECT 1)", r"\(IN\) is outside"),
        ("EXISTS (SELECT 1)", r"\(EXISTS\) is outside"),
        ("count(*) > 1", r"\(COUNT\) is outside"),
        ("a > now()", "is outside"),
        ("SELECT 1", r"\(SELECT\) is outside"),
        ("DROP TABLE payments", "is outside"),
        ("a IN (1, b)", "IN takes literals, not b"),
        ("a = 'x'", "a is a number, 'x' a text"),
        ("s = 1", "s is a text, 1 a number"),
        ("f > g", "booleans have no order"),
        ("s + 1 > 2", "s is a text, not a number"),
        ("a", "a is a number, not a condition"),
        ("a = NULL", "ask with IS NULL"),
        ("(a > 1) = f", "a > 1 is a condition where a value is expected"),
        ("payments.a > 1", "columns have no table, write a"),
        ("a > 1; b > 1", "expected one condition"),
        ("", "expected one condition"),
        ("a >", "not SQL at line 1, column 3"),
        ("a > 1 AND\n (b < 2", "not SQL at line 2"),
        ("a > 1e999", "too large"),
        ("(" * 3000 + "f" + ")" * 3000, "nested too deep"),
        ("NOT " * 60 + "f", "nested"),
    ],
)
def test_what_is_not_in_the_subset_is_refused(text: str, says: str) -> None:
    with pytest.raises(PredicateError, match=says):
        compile_predicate(text, SPECS)


@settings(deadline=None, max_examples=200)
@given(
    st.text(max_size=30)
    | st.lists(
        st.sampled_from(["a", "s", "(", ")", "=", "1", "'x'", "AND", "NOT", "IN", ",", "-"])
    ).map(" ".join)
)
@example("0E")
def test_any_text_compiles_or_is_refused(text: str) -> None:
    with suppress(PredicateError):
        compile_predicate(text, SPECS)


def test_a_long_chain_is_not_deep() -> None:
    chain = " OR ".join(f"i = {n}" for n in range(2_000))
    two = columns_of([{**EMPTY, "i": 1_999}, {**EMPTY, "i": -1}])
    assert answers(compile_predicate(chain, SPECS), two) == [True, False]


def test_the_columns_a_predicate_reads() -> None:
    assert set(compile_predicate("a > 1 AND NOT (s = 'a' OR b < a)", SPECS).columns) == {
        "a",
        "s",
        "b",
    }


wild_rows = st.lists(
    st.fixed_dictionaries(
        {
            **dict.fromkeys("ab", st.none() | st.floats(allow_nan=False)),
            **dict.fromkeys("ij", st.none() | st.integers(-(2**63), 2**63 - 1)),
            **dict.fromkeys("st", st.none() | st.text()),
            **dict.fromkeys("fg", st.none() | st.booleans()),
        }
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(predicates, wild_rows)
def test_no_value_makes_a_predicate_raise(text: str, given_rows: list[dict]) -> None:
    predicate, columns = compile_predicate(text, SPECS), columns_of(given_rows)
    holds, fails = predicate.holds(columns), predicate.fails(columns)
    assert holds.shape == fails.shape == (len(given_rows),)
    assert not (holds & fails).any()
