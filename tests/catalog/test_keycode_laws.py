"""Sorting keys sorts rows, whatever the types, directions and NULLs."""

import contextlib
import functools
import math
import struct
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from murmur.catalog import types
from murmur.catalog.interval import Interval, interval, total_microseconds
from murmur.catalog.keycode import (
    NOT_OF_TYPE,
    atom_encoder,
    column_encoder,
    key_decoder,
    key_encoder,
    prefix_end,
    restores,
    value_range,
)
from murmur.catalog.types import decimal_bounds, integer_bounds
from murmur.catalog.values import check, from_atom, is_atom, to_atom
from murmur.errors import Corruption, DataError

KEY_TYPES = [
    types.BOOLEAN,
    types.SMALLINT,
    types.INTEGER,
    types.BIGINT,
    types.REAL,
    types.DOUBLE,
    types.decimal(5, 2),
    types.decimal(18, 18),
    types.decimal(38, 19),
    types.DECIMAL,
    types.TEXT,
    types.varchar(5),
    types.BLOB,
    types.DATE,
    types.TIME,
    types.TIMESTAMP,
    types.TIMESTAMPTZ,
    types.INTERVAL,
    types.UUID,
]

# Few letters, and those that an encoding may stumble over, so that values share beginnings.
LETTERS = "\x01\x02\x03ab\x7f\x80\xff\u0100\ud7ff\ue000\uffff\U00010000\U0010ffff"
BYTES = b"\x00\x01\x02\x03\x7f\xfc\xfe\xff"


def values_of(sql_type):
    """Values of a type, as `check` lets them through."""
    match sql_type.name:
        case "BOOLEAN":
            values = st.booleans()
        case "SMALLINT" | "INTEGER" | "BIGINT":
            values = st.integers(*integer_bounds(sql_type)) | st.integers(-3, 3)
        case "REAL":
            values = st.floats(width=32, allow_nan=False)
        case "DOUBLE":
            values = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 5e-324, -5e-324])
        case "DECIMAL":
            precision, scale = decimal_bounds(sql_type)
            steps = st.integers(1 - 10**precision, 10**precision - 1) | st.integers(-999, 999)
            values = steps.map(lambda n: Decimal(f"{n}E-{scale}"))
        case "TEXT" | "VARCHAR":
            values = st.text(LETTERS, max_size=5)
        case "BLOB":
            values = st.lists(st.sampled_from(BYTES), max_size=5).map(bytes)
        case "DATE":
            values = st.dates()
        case "TIME":
            values = st.times()
        case "TIMESTAMP":
            values = st.datetimes()
        case "TIMESTAMPTZ":
            values = st.datetimes(timezones=st.just(UTC))
        case "INTERVAL":
            days = st.timedeltas(min_value=timedelta(-70), max_value=timedelta(70))
            exact = days | st.integers(-70, 70).map(timedelta)
            values = st.builds(interval, st.integers(-3, 3), exact)
        case "UUID":
            values = st.uuids() | st.integers(0, 3).map(lambda n: uuid.UUID(int=n))
    return values.map(lambda value: check(value, sql_type, where="test"))


@st.composite
def keys(draw, count):
    """Types and directions of a key, and so many keys of them."""
    columns = draw(
        st.lists(st.tuples(st.sampled_from(KEY_TYPES), st.booleans()), min_size=1, max_size=4)
    )
    row = st.tuples(*(st.none() | values_of(sql_type) for sql_type, _ in columns))
    # Two rows are often equal in their first columns.
    rows = [draw(row)]
    for _ in range(count - 1):
        shared = draw(st.integers(0, len(columns)))
        rows.append(rows[0][:shared] + draw(row)[shared:])
    sql_types, descending = zip(*columns, strict=True)
    return sql_types, descending, rows


def sql_compare(left, right, descending):
    """ORDER BY as PostgreSQL does it: NULLS LAST ascending, NULLS FIRST descending."""
    for one, other, down in zip(left, right, descending, strict=True):
        if one is None or other is None:
            order = (one is None) - (other is None)
        else:
            order = (one > other) - (one < other)
        if order:
            return -order if down else order
    return 0


def same(left, right):
    """Equal and alike: -0.0 == 0.0, and a month == 30 days."""
    return type(left) is type(right) and left == right and str(left) == str(right)


@given(keys(2))
def test_bytes_sort_as_values_do(case):
    sql_types, descending, (left, right) = case
    encode = key_encoder(sql_types, descending)
    one, other = encode(left), encode(right)
    assert (one > other) - (one < other) == sql_compare(left, right, descending)


@given(keys(8))
def test_sorting_keys_is_sorting_rows(case):
    sql_types, descending, rows = case
    encode = key_encoder(sql_types, descending)
    order = functools.cmp_to_key(lambda one, other: sql_compare(one, other, descending))
    assert sorted(map(encode, rows)) == [encode(row) for row in sorted(rows, key=order)]


@given(keys(1), st.binary(max_size=3), st.binary(max_size=3))
def test_keys_decode(case, before, after):
    sql_types, descending, (row,) = case
    key = key_encoder(sql_types, descending)(row)
    decode = key_decoder(sql_types, descending)
    decoded = decode(key)
    assert decoded == row
    assert decode(before + key + after, len(before), len(before) + len(key)) == row
    for sql_type, value, again in zip(sql_types, row, decoded, strict=True):
        if restores(sql_type):
            assert same(value, again)


