"""Binding: which types and names go together, where errors point, what is left to DuckDB."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from murmur.catalog.types import (
    BIGINT,
    BOOLEAN,
    COUNTER,
    DATE,
    DECIMAL,
    DOUBLE,
    INTEGER,
    INTERVAL,
    JSON,
    REAL,
    SMALLINT,
    TEXT,
    TIMESTAMP,
    UUID,
    SqlType,
    parse_type,
)
from murmur.errors import BindError, DatabaseError, DataError, TypeMismatch, Unsupported
from murmur.sql.binder_expressions import (
    bind_assignment,
    bind_condition,
    bind_expression,
    bind_type,
    check_parameters,
)
from murmur.sql.expressions import (
    And,
    Arithmetic,
    Between,
    Cast,
    Column,
    Compare,
    Expr,
    In,
    IsNull,
    Like,
    Literal,
    NeedsColumnar,
    Not,
    Or,
    Parameter,
    columns_of,
    parameters_of,
)
from murmur.sql.parser import parse
from murmur.sql.place import place
from tests.sql.expression_harness import TableScope, bind

COLUMN_I, COLUMN_B = Column(1, "i", INTEGER), Column(2, "b", BIGINT)


def tree(sql: str) -> Any:
    return parse(f"SELECT {sql}").tree.expressions[0]


def assign(sql: str, target: SqlType | str) -> Expr:
    scope = TableScope(f"SELECT {sql}")
    target = parse_type(target) if isinstance(target, str) else target
    return bind_assignment(tree(sql), scope, target, name="col")


# What is bound ------------------------------------------------------------------------------------


def test_the_shapes_that_the_planner_looks_for() -> None:
    """A column compared with a constant has no cast in its way."""
    n = Column(5, "n", parse_type("DECIMAL(10,2)"))
    dt, u = Column(10, "dt", DATE), Column(15, "u", UUID)
    assert bind("i = 1") == Compare("=", COLUMN_I, Literal(1, INTEGER))
    assert bind("i = '1'") == Compare("=", COLUMN_I, Literal(1, INTEGER))
    assert bind("b > 1") == Compare(">", COLUMN_B, Literal(1, INTEGER))
    assert bind("i < 5000000000") == Compare("<", COLUMN_I, Literal(5_000_000_000, BIGINT))
    assert bind("i = ?") == Compare("=", COLUMN_I, Parameter(0, BIGINT))
    assert bind("n = 10") == Compare("=", n, Literal(Decimal(10), DECIMAL))
    assert bind("dt >= '2024-01-31'") == Compare(">=", dt, Literal(date(2024, 1, 31), DATE))
    assert bind("u = ?") == Compare("=", u, Parameter(0, UUID))
    assert bind("tab.i = 1 + 1") == Compare("=", COLUMN_I, Literal(2, INTEGER))
    assert bind("i NOT IN (1, 2)") == In(
        COLUMN_I, (Literal(1, INTEGER), Literal(2, INTEGER)), negated=True
    )
    assert bind("NOT i BETWEEN 1 AND ?") == Between(
        COLUMN_I, Literal(1, INTEGER), Parameter(0, BIGINT), negated=True
    )
    assert bind("i IS NOT NULL") == IsNull(COLUMN_I, negated=True)
    assert bind("NOT (i = 1)") == Not(Compare("=", COLUMN_I, Literal(1, INTEGER)))


def test_a_column_that_is_narrower_is_cast() -> None:
    assert bind("i < 1.5") == Compare(
        "<", Cast(COLUMN_I, DECIMAL), Literal(Decimal("1.5"), DECIMAL)
    )
    assert bind("dt < ts") == Compare(
        "<", Cast(Column(10, "dt", DATE), TIMESTAMP), Column(12, "ts", TIMESTAMP)
    )


def test_chains_are_flat() -> None:
    one, two, three = (Compare("=", COLUMN_I, Literal(n, INTEGER)) for n in (1, 2, 3))
    assert bind("i = 1 AND (i = 2 AND i = 3)") == And((one, two, three))
    assert bind("i = 1 OR i = 2 OR i = 3") == Or((one, two, three))
    assert bind("(i, b) <= (1, 2)") == Or(
        (
            Compare("<", COLUMN_I, Literal(1, INTEGER)),
            And(
                (
                    Compare("=", COLUMN_I, Literal(1, INTEGER)),
                    Compare("<=", COLUMN_B, Literal(2, INTEGER)),
                )
            ),
        )
    )


def test_a_counter_reads_as_bigint() -> None:
    assert bind("c").type == BIGINT
    assert bind("c + 1").type == BIGINT


def test_names() -> None:
    assert bind("I") == bind('"i"') == bind("TAB.i") == COLUMN_I
    assert columns_of(bind("i + b > n")) == {1, 2, 5}
    assert parameters_of(bind("i + ? > ? OR t = ?")) == {0, 1, 2}


def test_what_is_expected_types_what_has_no_type() -> None:
    scope = TableScope("SELECT ?")
    assert bind_expression(tree("'5'"), scope, expected=INTEGER) == Literal(5, INTEGER)
    assert bind_expression(tree("NULL"), scope, expected=DATE) == Literal(None, DATE)
    assert bind_expression(tree("?"), scope, expected=DATE) == Parameter(0, DATE)
    assert scope.types == {0: DATE}
    assert bind_expression(tree("1.5"), scope, expected=INTEGER).type == DECIMAL
    assert bind("'x'") == Literal("x", TEXT)
    assert bind("NULL") == Literal(None, None)
    assert bind("?") == Parameter(0, None)


@pytest.mark.parametrize(
    ("sql", "types"),
    [
        ("s = ?", [BIGINT]),
        ("r = ?", [REAL]),
        ("n + ? > 0", [DECIMAL]),
        ("v = ?", [TEXT]),
        ("? = i + ?", [BIGINT, BIGINT]),
        ("t LIKE ?", [TEXT]),
        ("? AND f", [BOOLEAN]),
        ("CASE WHEN i = 1 THEN ? ELSE dt END", [DATE]),
        ("COALESCE(?, ts)", [TIMESTAMP]),
        ("lower(?)", [TEXT]),
        ("left(?, ?)", [TEXT, BIGINT]),
        ("abs(?)", [DOUBLE]),
        ("ts + ?", [INTERVAL]),
        ("? || i", [TEXT]),
        ("i IN (?, ?)", [BIGINT, BIGINT]),
        ("? = 'x'", [TEXT]),
        ("j -> ?", [TEXT]),
        ("EXTRACT(year FROM ?)", [TIMESTAMP]),
        ("i IS DISTINCT FROM ?", [BIGINT]),
        ("NULLIF(?, dt)", [DATE]),
        ("GREATEST(?, d)", [DOUBLE]),
        # Nothing is known of these before there is a value.
        ("? = ?", [None, None]),
        ("dt - ?", [None]),
        ("CAST(? AS DATE)", [None]),
        ("? IS NULL", [None]),
    ],
)
def test_parameter_types(sql: str, types: list[SqlType | None]) -> None:
    scope = TableScope("")
    bind(sql, scope=scope)
    assert [scope.types.get(n) for n in range(len(types))] == types


def test_a_parameter_keeps_its_first_type() -> None:
    scope = TableScope("")
    expr = bind("i = $1 AND d = $1", scope=scope)
    assert scope.types == {0: BIGINT}
    second = expr.operands[1]  # type: ignore[attr-defined]
    assert second.right == Cast(Parameter(0, BIGINT), DOUBLE)
    with pytest.raises(TypeMismatch, match="= does not compare TEXT with BIGINT"):
        bind("i = $1 AND t = $1")


@pytest.mark.parametrize(
    ("sql", "sql_type"),
    [
        ("s + s", SMALLINT),
        ("s + i", INTEGER),
        ("i + b", BIGINT),
        ("b + n", DECIMAL),
        ("n + d", DOUBLE),
        ("r + r", REAL),
        ("r + i", DOUBLE),
        ("r + n", DOUBLE),
        ("1", INTEGER),
        ("3000000000", BIGINT),
        ("99999999999999999999", DECIMAL),
        ("1e3", DECIMAL),
        ("'a'", TEXT),
        ("v", parse_type("VARCHAR(5)")),
        ("v || v", TEXT),
        ("n", parse_type("DECIMAL(10,2)")),
        ("COALESCE(n, n)", parse_type("DECIMAL(10,2)")),
        ("COALESCE(n, 1)", DECIMAL),
        ("CASE WHEN f THEN v ELSE t END", TEXT),
        ("CASE WHEN f THEN r ELSE i END", REAL),
        ("NULL::json", JSON),
        ("j -> 'a'", JSON),
        ("j ->> 'a'", TEXT),
        ("dt - dt", INTEGER),
        ("i = 1", BOOLEAN),
        ("2 ^ 3", DOUBLE),
    ],
)
def test_result_types(sql: str, sql_type: SqlType) -> None:
    assert bind(sql).type == sql_type


# Errors and their places --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "error", "message", "at"),
    [
        ("t = 1", TypeMismatch, "= does not compare TEXT with INTEGER", "1"),
        ("i = t", TypeMismatch, "= does not compare INTEGER with TEXT", "t"),
        ("i = 'x'", TypeMismatch, '"x" is not a valid INTEGER', "'x'"),
        ("dt = '2024-02-30'", TypeMismatch, '"2024-02-30" is not a valid DATE', "'2024-02-30'"),
        ("i IN (1, 'x')", TypeMismatch, '"x" is not a valid INTEGER', "'x'"),
        ("i + t", TypeMismatch, "no operator INTEGER [+] TEXT", "i + t"),
        ("d % 2", TypeMismatch, "no operator DOUBLE % INTEGER", "d % 2"),
        ("ts + ts", TypeMismatch, "no operator TIMESTAMP [+] TIMESTAMP", "ts + ts"),
        ("dt + 'x'", TypeMismatch, "write INTERVAL or a number", "dt"),
        ("- t", TypeMismatch, "no operator - TEXT", "t"),
        ("i || b", TypeMismatch, "no operator INTEGER || BIGINT", "i || b"),
        ("x || t", TypeMismatch, "blobs with blobs", "x || t"),
        ("NOT i", TypeMismatch, "NOT takes a BOOLEAN, not INTEGER", "i"),
        ("f AND i", TypeMismatch, "AND takes a BOOLEAN, not INTEGER", "i"),
        ("CASE WHEN i THEN 1 END", TypeMismatch, "WHEN takes a BOOLEAN", "i THEN"),
        ("CASE WHEN f THEN 1 ELSE t END", TypeMismatch, "INTEGER and TEXT have no type", "1 "),
        ("COALESCE(i, dt)", TypeMismatch, "INTEGER and DATE have no type in common", "dt"),
        ("i LIKE 'a'", TypeMismatch, "LIKE takes text, not INTEGER", "i LIKE"),
        ("t LIKE 1", TypeMismatch, "LIKE takes text, not INTEGER", "1"),
        ("i IS TRUE", TypeMismatch, "IS TRUE takes a BOOLEAN", "i IS"),
        ("j = j", TypeMismatch, "does not compare JSON", "j"),
        ("lower(i)", TypeMismatch, r"no function lower\(INTEGER\)", "lower"),
        ("i::date", TypeMismatch, "cannot cast INTEGER to DATE", "i::"),
        ("CAST(i AS nosuch)", BindError, "unknown type NOSUCH", "i AS"),
        ("CAST(i AS money)", Unsupported, "use DECIMAL", "i AS"),
        ("nope", BindError, "there is no column nope", "nope"),
        ("i + other.i", BindError, "there is no column other.i", "other"),
        ('"text"', BindError, "text is written in single quotes", '"text"'),
        ("a.b.i", BindError, 'there is no schema "a"', "a.b"),
        ("(i, b) = (1, 2, 3)", TypeMismatch, "rows of the same length", "i, b"),
        ("EXTRACT(hour FROM dt)", TypeMismatch, "DATE has no field hour", "dt"),
        ("date_trunc('eon', ts)", TypeMismatch, "does not know the unit eon", "date_trunc"),
        ("date_trunc('day', i)", TypeMismatch, "takes a TIMESTAMP", "date_trunc"),
        ("INTERVAL '1 fortnight'", TypeMismatch, "not a valid INTERVAL", ""),
        ("'a' + 'b'", TypeMismatch, "text does not go with", "'a'"),
        ("x'abc'", DataError, "two hexadecimal digits", "x'abc'"),
        (f"1e{'9' * 30}", TypeMismatch, "DECIMAL out of range", "1e"),
    ],
)
def test_errors_point_at_their_place(
    sql: str, error: type[DatabaseError], message: str, at: str
) -> None:
    text = f"0 < 1 AND\n  ({sql}) IS NULL"
    with pytest.raises(error, match=message) as caught:
        bind(text)
    lines = str(caught.value).splitlines()
    if at:
        assert lines[-3].startswith("line 2, column ")
        caret = lines[-1].index("^")
        assert lines[-2][caret:].startswith(at), caught.value


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("count(*)", "aggregate count"),
        ("1 + sum(i)", "aggregate sum"),
        ("row_number() OVER (ORDER BY i)", "a window function"),
        ("sum(i) OVER ()", "a window function"),
        ("(SELECT 1)", "a subquery"),
        ("EXISTS (SELECT 1)", "a subquery"),
        ("i IN (SELECT 1)", "a subquery"),
        ("levenshtein(t, t)", "function levenshtein"),
        ("t ~ t", "a regular expression that is no literal"),
        ("t ~ '(?i)x'", "a regular expression of RE2's"),
        ("t SIMILAR TO t", "SIMILARTO"),
        ("date_trunc('day', tz, 'UTC')", "function timestamp_trunc with zone"),
        ("ARRAY[1, 2]", "function array"),
        ("i::int[]", "type INT"),
        ("i::hugeint", "type"),
        ('t COLLATE "de"', "COLLATE"),
        ("substring(t from 'x')", "function regexp_substring"),
    ],
)
def test_what_is_left_to_the_columnar_engine(sql: str, reason: str) -> None:
    with pytest.raises(NeedsColumnar) as caught:
        bind(sql)
    assert reason.lower() in caught.value.reason.lower()
    assert str(caught.value).startswith("the row engine does not run ")
    assert isinstance(caught.value, Unsupported)


# Conditions, assignments, types, parameters -------------------------------------------------------


def test_conditions_are_boolean() -> None:
    scope = TableScope("SELECT i")
    with pytest.raises(TypeMismatch, match="WHERE takes a BOOLEAN, not INTEGER"):
        bind_condition(tree("i"), scope)
    assert bind_condition(tree("NULL"), scope) == Literal(None, BOOLEAN)
    assert bind_condition(tree("?"), scope) == Parameter(0, BOOLEAN)
    assert bind_condition(tree("TRUE AND f"), scope) == Column(8, "f", BOOLEAN)


def test_assignments_that_fit() -> None:
    ten_two = parse_type("DECIMAL(10,2)")
    assert assign("1", "BIGINT") == Literal(1, BIGINT)
    assert assign("1", "DOUBLE") == Literal(1.0, DOUBLE)
    assert assign("1.5", "DOUBLE") == Literal(1.5, DOUBLE)
    assert assign("5.0", "INTEGER") == Literal(5, INTEGER)
    assert assign("1.505", ten_two) == Literal(Decimal("1.505"), DECIMAL)  # the catalog refuses it
    assert assign("n * 1.1", ten_two) == Cast(bind("n * 1.1"), ten_two)
    assert assign("?", ten_two) == Parameter(0, DECIMAL)
    assert assign("?", "INTEGER") == Parameter(0, BIGINT)
    assert assign("?", COUNTER) == Parameter(0, BIGINT)
    assert assign("i + 1", "SMALLINT") == Arithmetic("+", COLUMN_I, Literal(1, INTEGER), INTEGER)
    assert assign("dt", "TIMESTAMP") == Cast(Column(10, "dt", DATE), TIMESTAMP)
    assert assign("d", "REAL") == Cast(Column(4, "d", DOUBLE), REAL)
    assert assign("d", "DECIMAL(10,2)") == Cast(Column(4, "d", DOUBLE), parse_type("DECIMAL(10,2)"))
    assert assign("i", "VARCHAR(3)") == Cast(COLUMN_I, TEXT)  # too long is for the catalog to say
    assert assign("now()", "TIMESTAMP") == Cast(bind("now()"), parse_type("TIMESTAMP"))
    assert assign("'2024-01-31'", "DATE") == Literal(date(2024, 1, 31), DATE)
    assert assign("NULL", "DATE") == Literal(None, DATE)
    assert assign("t", "VARCHAR(3)") == Column(6, "t", TEXT)
    assert assign("1", COUNTER) == Literal(1, BIGINT)


@pytest.mark.parametrize(
    ("sql", "target", "message"),
    [
        ("1.5", "INTEGER", "column col is INTEGER, 1.5 is not"),
        ("t", "INTEGER", "the value is TEXT"),
        ("1", "TEXT", "the value is INTEGER"),
        ("i", "BOOLEAN", "column col is BOOLEAN, the value is INTEGER; cast it"),
        ("dt", "INTEGER", "the value is DATE"),
        ("'x'", "INTEGER", "not a valid INTEGER"),
        ("5000000000.0", "INTEGER", "INTEGER out of range"),
        ("f", "INTEGER", "the value is BOOLEAN"),
    ],
)
def test_assignments_that_do_not_fit(sql: str, target: str, message: str) -> None:
    with pytest.raises(TypeMismatch, match=message) as caught:
        assign(sql, target)
    assert "line 1, column 8" in str(caught.value)


def test_types() -> None:
    def named(written: str) -> SqlType:
        return bind_type(tree(f"CAST(NULL AS {written})").args["to"], "")

    assert named("numeric(10, 2)") == parse_type("DECIMAL(10,2)")
    assert named("double precision") == DOUBLE
    assert named("timestamp with time zone") == parse_type("TIMESTAMPTZ")
    assert named("character varying(5)") == parse_type("VARCHAR(5)")
    assert named("bytea") == parse_type("BLOB")
    assert named("counter") == COUNTER
    assert named("float4") == REAL
    assert named("jsonb") == JSON


def test_parameters_are_checked_as_the_types_they_got() -> None:
    given = [5, "2024-01-31", date(2024, 1, 31), Decimal("1.23456789012345"), None, "x", 2]
    types = [BIGINT, DATE, TIMESTAMP, DECIMAL, TEXT, None, DOUBLE]
    assert check_parameters(given, types) == (
        5,
        date(2024, 1, 31),
        datetime(2024, 1, 31),
        Decimal("1.23456789012345"),
        None,
        "x",
        2.0,
    )
    assert check_parameters([str(uuid.UUID(int=5)), "1 day"], [UUID, INTERVAL]) == (
        uuid.UUID(int=5),
        timedelta(days=1),
    )
    assert check_parameters([{"a": 1}], [JSON]) == ('{"a":1}',)


@pytest.mark.parametrize(
    ("value", "sql_type", "message"),
    [
        ("5", BIGINT, "parameter 1: '5' is not BIGINT"),
        (5, TEXT, "parameter 1: 5 is not TEXT"),
        (1.5, BIGINT, "parameter 1: 1.5 is not BIGINT"),
        (True, BIGINT, "parameter 1: True is not BIGINT"),
        ("yes", BOOLEAN, "parameter 1: 'yes' is not BOOLEAN"),
        ("2024-02-30", DATE, 'parameter 1: "2024-02-30" is not a valid DATE'),
        (2**63, BIGINT, "outside of"),
        (object(), None, "no SQL type holds a Python object"),
        (2**63, None, "outside of"),
    ],
)
def test_parameters_that_are_refused(value: Any, sql_type: SqlType | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_parameters([value], [sql_type])


def test_like_binds_its_escape() -> None:
    expr = bind("t NOT ILIKE 'a!%' ESCAPE '!'")
    assert expr == Like(
        Column(6, "t", TEXT),
        Literal("a!%", TEXT),
        Literal("!", TEXT),
        insensitive=True,
        negated=True,
    )


def test_a_place_is_a_line_and_a_caret() -> None:
    assert place("SELECT 1\nFROM x WHERE\ty = 3", 24) == (
        "line 2, column 16\n  FROM x WHERE\ty = 3\n              \t  ^"
    )
    assert place("abc", 3) == "line 1, column 4\n  abc\n     ^"
    assert place("", 5) == "line 1, column 1\n  \n  ^"
    long = place("x" * 250 + "Y" + "x" * 250, 250).splitlines()
    assert long[0] == "line 1, column 251"
    assert long[1][long[2].index("^")] == "Y"
    assert long[1].startswith("  ...")
    assert long[1].endswith("...")
    assert len(long[1]) < 120
