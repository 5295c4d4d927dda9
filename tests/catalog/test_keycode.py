from datetime import date, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from murmur.catalog import types
from murmur.catalog.interval import Interval
from murmur.catalog.keycode import (
    NOT_OF_TYPE,
    atom_encoder,
    key_decoder,
    key_encoder,
    prefix_end,
    value_range,
)
from murmur.catalog.types import INTEGER, TEXT, decimal
from murmur.errors import Corruption, DataError, Unsupported

# These bytes are on disk: a test that fails here is a change of the format.
WRITTEN = [
    (types.BOOLEAN, False, "02 00"),
    (types.SMALLINT, -1, "02 7fff"),
    (INTEGER, 1, "02 80000001"),
    (types.BIGINT, -(2**63), "02 0000000000000000"),
    (types.DOUBLE, 1.5, "02 3ff8000000000000"),
    (types.DOUBLE, 0.0, "02 0000000000000000"),
    (types.DOUBLE, -0.0, "02 0000000000000000"),
    (types.DOUBLE, -1.5, "01 4007ffffffffffff"),
    (types.DOUBLE, float("nan"), "02 7ff8000000000000"),
    (types.REAL, 1.5, "02 3ff8000000000000"),
    (decimal(10, 2), Decimal("-12.50"), "02 7ffffffffffffb1e"),
    (decimal(19, 2), Decimal("-12.50"), "02 7ffffffffffffffffffffffffffffb1e"),
    (TEXT, "", "02 0001"),
    (TEXT, "aż", "02 61c5bc 0001"),
    (types.BLOB, b"\x00\x01\xff", "02 00ff01ff 0001"),
    (types.DATE, date(2024, 2, 29), "02 000b4681"),
    (types.TIME, time(0, 0, 1), "02 00000000000f4240"),
    (types.INTERVAL, Interval(1), "02 8000025b7f3d4000"),
    (types.INTERVAL, timedelta(30), "02 8000025b7f3d4000"),
    (types.UUID, UUID(int=1), "02 00000000000000000000000000000001"),
    (TEXT, None, "03"),
]


@pytest.mark.parametrize(("sql_type", "value", "written"), WRITTEN)
def test_written(sql_type, value, written):
    ascending = bytes.fromhex(written)
    assert key_encoder([sql_type])((value,)) == ascending
    descending = bytes(255 - byte for byte in ascending)
    assert key_encoder([sql_type], [True])((value,)) == descending


def test_columns_follow_one_another():
    types_, descending = (INTEGER, TEXT, TEXT), (False, True, False)
    key = key_encoder(types_, descending)((1, "a", None))
    assert key == bytes.fromhex("02 80000001 fd 9e ff fe 03")
    assert key_decoder(types_, descending)(key) == (1, "a", None)


def test_no_columns():
    assert key_encoder([])(()) == b""
    assert key_decoder([])(b"") == ()


@pytest.mark.parametrize("sql_type", [types.JSON, types.COUNTER])
def test_types_without_order(sql_type):
    for compile_ in (key_encoder, key_decoder):
        with pytest.raises(Unsupported, match=f"{sql_type} has no order"):
            compile_([INTEGER, sql_type])


@pytest.mark.parametrize(
    ("types_", "values"),
    [
        ([INTEGER], ("a",)),
        ([INTEGER], (2**31,)),
        ([INTEGER], (1.0,)),
        ([INTEGER], (1, 2)),
        ([INTEGER, TEXT], (1,)),
        ([INTEGER, TEXT], (1, b"a")),
        ([INTEGER, TEXT, TEXT], (1, "a")),
        ([TEXT], ("\ud800",)),
        ([types.BOOLEAN], (1,)),
        ([types.BLOB], ("a",)),
        ([decimal(5, 2)], (Decimal("1.555"),)),
        ([decimal(5, 2)], (Decimal(1000),)),
        ([decimal(5, 2)], (Decimal("NaN"),)),
        ([decimal(38, 2)], (Decimal("1E+900000"),)),
        ([types.UUID], ("a",)),
        ([types.TIMESTAMP], (date(2024, 1, 1),)),
    ],
)
def test_values_of_other_types(types_, values):
    with pytest.raises(DataError, match="no key of"):
        key_encoder(types_)(values)


@pytest.mark.parametrize(
    ("sql_type", "atom"),
    [
        (types.UUID, bytes(15)),
        (types.UUID, "a" * 16),
        (decimal(5, 2), "1000.00"),
        (decimal(5, 2), "twelve"),
        (types.INTERVAL, b"short"),
        (types.DATE, "2024-02-29"),
        (TEXT, b"a"),
    ],
)
def test_atoms_of_other_types(sql_type, atom):
    with pytest.raises(NOT_OF_TYPE):
        atom_encoder(sql_type)(atom)


@pytest.mark.parametrize(
    ("sql_type", "written", "offset", "reason"),
    [
        (INTEGER, "", 0, "it ends within a column"),
        (INTEGER, "02 8000", 0, "it ends within a column"),
        (INTEGER, "01 80000001", 0, "unknown tag 01"),
        (INTEGER, "00", 0, "unknown tag 00"),
        (INTEGER, "02 80000001 00", 5, "does not end with its last column"),
        (types.BOOLEAN, "02 02", 0, "02 is not a boolean"),
        (types.DOUBLE, "02 8000000000000000", 0, "not the form"),
        (types.DOUBLE, "02 7ff0000000000001", 0, "not the form"),
        (types.DOUBLE, "01 7fffffffffffffff", 0, "not a number below 0"),
        (types.DOUBLE, "01 7fff", 0, "8 bytes expected, 2 left"),
        (decimal(5, 2), "02 80000000000186a0", 0, "more than 5 digits"),
        (TEXT, "02 61", 0, "it has no end"),
        (TEXT, "02 61 0002 0001", 0, "00 without ff"),
        (TEXT, "02 ff 0001", 0, "codec can't decode"),
        (types.DATE, "02 00000000", 0, "ordinal must be"),
        (types.TIME, "02 000000141dd76000", 0, "not a time of day"),
        (types.TIMESTAMP, "02 ffffffffffffffff", 0, "out of range"),
        (types.UUID, "02 00", 0, "16 bytes expected, 1 left"),
    ],
)
def test_bytes_that_are_no_key(sql_type, written, offset, reason):
    key = bytes.fromhex(written)
    with pytest.raises(Corruption) as caught:
        key_decoder([sql_type])(key)
    assert caught.value.path == f"key {key.hex()}"
    assert caught.value.offset == offset
    assert reason in caught.value.reason


def test_the_offset_is_that_of_the_column():
    with pytest.raises(Corruption) as caught:
        key_decoder([INTEGER, TEXT])(bytes.fromhex("02 80000001 02 61"))
    assert caught.value.offset == 5


def test_prefix_end():
    assert prefix_end(b"a") == b"b"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"\xff") is None
    assert prefix_end(b"") is None


def test_value_range():
    assert value_range(b"p") == (b"p\x01", b"p\x03")
    assert value_range(b"p", descending=True) == (b"p\xfd", b"p\xff")