@given(keys(2), st.binary(max_size=3))
def test_no_key_begins_with_another_one(case, rest):
    sql_types, descending, (left, right) = case
    encode = key_encoder(sql_types, descending)
    one, other = encode(left), encode(right)
    assert one == other or not other.startswith(one)
    # So whatever follows a key does not change its place among others.
    if one != other:
        assert (one + rest < other + b"\xff") == (one < other)
        assert (one + b"\xff" < other + rest) == (one < other)


@given(keys(1))
def test_columns_of_a_key_are_the_columns_encoded(case):
    sql_types, descending, (row,) = case
    parts = [
        column_encoder(sql_type, descending=down)(value)
        for sql_type, down, value in zip(sql_types, descending, row, strict=True)
    ]
    assert key_encoder(sql_types, descending)(row) == b"".join(parts)


@given(keys(1))
def test_atoms_have_the_keys_of_their_values(case):
    sql_types, descending, (row,) = case
    for sql_type, down, value in zip(sql_types, descending, row, strict=True):
        from_value = column_encoder(sql_type, descending=down)
        assert atom_encoder(sql_type, descending=down)(to_atom(value, sql_type)) == from_value(
            value
        )


@given(keys(1), st.data())
def test_what_decodes_encodes_to_the_same_bytes(case, data):
    sql_types, descending, (row,) = case
    key = bytearray(key_encoder(sql_types, descending)(row))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(key)))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change" if place < len(key):
                key[place] ^= data.draw(st.integers(1, 255))
            case "cut":
                del key[place:]
            case _:
                key[place:place] = data.draw(st.binary(max_size=3))
    changed = bytes(key)
    try:
        decoded = key_decoder(sql_types, descending)(changed)
    except Corruption:
        return
    assert key_encoder(sql_types, descending)(decoded) == changed


@given(st.sampled_from(KEY_TYPES), st.booleans(), st.binary(max_size=24))
def test_any_bytes_decode_or_are_corrupt(sql_type, descending, body):
    for tag in (b"", b"\x01", b"\x02", b"\xfd", b"\xfe"):
        try:
            decoded = key_decoder([sql_type], [descending])(tag + body)
        except Corruption:
            continue
        assert key_encoder([sql_type], [descending])(decoded) == tag + body


@given(keys(2))
def test_ranges_of_a_prefix(case):
    sql_types, descending, (row, other) = case
    head = key_encoder(sql_types[:-1], descending[:-1])(row[:-1])
    key = key_encoder(sql_types, descending)(other)
    inside = sql_compare(row[:-1], other[:-1], descending[:-1]) == 0
    end = prefix_end(head)
    assert (head <= key and (end is None or key < end)) == inside
    start, stop = value_range(head, descending=descending[-1])
    assert (start <= key < stop) == (inside and other[-1] is not None)


@given(st.binary(max_size=4), st.binary(max_size=4))
def test_prefix_end_is_the_least_upper_bound(prefix, key):
    end = prefix_end(prefix)
    if key.startswith(prefix):
        assert end is None or key < end
    elif key > prefix:
        assert end is not None
        assert key >= end


@given(st.sampled_from(KEY_TYPES).flatmap(lambda t: st.tuples(st.just(t), values_of(t))))
def test_checked_values_survive_their_stored_form(case):
    sql_type, value = case
    atom = to_atom(value, sql_type)
    assert type(atom) in (bool, int, float, str, bytes)
    again = from_atom(atom, sql_type)
    assert same(again, value)
    assert is_atom(atom, sql_type)
    assert same(check(again, sql_type, where="test"), value)


FOREIGN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from(["NaN", "1E+900000", "-1E-999999", "sNaN", "1.5", "\ud800", bytes(16)])
)


@given(st.sampled_from(KEY_TYPES), FOREIGN)
def test_any_atom_has_a_key_or_an_expected_error(sql_type, atom):
    """Peers may write anything. (The integer 10**900000 takes seconds to make.)"""
    try:
        key = atom_encoder(sql_type)(atom)
    except NOT_OF_TYPE:
        assert not is_atom(atom, sql_type)
        return
    assert isinstance(key, bytes)


@given(st.sampled_from(KEY_TYPES), FOREIGN)
def test_any_value_has_a_key_or_a_data_error(sql_type, value):
    with contextlib.suppress(DataError):
        key_encoder([sql_type])((value,))


@given(st.floats(allow_nan=False))
def test_nan_sorts_above_all_numbers(number):
    encode = column_encoder(types.DOUBLE)
    other_nan = struct.unpack(">d", b"\xff\xf8\0\0\0\0\0\1")[0]
    assert encode(math.nan) == encode(other_nan)
    assert encode(number) < encode(math.nan) < encode(None)
    assert math.isnan(key_decoder([types.DOUBLE])(encode(math.nan))[0])


def test_reaches_of_the_strategies():
    """What the laws rely on: these values are the ends of their types."""
    for sql_type, ends in [
        (types.DATE, [date.min, date.max]),
        (types.TIME, [time.min, time.max]),
        (types.TIMESTAMP, [datetime.min, datetime.max]),
        (types.INTERVAL, [timedelta(microseconds=-(2**63)), timedelta(microseconds=2**63 - 1)]),
        (types.INTERVAL, [-Interval(3_000_000), Interval(3_000_000)]),
    ]:
        low, high = (column_encoder(sql_type)(check(end, sql_type, where="test")) for end in ends)
        assert low < high
        assert key_decoder([sql_type])(low) == (ends[0],)
        assert key_decoder([sql_type])(high) == (ends[1],)
    assert total_microseconds(Interval(3_000_000)) < 2**63
