"""Laws of the compiler: three-valued logic, partition by a predicate, folding, cutting.

The reference here walks the tree and knows nothing of the compiler: NULL is None, and each node is
what the SQL standard says of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from murmur.catalog.types import BOOLEAN, DOUBLE, INTEGER, TEXT
from murmur.errors import DatabaseError
from murmur.sql import compile as compiler
from murmur.sql.compile import (
    compile_expression,
    compile_pipeline,
    compile_predicate,
    compile_projection,
)
from murmur.sql.expressions import (
    And,
    Arithmetic,
    Between,
    Case,
    Coalesce,
    Column,
    Compare,
    Context,
    Expr,
    Extreme,
    In,
    IsDistinct,
    IsNull,
    IsTruth,
    Like,
    Literal,
    Not,
    NullIf,
    Or,
    Parameter,
    columns_of,
    parameters_of,
    transform,
)
from murmur.sql.folding import fold

TRUTH = (True, False, None)


# A reference --------------------------------------------------------------------------------------


def reference(expr: Expr, row: Sequence[Any], parameters: Sequence[Any] = ()) -> Any:
    def value(operand: Expr) -> Any:
        return reference(operand, row, parameters)

    match expr:
        case Literal(constant, _):
            return constant
        case Parameter(index, _):
            return parameters[index]
        case Column(index):
            return row[index]
        case Not(operand):
            return negation(value(operand))
        case And(operands):
            return conjunction([value(o) for o in operands])
        case Or(operands):
            return negation(conjunction([negation(value(o)) for o in operands]))
        case IsNull(operand, negated):
            return (value(operand) is None) != negated
        case IsTruth(operand, truth, negated):
            return (value(operand) is truth) != negated
        case IsDistinct(left, right, negated):
            equal = compared("=", value(left), value(right))
            if equal is None:
                equal = value(left) is None and value(right) is None
            return equal if negated else not equal
        case Compare(op, left, right):
            return compared(op, value(left), value(right))
        case Between(operand, low, high, negated):
            inside = conjunction(
                [compared(">=", value(operand), value(low)),
                 compared("<=", value(operand), value(high))]
            )  # fmt: skip
            return negation(inside) if negated else inside
        case In(operand, items, negated):
            equals = [compared("=", value(operand), value(item)) for item in items]
            found = negation(conjunction([negation(equal) for equal in equals]))
            return negation(found) if negated else found
        case Case(branches, otherwise):
            for condition, result in branches:
                if value(condition) is True:
                    return value(result)
            return None if otherwise is None else value(otherwise)
        case Coalesce(operands):
            return next((v for v in map(value, operands) if v is not None), None)
        case NullIf(left, right):
            return None if compared("=", value(left), value(right)) is True else value(left)
        case Extreme(greatest, operands):
            known = [v for v in map(value, operands) if v is not None]
            if not known:
                return None
            return max(known, key=order) if greatest else min(known, key=order)
        case Arithmetic(op, left, right):
            one, two = value(left), value(right)
            if one is None or two is None:
                return None
            return {"+": one + two, "-": one - two, "*": one * two}[op]
    raise AssertionError(expr)


def negation(truth: Any) -> Any:
    return None if truth is None else not truth


def conjunction(truths: Sequence[Any]) -> Any:
    if False in truths:
        return False
    return None if None in truths else True


def order(value: Any) -> tuple[bool, Any]:
    """NaN equals itself and is above all."""
    nan = value != value
    return (nan, 0 if nan else value)


def compared(op: str, left: Any, right: Any) -> Any:
    if left is None or right is None:
        return None
    one, two = order(left), order(right)
    return {
        "=": one == two,
        "<>": one != two,
        "<": one < two,
        "<=": one <= two,
        ">": one > two,
        ">=": one >= two,
    }[op]


# Random trees: a row is two of INTEGER, BOOLEAN and DOUBLE each, and an INTEGER NOT NULL ----------

NAN = float("nan")
small = st.one_of(st.none(), st.integers(-3, 3))
truths = st.sampled_from(TRUTH)
# A NaN of its own each time: Python's containers look at identity first.
reals = st.one_of(
    st.sampled_from([None, -1.0, 0.0, -0.0, 2.5, float("inf")]), st.builds(float, st.just("nan"))
)
rows = st.tuples(small, small, truths, truths, reals, reals, st.integers(-3, 3))
PARAMETERS = (1, True, 2.5, None)


def leaves(sql_type: Any, columns: tuple[int, int], values: Any, parameter: int) -> Any:
    return st.one_of(
        st.builds(Literal, values, st.just(sql_type)),
        st.sampled_from([Column(n, f"c{n}", sql_type) for n in columns]),
        st.just(Parameter(parameter, sql_type)),
        st.just(Parameter(3, sql_type)),
    )


def choices(kind: Any, conditions: Any, sql_type: Any) -> Any:
    """The nodes that yield one of their operands."""
    pairs = st.tuples(conditions, kind)
    return st.one_of(
        st.builds(
            Case,
            st.lists(pairs, min_size=1, max_size=3).map(tuple),
            st.one_of(st.none(), kind),
            st.just(sql_type),
        ),
        st.builds(Coalesce, st.lists(kind, min_size=2, max_size=3).map(tuple), st.just(sql_type)),
        st.builds(NullIf, kind, kind, st.just(sql_type)),
        st.builds(
            Extreme,
            st.booleans(),
            st.lists(kind, min_size=1, max_size=3).map(tuple),
            st.just(sql_type),
        ),
    )


def comparisons(kind: Any) -> Any:
    return st.one_of(
        st.builds(Compare, st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), kind, kind),
        st.builds(Between, kind, kind, kind, st.booleans()),
        st.builds(In, kind, st.lists(kind, min_size=1, max_size=4).map(tuple), st.booleans()),
        st.builds(IsDistinct, kind, kind, st.booleans()),
        st.builds(IsNull, kind, st.booleans()),
    )


integer_leaves = st.one_of(
    leaves(INTEGER, (0, 1), small, 0), st.just(Column(6, "c6", INTEGER, nullable=False))
)
boolean_leaves = leaves(BOOLEAN, (2, 3), truths, 1)
real_leaves = leaves(DOUBLE, (4, 5), reals, 2)
integers = st.deferred(
    lambda: st.one_of(
        integer_leaves,
        st.builds(
            Arithmetic,
            st.sampled_from(["+", "-", "*"]),
            integer_leaves,
            integer_leaves,
            st.just(INTEGER),
        ),
        choices(integer_leaves, conditions, INTEGER),
    )
)
doubles = st.one_of(real_leaves, choices(real_leaves, boolean_leaves, DOUBLE))
conditions: Any = st.recursive(
    st.one_of(
        boolean_leaves,
        comparisons(integer_leaves),
        comparisons(doubles),
        comparisons(boolean_leaves),
    ),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=4).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=4).map(tuple)),
        st.builds(IsTruth, inner, st.booleans(), st.booleans()),
        comparisons(inner),
        choices(inner, inner, BOOLEAN),
    ),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and (left == right or (left != left and right != right))


@given(conditions, st.lists(rows, min_size=1, max_size=5))
def test_compiled_conditions_are_what_the_standard_says(
    expr: Expr, table: list[tuple[Any, ...]]
) -> None:
    value, predicate = compile_expression(expr), compile_predicate(expr)
    refuted = compile_predicate(Not(expr))
    context = Context(PARAMETERS)
    for row in table:
        expected = reference(expr, row, PARAMETERS)
        assert value(row, context) is expected
        assert (predicate(row, context) is True) is (expected is True)
        assert (refuted(row, context) is True) is (expected is False)


@given(st.one_of(integers, doubles), rows)
def test_compiled_values_are_what_the_standard_says(expr: Expr, row: tuple[Any, ...]) -> None:
    actual = compile_expression(expr)(row, Context(PARAMETERS))
    assert same(actual, reference(expr, row, PARAMETERS))


@given(conditions, st.lists(rows, max_size=20))
def test_a_predicate_its_negation_and_its_unknown_part_partition_the_rows(
    expr: Expr, table: list[tuple[Any, ...]]
) -> None:
    """Ternary logic partitioning, as a database tester would ask for it."""
    context = Context(PARAMETERS)
    parts = [
        list(compile_pipeline(predicate, None)(table, context))
        for predicate in (expr, Not(expr), IsNull(expr))
    ]
    assert sorted(itertools.chain(*parts), key=repr) == sorted(table, key=repr)


@given(conditions, rows)
def test_folding_changes_no_value(expr: Expr, row: tuple[Any, ...]) -> None:
    context = Context(PARAMETERS)
    folded = fold(expr)
    assert same(compile_expression(folded)(row, context), compile_expression(expr)(row, context))
    assert fold(folded) == folded
    assert columns_of(folded) <= columns_of(expr)
    assert parameters_of(folded) <= parameters_of(expr)


@given(conditions)
def test_constants_fold_to_a_literal(expr: Expr) -> None:
    row = (1, None, True, None, NAN, 0.0, 2)
    constant = transform(expr, lambda node: _inserted(node, row))
    folded = fold(constant)
    assert isinstance(folded, Literal)
    assert folded.value is reference(expr, row, PARAMETERS)


def _inserted(node: Expr, row: tuple[Any, ...]) -> Expr:
    match node:
        case Column(index, _, sql_type):
            return Literal(row[index], sql_type)
        case Parameter(index, sql_type):
            return Literal(PARAMETERS[index], sql_type)
    return node


@given(conditions, rows)
@settings(max_examples=50)
def test_cutting_a_tree_into_functions_changes_no_value(expr: Expr, row: tuple[Any, ...]) -> None:
    context = Context(PARAMETERS)
    whole = compile_expression(expr)(row, context)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "SPILL", 2)
        patch.setattr(compiler, "_BRANCHES", 1)
        assert compile_expression(expr)(row, context) is whole
        assert (compile_predicate(expr)(row, context) is True) is (whole is True)


@given(conditions, st.lists(st.one_of(integers, doubles), max_size=3), st.lists(rows, max_size=9))
def test_a_pipeline_filters_and_projects(
    predicate: Expr, outputs: list[Expr], table: list[tuple[Any, ...]]
) -> None:
    context = Context(PARAMETERS)
    holds, project = compile_predicate(predicate), compile_projection(outputs)
    one_by_one = [project(row, context) for row in table if holds(row, context)]
    assert repr(list(compile_pipeline(predicate, outputs)(table, context))) == repr(one_by_one)
    everything = list(compile_pipeline(None, outputs)(table, context))
    assert repr(everything) == repr([project(row, context) for row in table])


@pytest.mark.parametrize("left", TRUTH)
@pytest.mark.parametrize("right", TRUTH)
def test_truth_tables(left: bool | None, right: bool | None) -> None:
    """SQL:2016, 6.39, tables 11 to 13."""
    row = (left, right)
    a, b = Column(0, "a", BOOLEAN), Column(1, "b", BOOLEAN)

    def value(expr: Expr) -> Any:
        return compile_expression(expr)(row, Context())

    either = {frozenset({True}): True, frozenset({True, False}): True}
    assert value(Not(a)) is {True: False, False: True, None: None}[left]
    if left is True or right is True:
        assert value(Or((a, b))) is True
    elif left is None or right is None:
        assert value(Or((a, b))) is None
    else:
        assert value(Or((a, b))) is either.get(frozenset(row), False)
    if left is False or right is False:
        assert value(And((a, b))) is False
    elif left is None or right is None:
        assert value(And((a, b))) is None
    else:
        assert value(And((a, b))) is True
    assert value(IsTruth(a, truth=True)) is (left is True)
    assert value(IsTruth(a, truth=False)) is (left is False)
    assert value(IsNull(a)) is (left is None)


# LIKE against a plain walk of pattern and text ----------------------------------------------------


def like(text: str, pattern: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(like(text[n:], pattern[1:]) for n in range(len(text) + 1))
    if pattern[0] == "\\":
        return text[:1] == pattern[1] and like(text[1:], pattern[2:])
    return bool(text) and pattern[0] in ("_", text[0]) and like(text[1:], pattern[1:])


patterns = st.lists(st.sampled_from(["a", "b", "%", "_", "\\%", "\\\\", "."]), max_size=6)


@given(st.text("ab%\\.\n", max_size=8), patterns.map("".join))
@settings(max_examples=500)
def test_like_is_what_it_says(text: str, pattern: str) -> None:
    expected = like(text, pattern)
    row = (text, pattern)
    for wanted in (Literal(pattern, TEXT), Column(1, "p", TEXT)):
        expr = Like(Column(0, "t", TEXT), wanted)
        assert compile_expression(expr)(row, Context()) is expected
        assert compile_predicate(Not(expr))(row, Context()) is not expected


# Folding and errors -------------------------------------------------------------------------------

FAILS = Arithmetic("/", Literal(1, INTEGER), Literal(0, INTEGER), INTEGER)
A = Column(0, "a", INTEGER)


def test_a_constant_that_fails_stays() -> None:
    assert fold(FAILS) == FAILS
    guarded = Case(((Compare("=", A, Literal(0, INTEGER)), FAILS),), Literal(5, INTEGER), INTEGER)
    assert fold(guarded) == guarded
    assert compile_expression(guarded)((1,), Context()) == 5
    with pytest.raises(DatabaseError, match="division by zero"):
        compile_expression(guarded)((0,), Context())


def test_chains_lose_what_decides_nothing() -> None:
    condition = Compare("<", A, Literal(5, INTEGER))
    true, false, null = (Literal(value, BOOLEAN) for value in TRUTH)
    assert fold(And((true, condition))) == condition
    assert fold(And((condition, false))) == false
    assert fold(Or((condition, true))) == true
    assert fold(Or((false, condition, null))) == Or((condition, null))
    assert fold(And((true, true))) == true
    assert fold(And((null, null))) == null
    assert fold(And((null, true))) == null


def test_folding_keeps_the_digits_of_decimals() -> None:
    from murmur.catalog.types import DECIMAL

    one, two = Literal(Decimal("1.0"), DECIMAL), Literal(Decimal("1.00"), DECIMAL)
    assert one == two  # equal, but not alike
    assert str(fold(Arithmetic("+", one, one, DECIMAL)).value) == "2.0"  # type: ignore[attr-defined]
    assert str(fold(Arithmetic("+", two, two, DECIMAL)).value) == "2.00"  # type: ignore[attr-defined]
