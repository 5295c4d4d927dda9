"""Expressions that both engines run have one value, whichever engine is asked."""

from __future__ import annotations

import pytest

from murmur.errors import MurmurError
from murmur.sql import Session
from tests.sql.session_harness import columnar_rows, fetch, open_session

EXPRESSIONS = [
    r"e'a\'b'",
    r"e'a\\'",
    r"E'\x41\n'",
    r"$$a'b\n$$",
    r"$t$it's$t$",
    r"'back\slash'",
    "'q''q'",
    "x'00ff'",
    "1e5",
    "1.5E-3",
    "0.1",
    "123456789012345678901234567890",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "TIMESTAMPTZ '2024-01-01 10:00:00+02'",
    "INTERVAL '1 month 2 days'",
    "TIME '10:00'",
    "'t'::boolean",
    "2::decimal(5,2)",
    "'0198c5a0-0000-7000-8000-000000000000'::uuid",
    "'abcdef'::varchar(2)",
    "'abcdef'::char",
    "7/2",
    "-7/2",
    "-7%3",
    "2^3",
    "5::double/2",
    "round(2.5)",
    "round(-2.5)",
    "round(2.675, 2)",
    "2.5::int",
    "-2.5::int",
    "2.5::double::int",
    "'a' || 1",
    "'a' || null",
    "concat('a', null, 1)",
    "concat_ws(',', 'a', null, 'b')",
    "length('ß')",
    "substring('hello' from 0 for 3)",
    "left('hello', -2)",
    "right('hello', 2)",
    "strpos('hello', 'l')",
    "split_part('a,b,c', ',', -1)",
    "lpad('x', 3, 'ab')",
    "ltrim('xxa', 'x')",
    "initcap('hello wORLD')",
    "to_hex(255)",
    "greatest(1, null, 3)",
    "mod(7, 3)",
    "floor(-1.5)",
    "trunc(1.789, 2)",
    "date_trunc('month', DATE '2024-03-15')",
    "extract(dow from DATE '2024-03-17')",
    "DATE '2024-03-15' + 1",
    "DATE '2024-03-15' - DATE '2024-03-01'",
    "DATE '2024-01-31' + INTERVAL '1 month'",
    "TIMESTAMP '2024-01-01' - TIMESTAMP '2023-12-31'",
    "1 = 1.0",
    "'a' < 'B'",
    "1 is distinct from null",
    "true and null",
    "false or null",
    "1 in (2, null)",
    "1 not in (2, null)",
    "1 between 2 and null",
    r"'a_c' like 'a\_c'",
    r"'abc' like 'a\_c'",
    r"'a\c' like 'a\\c'",
    "'a_c' like 'a!_c' escape '!'",
    "'ABC' ilike 'abc'",
    "case 1 when 1 then 'x' end",
    "true::text",
    "1.50::text",
    "1e20::double::text",
    "DATE '2024-01-01'::text",
    "TIMESTAMP '2024-01-01 10:00:00.5'::text",
    "'NaN'::double = 'NaN'::double",
    "'NaN'::double > 'Infinity'::double",
    "now()",
    "current_date",
]


@pytest.fixture(scope="module")
def session() -> Session:
    return open_session()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_values_are_equal(session: Session, expression: str) -> None:
    ours = fetch(session, f"SELECT {expression}")
    theirs = columnar_rows(session, f"SELECT {expression}")
    assert theirs is not None
    assert ours == theirs


@pytest.mark.parametrize(
    "expression",
    [
        "1 / 0",
        "1e0 / 0",
        "1.5 % 0",
        "9223372036854775807 + 1",
        "'x'::int",
        "'2024-02-30'::date",
        "'a' like 'a\\'",
        "ln(0.0)",
        "sqrt(-1.0)",
        "40000::smallint",
    ],
)
def test_errors_are_errors_on_both(session: Session, expression: str) -> None:
    for ask in (fetch, columnar_rows):
        with pytest.raises(MurmurError):
            ask(session, f"SELECT {expression}")
