"""SQL predicates on columns with nulls: one text, run by numpy on the stream, by SQL elsewhere.

The subset, in which both give the same answer:

- columns, numbers, 'text', TRUE, FALSE
- AND, OR, NOT, parentheses
- = <> != < <= > >= between two numbers or two texts; = and <> between two booleans
- x [NOT] BETWEEN a AND b, x [NOT] IN (literals), x IS [NOT] NULL
- + - * / and unary minus on numbers, in double precision; division by zero is NULL, and so is a
  result too large for double precision
- COALESCE(x, ...), ABS(number)

Comparisons with NULL are NULL, and NOT, AND and OR follow SQL's three-valued logic; a predicate
holds where it is TRUE. Text compares by code point. Anything else is refused when it is compiled.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import sqlglot
from numpy.typing import NDArray
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from dataflows.errors import TidegateError
from dataflows.features.columns import Column, Columns, ColumnSpec, Kind, Scalar

MAX_DEPTH = 50
_DIALECT = "duckdb"


class PredicateError(TidegateError):
    """A predicate outside the subset: what it is, and why it is refused."""


Rows: TypeAlias = NDArray[np.bool_]
# Where a condition has the answer asked for, TRUE or FALSE; where it has neither it is NULL.
Logic: TypeAlias = Callable[[Columns, bool], Rows]
Value: TypeAlias = Callable[[Columns], Column]


@dataclass(frozen=True)
class Predicate:
    """A compiled predicate; `columns` are the names it reads, in order of appearance."""

    text: str
    columns: tuple[str, ...]
    _evaluate: Logic
    _tree: exp.Expr

    def holds(self, columns: Columns) -> Rows:
        """Where it is TRUE, of n > 0 rows of columns, among them every column it names."""
        return self._answer(columns, True)

    def fails(self, columns: Columns) -> Rows:
        """Where it is FALSE. It is NULL where it neither holds nor fails."""
        return self._answer(columns, False)

    def _answer(self, columns: Columns, wanted: bool) -> Rows:
        with np.errstate(all="ignore"):
            rows = self._evaluate(columns, wanted)
        if rows.ndim == 0:  # it names no column
            rows = np.full(len(next(iter(columns.values()))), rows)
        return rows

    def sql(self, dialect: str) -> str:
        """The same predicate for a warehouse ("duckdb", "bigquery"), with this module's meaning."""
        return _without_infinities(self._tree.copy(), dialect).sql(dialect=dialect)


def compile_predicate(text: str, specs: Mapping[str, ColumnSpec]) -> Predicate:
    """Compile a predicate over the declared columns.

    Raises PredicateError naming the construct, or the column and the nearest known ones.
    """
    tree = _parse(text)
    if _depth(tree) > MAX_DEPTH:
        raise PredicateError(f"nested more than {MAX_DEPTH} deep: split it into several rules")
    evaluate = _Compiler(specs).logic(tree)
    names = dict.fromkeys(column.name for column in tree.find_all(exp.Column, bfs=False))
    return Predicate(text.strip(), tuple(names), evaluate, _portable(tree.copy()))


def _parse(text: str) -> exp.Expr:
    try:
        trees = sqlglot.parse(text, read=_DIALECT)
    except SqlglotError as error:
        raise PredicateError(_syntax_error(error)) from error
    except RecursionError as error:
        raise PredicateError("nested too deep: split it into several rules") from error
    if len(trees) != 1 or trees[0] is None:
        raise PredicateError("expected one condition, such as total_amount > 100")
    tree = trees[0]
    if any(node.error_messages() for node in tree.walk()):  # the parser lets a lone @ pass
        raise PredicateError("not SQL: an operand is missing")
    return tree


def _syntax_error(error: SqlglotError) -> str:
    details = error.errors[0] if isinstance(error, ParseError) and error.errors else {}
    if not details:
        return f"not SQL: {str(error).splitlines()[0]}"
    what = re.sub(
        r"Required keyword: '\w+' missing for <class '[\w.]*\.(\w+)'>",
        r"something is missing in a \1",
        details["description"],
    )
    return f"not SQL at line {details['line']}, column {details['col']}: {what}"


