import pytest

from murmur.catalog import types
from murmur.catalog.types import decimal_bounds, integer_bounds, parse_type, varchar
from murmur.errors import InvalidInput, Unsupported

SPELLINGS = [
    ("bool", (), "BOOLEAN"),
    ("int2", (), "SMALLINT"),
    ("int", (), "INTEGER"),
    ("Int4", (), "INTEGER"),
    ("int8", (), "BIGINT"),
    ("float4", (), "REAL"),
    ("float", (), "DOUBLE"),
    ("float", (24,), "REAL"),
    ("float", (25,), "DOUBLE"),
    ("double  precision", (), "DOUBLE"),
    ("float8", (), "DOUBLE"),
    ("numeric", (), "DECIMAL"),
    ("numeric", (5,), "DECIMAL(5,0)"),
    ("dec", (5, 2), "DECIMAL(5,2)"),
    ("string", (), "TEXT"),
    ("varchar", (), "TEXT"),
    ("character varying", (7,), "VARCHAR(7)"),
    ("char", (), "VARCHAR(1)"),
    ("char", (7,), "VARCHAR(7)"),
    ("bytea", (), "BLOB"),
    ("time without time zone", (), "TIME"),
    ("timestamp", (6,), "TIMESTAMP"),
    ("datetime", (), "TIMESTAMP"),
    ("timestamp with time zone", (), "TIMESTAMPTZ"),
    ("jsonb", (), "JSON"),
    ("Counter", (), "COUNTER"),
    (" decimal ( 10 , 2 ) ", (), "DECIMAL(10,2)"),
]


@pytest.mark.parametrize(("name", "args", "written"), SPELLINGS)
def test_spellings(name, args, written):
    assert str(parse_type(name, args)) == written


@pytest.mark.parametrize("written", [*sorted(types.TYPE_NAMES - {"VARCHAR"}), "VARCHAR(3)"])
def test_str_is_read_back(written):
    sql_type = parse_type(written)
    assert str(sql_type) == written
    assert parse_type(str(sql_type)) == sql_type


def test_decimal_with_arguments_is_read_back():
    assert parse_type(str(types.decimal(38, 38))) == types.decimal(38, 38)


@pytest.mark.parametrize(
    ("name", "args", "error", "reason"),
    [
        ("hugeint", (), InvalidInput, "unknown type HUGEINT"),
        ("decimal", (39,), InvalidInput, "precision 39 must be between 1 and 38"),
        ("decimal", (0,), InvalidInput, "precision 0 must be"),
        ("decimal", (5, 6), InvalidInput, "scale 6 must be between 0 and precision 5"),
        ("varchar", (0,), InvalidInput, "length 0 must be between 1 and"),
        ("varchar", (10_485_761,), InvalidInput, "length 10485761 must be"),
        ("float", (54,), InvalidInput, "between 1 and 53"),
        ("integer", (11,), InvalidInput, "type INTEGER takes no arguments (11,)"),
        ("decimal(10,2)", (5, 2), InvalidInput, "takes no arguments (5, 2)"),
        ("timestamp", (3,), Unsupported, "microseconds"),
        ("time with time zone", (), Unsupported, "use TIME or TIMESTAMPTZ"),
        ("serial", (), Unsupported, "use BIGINT"),
    ],
)
def test_refused(name, args, error, reason):
    with pytest.raises(error) as caught:
        parse_type(name, args)
    assert reason in str(caught.value)


def test_bounds():
    assert integer_bounds(types.SMALLINT) == (-32768, 32767)
    assert integer_bounds(types.COUNTER) == (-(2**63), 2**63 - 1)
    assert decimal_bounds(types.decimal(5, 2)) == (5, 2)
    assert decimal_bounds(types.DECIMAL) == (38, 10)


def test_kinds():
    assert types.COUNTER.is_integer
    assert not types.COUNTER.can_be_key
    assert not types.JSON.can_be_key
    assert types.DECIMAL.is_numeric
    assert not types.DECIMAL.is_float
    assert varchar(3).is_text
    assert types.INTERVAL.is_temporal
    assert not types.TEXT.is_temporal