def _depth(tree: exp.Expr) -> int:
    """Nesting of the tree; a chain of ANDs or ORs counts once."""
    deepest, todo = 0, [(tree, 1)]
    while todo:
        node, depth = todo.pop()
        deepest = max(deepest, depth)
        for child in node.iter_expressions():
            chain = isinstance(node, exp.And | exp.Or) and type(child) is type(node)
            todo.append((child, depth if chain else depth + 1))
    return deepest


class _Compiler:
    """Turns a tree into nested closures, checking kinds on the way."""

    def __init__(self, specs: Mapping[str, ColumnSpec]) -> None:
        self._specs = specs

    def logic(self, node: exp.Expr) -> Logic:
        """A condition."""
        match node:
            case exp.Paren():
                return self.logic(node.this)
            case exp.And() | exp.Or():
                parts = [self.logic(part) for part in node.flatten()]
                return _all(parts) if isinstance(node, exp.And) else _any(parts)
            case exp.Not():
                return _not(self.logic(node.this))
            case exp.Is() if isinstance(node.expression, exp.Null):
                return _is_null(self.value(node.this)[0])
            case exp.Between() if not node.args.get("symmetric"):
                low = self._comparison(exp.GTE, node.this, node.args["low"], node)
                high = self._comparison(exp.LTE, node.this, node.args["high"], node)
                return _all([low, high])
            case exp.In() if node.expressions and not node.args.get("query"):
                return self._membership(node)
            case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
                return self._comparison(type(node), node.this, node.expression, node)
        if isinstance(node, _CONDITIONS):
            raise _outside(node)
        value, kind = self.value(node)
        if kind is not Kind.BOOLEAN:
            raise PredicateError(f"{_show(node)} is a {kind}, not a condition: compare it")
        return _truth(value)

    def value(self, node: exp.Expr) -> tuple[Value, Kind]:
        """A value and its kind."""
        match node:
            case exp.Paren():
                return self.value(node.this)
            case exp.Column():
                return self._column(node)
            case exp.Boolean():
                return _constant(bool(node.this)), Kind.BOOLEAN
            case exp.Literal():
                literal = _literal(node)
                return _constant(literal), Kind.TEXT if node.is_string else Kind.NUMBER
            case exp.Add() | exp.Sub() | exp.Mul() | exp.Div():
                left, right = self._number(node.this, node), self._number(node.expression, node)
                return _arithmetic(type(node), left, right), Kind.NUMBER
            case exp.Neg() | exp.Abs():
                operate = np.negative if isinstance(node, exp.Neg) else np.abs
                return _unary(operate, self._number(node.this, node)), Kind.NUMBER
            case exp.Coalesce():
                return self._coalesce(node)
            case exp.Null():
                raise PredicateError("NULL stands alone: ask with IS NULL or IS NOT NULL")
        if isinstance(node, _CONDITIONS):
            raise PredicateError(f"{_show(node)} is a condition where a value is expected")
        raise _outside(node)

    def _column(self, node: exp.Column) -> tuple[Value, Kind]:
        if len(node.parts) > 1:
            raise PredicateError(f"{_show(node)}: columns have no table, write {node.name}")
        name = node.name
        spec = self._specs.get(name)
        if spec is None:
            raise PredicateError(unknown_column(name, self._specs))
        return (lambda columns: columns[name]), spec.kind

    def _number(self, node: exp.Expr, whole: exp.Expr) -> Value:
        value, kind = self.value(node)
        if kind is not Kind.NUMBER:
            raise PredicateError(f"{_show(whole)}: {_show(node)} is a {kind}, not a number")
        return _as_float(value)

    def _alike(self, nodes: list[exp.Expr], whole: exp.Expr) -> tuple[list[Value], Kind]:
        """Values that must be of one kind."""
        values, kinds = zip(*(self.value(node) for node in nodes), strict=True)
        for node, kind in zip(nodes, kinds, strict=True):
            if kind is not kinds[0]:
                raise PredicateError(
                    f"{_show(whole)}: {_show(nodes[0])} is a {kinds[0]}, {_show(node)} a {kind}; "
                    "both sides must be of one kind"
                )
        return list(values), kinds[0]

    def _comparison(
        self,
        operator: type[exp.Expr],
        left: exp.Expr,
        right: exp.Expr,
        whole: exp.Expr,
    ) -> Logic:
        (a, b), kind = self._alike([left, right], whole)
        if kind is Kind.BOOLEAN and operator not in (exp.EQ, exp.NEQ):
            raise PredicateError(f"{_show(whole)}: booleans have no order, use = or <>")
        return _compare(_COMPARISONS[operator], a, b, kind)

    def _membership(self, node: exp.In) -> Logic:
        for entry in node.expressions:
            inner = entry.this if isinstance(entry, exp.Neg) else entry
            if not isinstance(inner, exp.Literal | exp.Boolean):
                raise PredicateError(f"{_show(node)}: IN takes literals, not {_show(entry)}")
        return _any([self._comparison(exp.EQ, node.this, e, node) for e in node.expressions])

    def _coalesce(self, node: exp.Coalesce) -> tuple[Value, Kind]:
        values, kind = self._alike([node.this, *node.expressions], node)
        return _first_valid(values), kind


_COMPARISONS: dict[type[exp.Expr], Callable[..., Any]] = {
    exp.EQ: np.equal,
    exp.NEQ: np.not_equal,
    exp.LT: np.less,
    exp.LTE: np.less_equal,
    exp.GT: np.greater,
    exp.GTE: np.greater_equal,
}
_CONDITIONS: tuple[type[exp.Expr], ...] = (
    *(exp.And, exp.Or, exp.Not, exp.Is, exp.Between, exp.In),
    *_COMPARISONS,
)
_ARITHMETIC: dict[type[exp.Expr], Callable[..., Any]] = {
    exp.Add: np.add,
    exp.Sub: np.subtract,
    exp.Mul: np.multiply,
    exp.Div: np.divide,
}


def unknown_column(name: str, specs: Mapping[str, ColumnSpec]) -> str:
    """What to say about a column that does not exist."""
    near = difflib.get_close_matches(name, specs, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(specs))}"
    return f"unknown column {name}: {hint}"


def _outside(node: exp.Expr) -> PredicateError:
    return PredicateError(
        f"{_show(node)} ({node.key.upper()}) is outside the subset of SQL that rules may use: "
        "comparisons, AND, OR, NOT, BETWEEN, IN (literals), IS NULL, arithmetic, COALESCE, ABS"
    )


def _show(node: exp.Expr) -> str:
    text = node.sql(dialect=_DIALECT)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _literal(node: exp.Literal) -> str | float:
    if node.is_string:
        return str(node.this)
    try:
        number = float(node.this)
    except ValueError:
        raise PredicateError(f"{node.this} is no number") from None
    if not math.isfinite(number):
        raise PredicateError(f"{node.this} is too large for a number in double precision")
    return number


def _all(parts: list[Logic]) -> Logic:
    return _combined(parts, np.logical_and, np.logical_or)


def _any(parts: list[Logic]) -> Logic:
    return _combined(parts, np.logical_or, np.logical_and)


def _combined(parts: list[Logic], if_true: np.ufunc, if_false: np.ufunc) -> Logic:
    def evaluate(columns: Columns, wanted: bool) -> Rows:
        combine = if_true if wanted else if_false
        rows = parts[0](columns, wanted)
        for part in parts[1:]:
            rows = combine(rows, part(columns, wanted))
        return rows

    return evaluate


def _not(part: Logic) -> Logic:
    return lambda columns, wanted: part(columns, not wanted)


def _truth(value: Value) -> Logic:
    def evaluate(columns: Columns, wanted: bool) -> Rows:
        column = value(columns)
        return (column.values if wanted else ~column.values) & column.valid

    return evaluate


def _is_null(value: Value) -> Logic:
    def evaluate(columns: Columns, wanted: bool) -> Rows:
        valid = value(columns).valid
        return ~valid if wanted else valid

    return evaluate


def _compare(operate: Callable[..., Any], left: Value, right: Value, kind: Kind) -> Logic:
    ordered_text = kind is Kind.TEXT and operate not in (np.equal, np.not_equal)

    def evaluate(columns: Columns, wanted: bool) -> Rows:
        a, b = left(columns), right(columns)
        x, y = a.values, b.values
        if ordered_text:  # None has no order
            x, y = np.where(a.valid, x, ""), np.where(b.valid, y, "")
        answer: Rows = operate(x, y).astype(np.bool_, copy=False)
        return (answer if wanted else ~answer) & a.valid & b.valid

    return evaluate


def _constant(value: Scalar) -> Value:
    column = Column(
        np.array(value, dtype=object if isinstance(value, str) else None), np.array(True)
    )
    return lambda columns: column


def _as_float(value: Value) -> Value:
    def evaluate(columns: Columns) -> Column:
        column = value(columns)
        return Column(column.values.astype(np.float64, copy=False), column.valid)

    return evaluate


def _arithmetic(operator: type[exp.Expr], left: Value, right: Value) -> Value:
    operate = _ARITHMETIC[operator]

    def evaluate(columns: Columns) -> Column:
        a, b = left(columns), right(columns)
        result = operate(a.values, b.values)
        return Column(result, a.valid & b.valid & np.isfinite(result))

    return evaluate


def _unary(operate: Callable[..., Any], value: Value) -> Value:
    def evaluate(columns: Columns) -> Column:
        column = value(columns)
        return Column(operate(column.values), column.valid)

    return evaluate


def _first_valid(parts: list[Value]) -> Value:
    def evaluate(columns: Columns) -> Column:
        first = parts[0](columns)
        values, valid = first.values, first.valid
        for part in parts[1:]:
            other = part(columns)
            values = np.where(valid, values, other.values)
            valid = valid | other.valid
        return Column(values, valid)

    return evaluate


def _portable(tree: exp.Expr) -> exp.Expr:
    """The tree for any SQL: arithmetic in double precision, NULL when dividing by zero."""
    for node in reversed(list(tree.walk())):  # the innermost first: none is replaced unseen
        if (other := _in_double_precision(node)) is not node:
            node.replace(other)
    return tree


def _in_double_precision(node: exp.Expr) -> exp.Expr:
    parent = node.parent
    while isinstance(parent, exp.Paren):
        parent = parent.parent
    inside = isinstance(parent, _CALCULATIONS)
    if isinstance(node, exp.Literal) and not node.is_string:
        number = float(node.this)
        if inside or number != int(number) or abs(number) >= 2**53:
            text = repr(number)
            return exp.Literal.number(text if "e" in text else f"{text}e0")
    elif isinstance(node, exp.Column | exp.Coalesce) and inside:
        return exp.cast(node.copy(), exp.DataType.Type.DOUBLE)
    elif isinstance(node, exp.Div):
        node.set("expression", exp.func("NULLIF", node.expression, exp.Literal.number(0)))
    return node


def _without_infinities(tree: exp.Expr, dialect: str) -> exp.Expr:
    """NULL where a result is too large: DuckDB gives infinity there, BigQuery an error."""
    for node in reversed(list(tree.find_all(*_ARITHMETIC))):  # the innermost first
        if dialect == "bigquery":
            node.replace(exp.func(_SAFE[type(node)], node.this.copy(), node.expression.copy()))
        else:
            node.replace(_null_at(_null_at(node.copy(), "inf"), "-inf"))
    return tree


def _null_at(node: exp.Expr, infinity: str) -> exp.Expr:
    value = exp.cast(exp.Literal.string(infinity), exp.DataType.Type.DOUBLE)
    return exp.func("NULLIF", node, value)


_SAFE: dict[type[exp.Expr], str] = {
    exp.Add: "SAFE_ADD",
    exp.Sub: "SAFE_SUBTRACT",
    exp.Mul: "SAFE_MULTIPLY",
    exp.Div: "SAFE_DIVIDE",
}
_CALCULATIONS: tuple[type[exp.Expr], ...] = (*_ARITHMETIC, exp.Neg, exp.Abs)
