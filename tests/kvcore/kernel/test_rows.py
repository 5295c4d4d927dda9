"""Records to columns and tuples: what is read of a cell, by both kernels alike."""

from __future__ import annotations

import itertools
import math
import struct
from array import array
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgpack
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from murmur.errors import Corruption
from murmur.kvcore.cell import Counter, Life, encode_record, visible_fields
from murmur.kvcore.kernel.fields import (
    BINARY,
    BOOLEAN,
    DECIMAL,
    FIXED,
    FLOAT,
    INTEGER,
    INTERVAL,
    TEXT,
    UUID,
    FieldSpec,
)
from murmur.kvcore.kernel.pure import rows as pure

try:
    from murmur.kvcore.kernel import _native as native
except ImportError:
    native = None
if not hasattr(native, "ColumnReader"):
    native = None

KERNELS = [
    pytest.param(pure, id="pure"),
    pytest.param(
        native, id="native", marks=pytest.mark.skipif(native is None, reason="not compiled")
    ),
]
both = pytest.mark.parametrize("kernel", KERNELS)
differential = pytest.mark.skipif(native is None, reason="not compiled")

INT64 = {"width": 8, "low": -(2**63), "high": 2**63 - 1}
EPOCH = 719_163

# A field of every kind, as the catalog's types ask for them.
FIELDS = [
    FieldSpec(1, BOOLEAN, "b"),
    FieldSpec(2, INTEGER, "s", width=2, low=-(2**15), high=2**15 - 1),
    FieldSpec(3, INTEGER, "i", width=4, low=-(2**31), high=2**31 - 1),
    FieldSpec(1 << 31, INTEGER, "l", **INT64),
    FieldSpec(5, FLOAT, "f", width=4),
    FieldSpec(6, FLOAT, "g", 1.5, width=8),
    FieldSpec(7, DECIMAL, "d:10,2", "7.50", precision=10, scale=2),
    FieldSpec(8, DECIMAL, "d:38,10", precision=38, scale=10),
    FieldSpec(9, TEXT, "u", "naïve"),
    FieldSpec(10, BINARY, "z"),
    FieldSpec(11, INTEGER, "tdD", width=4, bias=EPOCH, low=1, high=3_652_059),
    FieldSpec(12, INTEGER, "ttu", width=8, high=86_399_999_999),
    FieldSpec(13, INTEGER, "tsu:", width=8, low=-(10**16), high=10**17),
    FieldSpec(14, INTEGER, "tsu:UTC", width=8, low=-(10**16), high=10**17),
    FieldSpec(15, INTERVAL, "tin"),
    FieldSpec(16, UUID, "u", b"\xab" * 16),
    FieldSpec(17, FIXED, "w:16", width=16),
    FieldSpec(18, INTEGER, "l", 0, **INT64),
]
IDS = [field.id for field in FIELDS]
A, B = b"replicaA", b"replicaB"


def read(kernel: Any, cells: Sequence[bytes], fields: Sequence[FieldSpec] = FIELDS) -> pa.Table:
    reader = kernel.ColumnReader(fields)
    reader.add_cells(list(cells))
    return as_table(reader.take(), fields)


def as_table(batches: Sequence[Sequence[Any]], fields: Sequence[FieldSpec]) -> pa.Table:
    columns = [
        pa.chunked_array([pa.array(batch[at]) for batch in batches]) for at in range(len(fields))
    ]
    table = pa.table(columns, names=[str(at) for at in range(len(fields))])
    table.validate(full=True)
    return table


def one(kernel: Any, field: FieldSpec, atom: Any) -> Any:
    """What a column shows for an atom, as Arrow's scalar."""
    table = read(kernel, [plain({field.id: atom})], [field])
    return table.column(0)[0]


def plain(fields: Any, *more: Any) -> bytes:
    packed: bytes = msgpack.packb([1, 10**18, A, 3, fields, *more])
    return packed


def chunk(cells: Sequence[bytes], keys: Sequence[bytes] | None = None) -> Any:
    keys = keys or [b"k%d" % at for at in range(len(cells))]
    return SimpleNamespace(
        count=len(cells),
        keys=b"".join(keys),
        key_offsets=array("I", [0, *itertools.accumulate(map(len, keys))]),
        values=b"".join(cells),
        value_offsets=array("I", [0, *itertools.accumulate(map(len, cells))]).tobytes(),
    )


# Examples ------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("field", "atom", "shown"),
    [
        (FIELDS[0], True, True),
        (FIELDS[0], 1, None),
        (FIELDS[1], -(2**15), -(2**15)),
        (FIELDS[1], 2**15, None),
        (FIELDS[1], True, None),
        (FIELDS[1], 1.0, None),
        (FIELDS[2], -(2**31) - 1, None),
        (FIELDS[3], 2**63 - 1, 2**63 - 1),
        (FIELDS[3], -(2**63), -(2**63)),
        (FIELDS[3], 2**64 - 1, None),
        (FIELDS[3], 200, 200),
        (FIELDS[3], 60_000, 60_000),
        (FIELDS[3], 2**32 - 1, 2**32 - 1),
        (FIELDS[3], -1, -1),
        (FIELDS[3], -33, -33),
        (FIELDS[3], -129, -129),
        (FIELDS[3], -40_000, -40_000),
        (FIELDS[4], 0.5, 0.5),
        (FIELDS[4], 1e300, None),
        (FIELDS[4], math.inf, math.inf),
        (FIELDS[4], 3.4028235677973362e38, struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]),
        (FIELDS[4], 3.4028235677973366e38, None),
        (FIELDS[5], 5e-324, 5e-324),
        (FIELDS[5], 1, None),
        (FIELDS[6], "12.50", "12.50"),
        (FIELDS[6], "12.5", "12.50"),
        (FIELDS[6], "-0.001e1", "-0.01"),
        (FIELDS[6], "99999999.99", "99999999.99"),
        (FIELDS[6], "100000000.00", None),
        (FIELDS[6], "1.555", None),
        (FIELDS[6], "1.5500000000000000000000000000000000000000000000000", "1.55"),
        (FIELDS[6], "-0", "0.00"),
        (FIELDS[6], "0E-10", "0.00"),
        (FIELDS[6], "0E-39", None),
        (FIELDS[6], "0E+39", None),
        (FIELDS[6], "1e999999999999999999999", None),
        (FIELDS[6], "sNaN", None),
        (FIELDS[6], " 1", None),
        (FIELDS[6], "1_0", None),
        (FIELDS[6], "", None),
        (FIELDS[6], ".", None),
        (FIELDS[6], "1e", None),
        (FIELDS[6], "1.2.3", None),
        (FIELDS[6], 5, None),
        (FIELDS[7], "9" * 28 + "." + "9" * 10, "9" * 28 + "." + "9" * 10),
        (FIELDS[7], "10000000000000000000000000000", None),
        (FIELDS[7], "123456789012345678901234567890123456789", None),
        (FIELDS[7], "1E-10", "1E-10"),
        (FIELDS[7], "1E+27", "1000000000000000000000000000.0000000000"),
        (FIELDS[8], "naïve ☃ \U0001f600", "naïve ☃ \U0001f600"),
        (FIELDS[8], b"x", None),
        (FIELDS[8], "x" * 70_000, "x" * 70_000),
        (FIELDS[9], b"\x00\xff", b"\x00\xff"),
        (FIELDS[9], b"\xff" * 300, b"\xff" * 300),
        (FIELDS[9], "x", None),
        (FIELDS[15], b"short", None),
        (FIELDS[15], bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (FIELDS[16], bytes(range(16)), bytes(range(16))),
        (FIELDS[16], bytes(17), None),
    ],
)
def test_an_atom_reads_as_its_kind_or_null(
    kernel: Any, field: FieldSpec, atom: Any, shown: Any
) -> None:
    found = one(kernel, field, atom).as_py()
    assert (str(found) if field.kind == DECIMAL and found is not None else found) == shown


@both
def test_times_are_shifted_and_bounded(kernel: Any) -> None:
    assert str(one(kernel, FIELDS[10], EPOCH + 1)) == "1970-01-02"
    assert one(kernel, FIELDS[10], 0).as_py() is None
    assert one(kernel, FIELDS[10], 3_652_060).as_py() is None
    assert str(one(kernel, FIELDS[11], 1)) == "00:00:00.000001"
    assert one(kernel, FIELDS[11], 86_400_000_000).as_py() is None
    assert str(one(kernel, FIELDS[13], 1).type) == "timestamp[us, tz=UTC]"


@both
@pytest.mark.parametrize(
    ("atom", "parts"),
    [
        (1, (0, 0, 1000)),
        (-1, (0, -1, 86_399_999_999_000)),
        (2**63 - 1, (0, 106_751_991, 14_454_775_807_000)),
        (2**63, None),
        (struct.pack(">iq", 14, -86_400_000_000), (14, -1, 0)),
        (struct.pack(">iq", -3_000_000, 0), (-3_000_000, 0, 0)),
        (struct.pack(">iq", -(2**31), 0), None),
        (struct.pack(">iq", 2**31 - 1, 2**63 - 1), None),
        (b"short", None),
        ("1 month", None),
    ],
)
def test_intervals_are_months_days_and_nanoseconds(kernel: Any, atom: Any, parts: Any) -> None:
    found = one(kernel, FIELDS[14], atom).as_py()
    assert (None if found is None else tuple(found)) == parts


@both
def test_a_field_that_is_not_there_reads_what_is_missing(kernel: Any) -> None:
    table = read(kernel, [plain({})])
    shown = {at: column[0].as_py() for at, column in enumerate(table.columns)}
    assert {at: value for at, value in shown.items() if value is not None} == {
        5: 1.5,
        6: pytest.approx(7.5),
        8: "naïve",
        15: "abababab-abab-abab-abab-abababababab",
        17: 0,
    }


@both
def test_the_first_life_is_shown_with_the_counters_of_all(kernel: Any) -> None:
    def life(stamp: int, name: str, value: int, totals: Any, offsets: Any) -> Life:
        counter = Counter(value, (stamp, A), totals, offsets)
        return Life(stamp, A, stamp, {9: name, 3: stamp}, {9: (stamp + 1, B)}, {18: counter})

    cell = encode_record(
        [
            life(1, "older", 100, {A: (7, 2), B: (1, 0)}, {A: (5, 9)}),
            life(2, "newer", 10, {B: (0, 5)}, {A: (3, 3)}),
        ]
    )
    assert cell is not None
    assert visible_fields(cell) == {3: 2, 9: "newer", 18: 108}
    fields = [FIELDS[8], FIELDS[2], FIELDS[17]]
    assert read(kernel, [cell], fields).to_pylist() == [{"0": "newer", "1": 2, "2": 108}]
    assert kernel.RowReader(fields)(cell) == ("newer", 2, 108)


@both
@pytest.mark.parametrize("sign", [1, -1])
def test_counters_saturate(kernel: Any, sign: int) -> None:
    most = 2**63 - 1
    total = (most, 0) if sign > 0 else (0, most)
    lives = [
        Life(1, by, 1, {}, {}, {18: Counter(sign * most, (1, by), {A: total, B: total}, {})})
        for by in (A, B)
    ]
    cell = encode_record(lives)
    assert cell is not None
    shown = visible_fields(cell)[18]
    assert shown == (most if sign > 0 else -(2**63))
    assert kernel.RowReader([FIELDS[17]])(cell) == (shown,)
    assert one_cell(kernel, FIELDS[17], cell) == shown


def one_cell(kernel: Any, field: FieldSpec, cell: bytes) -> Any:
    return read(kernel, [cell], [field]).column(0)[0].as_py()


@both
def test_a_counter_covers_a_field_of_its_id(kernel: Any) -> None:
    cell = plain({18: 5, 9: "x"}, {18: 7})
    assert one_cell(kernel, FIELDS[17], cell) == 7
    assert kernel.RowReader([FIELDS[17], FIELDS[8]])(cell) == (7, "x")


@both
def test_the_last_of_two_entries_of_one_field_counts(kernel: Any) -> None:
    head = plain({})[:-1]
    assert one_cell(kernel, FIELDS[2], head + b"\x82\x03\x05\x03\x06") == 6


@both
def test_a_field_can_be_asked_for_twice(kernel: Any) -> None:
    fields = [FIELDS[2], FIELDS[2]._replace(format="l", **INT64)]
    assert read(kernel, [plain({3: 9}), plain({})], fields).to_pylist() == [
        {"0": 9, "1": 9},
        {"0": None, "1": None},
    ]


@both
def test_no_cells_have_types_nevertheless(kernel: Any) -> None:
    table = read(kernel, [])
    assert table.num_rows == 0
    assert [str(column.type) for column in table.columns[:4]] == ["bool", "int16", "int32", "int64"]


@both
def test_a_chunk_is_read_as_its_cells_are(kernel: Any) -> None:
    cells = [plain({3: at, 9: "x" * at}) for at in range(700)]
    reader = kernel.ColumnReader(FIELDS)
    reader.add(chunk(cells[:300]))
    reader.add(chunk([]))
    reader.add(chunk(cells[300:]))
    assert as_table(reader.take(), FIELDS).equals(read(kernel, cells))
    assert as_table(reader.take(), FIELDS).num_rows == 0


@both
def test_bits_join_wherever_pieces_begin(kernel: Any) -> None:
    atoms = [None if at % 7 == 3 else at % 3 == 0 for at in range(900)]
    reader = kernel.ColumnReader([FIELDS[0]])
    at = 0
    for size in itertools.cycle([1, 2, 5, 8, 13, 300]):
        reader.add_cells([plain({1: atom}) for atom in atoms[at : at + size]])
        at += size
        if at >= len(atoms):
            break
    assert as_table(reader.take(), [FIELDS[0]]).column(0).to_pylist() == atoms


@both
def test_a_damaged_cell_is_told_with_its_key(kernel: Any) -> None:
    reader = kernel.ColumnReader(FIELDS)
    cells = [plain({}), plain({})[:-1]]
    with pytest.raises(Corruption, match=r"key 6b31, offset \d+: not a record"):
        reader.add(chunk(cells))
    reader = kernel.ColumnReader(FIELDS)
    with pytest.raises(Corruption, match=r"cell 1, offset \d+: not a record"):
        reader.add_cells(cells)


@both
def test_offsets_beyond_a_chunk_are_refused(kernel: Any) -> None:
    short = chunk([plain({})])
    short.value_offsets = array("I", [0])
    with pytest.raises(ValueError, match="offset"):
        kernel.ColumnReader(FIELDS).add(short)
    for offsets in ([0, 1000], [5, 3]):
        wrong = chunk([plain({})])
        wrong.value_offsets = array("I", offsets)
        with pytest.raises(Corruption, match="outside"):
            kernel.ColumnReader(FIELDS).add(wrong)


@both
def test_an_array_outlives_its_reader(kernel: Any) -> None:
    reader = kernel.ColumnReader([FIELDS[8]])
    reader.add_cells([plain({9: "kept"})])
    (batch,) = reader.take()
    arrays = [pa.array(batch[0]), pa.array(batch[0])]
    del reader, batch
    assert [array.to_pylist() for array in arrays] == [["kept"], ["kept"]]


@both
def test_rows_beyond_a_batch_begin_another_one(kernel: Any) -> None:
    rows = pure.BATCH_ROWS + 10
    cell = plain({3: 5})
    reader = kernel.ColumnReader([FIELDS[2], FIELDS[8]])
    for _ in range(0, rows, 65_536):
        reader.add_cells([cell] * min(65_536, rows))
    assert [len(pa.array(batch[0])) for batch in reader.take()] == [pure.BATCH_ROWS, 65_536]


@both
@pytest.mark.parametrize(
    "cell",
    [
        b"",
        b"\x01",
        b"\xc1",
        msgpack.packb([]),
        msgpack.packb([3, []]),
        msgpack.packb([True, 1, A, 1, {}]),
        msgpack.packb([1, 1, A, 1]),
        msgpack.packb([1, 1, A, 1, {}, {}, {}]),
        msgpack.packb([1, "1", A, 1, {}]),
        msgpack.packb([1, 1, b"short", 1, {}]),
        msgpack.packb([1, 1, "replicaA", 1, {}]),
        msgpack.packb([1, 1, A, None, {}]),
        msgpack.packb([1, 1, A, 1, []]),
        msgpack.packb([1, 1, A, 1, {"a": 1}]),
        msgpack.packb([1, 1, A, 1, {True: 1}]),
        plain({})[:-1] + b"\x82\x01\x05\xc3\x06",  # 1 and True are one key to Python
        msgpack.packb([1, 1, A, 1, {4: [1]}]),
        msgpack.packb([1, 1, A, 1, {4: {}}]),
        msgpack.packb([1, 1, A, 1, {4: msgpack.ExtType(5, b"x")}]),
        msgpack.packb([1, 1, A, 1, {9: "x"}])[:-1] + b"\xff",
        msgpack.packb([1, 1, A, 1, {9: "xyz"}])[:-3] + b"\xed\xa0\x80",
        msgpack.packb([1, 1, A, 1, {}]) + b"\x00",
        msgpack.packb([2, []]),
        msgpack.packb([2, [[1, A, 1, {}, {}]]]),
        msgpack.packb([2, [[1, A, 1, {}, {5: [1]}, {}]]]),
        msgpack.packb([2, [[1, A, 1, {}, {}, {5: 1}]]]),
        msgpack.packb([2, [[1, A, 1, {}, {}, {5: [1, 1, A, [[A, 1, 1], [A, 1, 1]], []]}]]]),
        msgpack.packb([2, [[1, A, 1, {}, {}, {5: [1, 1, A, [], []], 4: [1, 1, A, [], []]}]]]),
        b"\xdd\xff\xff\xff\xff" * 3,
        b"\x95\x01\x01\xc4\x08replicaA\x01\xdf\xff\xff\xff\xff",
    ],
)
def test_what_is_no_record_is_corrupt(kernel: Any, cell: bytes) -> None:
    with pytest.raises(Corruption):
        read(kernel, [cell])
    with pytest.raises(Corruption):
        kernel.RowReader(FIELDS)(cell)


@both
def test_rows_are_tuples_of_atoms(kernel: Any) -> None:
    fields = [FIELDS[8], FIELDS[2], FIELDS[5], FIELDS[0], FIELDS[9], FIELDS[17]]
    row = kernel.RowReader(fields)
    assert row(plain({9: "x", 3: 5, 6: 2.5, 1: True, 10: b"y"})) == ("x", 5, 2.5, True, b"y", 0)
    assert row(plain({9: None, 3: -5, 1: False})) == (None, -5, 1.5, False, None, 0)
    assert row(plain({9: 5})) is None
    assert row(plain({3: 2**31})) is None


@differential
def test_out_of_memory_is_an_error_and_no_more() -> None:
    cells = [plain({9: "x" * at, 3: None if at % 3 else at}) for at in range(600)]
    expected = read(native, cells)
    failed = 0
    for nth in range(1, 80):
        native.fail_allocation(nth)
        try:
            read(native, cells)
        except MemoryError:
            failed += 1
        finally:
            native.fail_allocation(0)
    assert failed > 30
    assert read(native, cells).equals(expected)


@differential
def test_a_reader_that_failed_is_of_no_use() -> None:
    reader = native.ColumnReader(FIELDS)
    with pytest.raises(Corruption):
        reader.add_cells([b"x"])
    for use in (lambda: reader.add_cells([]), lambda: reader.add(chunk([])), reader.take):
        with pytest.raises(RuntimeError, match="in use, or gave an error"):
            use()


@differential
@pytest.mark.parametrize(
    "field",
    [
        FieldSpec(1, 0),
        FieldSpec(1, 10),
        FieldSpec(1, INTEGER, "i", width=3),
        FieldSpec(1, INTEGER, "l", width=8, low=-(2**63), high=0, bias=1),
        FieldSpec(1, DECIMAL, "d:39,0", precision=39),
        FieldSpec(1, DECIMAL, "d:1,2", precision=1, scale=2),
        FieldSpec(1, FIXED, "w:0"),
    ],
)
def test_a_field_that_no_column_can_be_is_refused(field: FieldSpec) -> None:
    with pytest.raises(Exception, match="of a kind, or of a width"):
        native.ColumnReader([field])


# Both kernels --------------------------------------------------------------

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.integers(-200, 800_000)
    | st.sampled_from([2**k + d for k in (7, 8, 15, 16, 31, 32, 63) for d in (-1, 0)])
    | st.floats()
    | st.floats(width=32)
    | st.text(max_size=40)
    | st.from_regex(r"[-+]?[0-9]{0,40}\.?[0-9]{0,45}([eE][-+]?[0-9]{1,3})?", fullmatch=True)
    | st.binary(max_size=40)
    | st.binary(min_size=12, max_size=12)
    | st.binary(min_size=16, max_size=16)
)
FIELD_IDS = st.sampled_from([*IDS, 4, 19, 1000])
FIELD_MAPS = st.dictionaries(FIELD_IDS, ATOMS, max_size=8)
REPLICAS = st.sampled_from([A, B, b"\0" * 8, b"\xff" * 8])
SMALL = st.integers(0, 10) | st.integers(0, 2**63 - 1)
TOTALS = st.dictionaries(REPLICAS, st.tuples(SMALL, SMALL), max_size=3)
COUNTERS = st.builds(
    Counter, st.integers(-(2**63), 2**63 - 1), st.tuples(SMALL, REPLICAS), TOTALS, TOTALS
)
LIVES = st.builds(
    Life,
    SMALL,
    REPLICAS,
    SMALL,
    FIELD_MAPS,
    st.dictionaries(FIELD_IDS, st.tuples(SMALL, REPLICAS), max_size=2),
    st.dictionaries(st.sampled_from([18, 3, 9, 1000]), COUNTERS, max_size=2),
)
CELLS = st.one_of(
    FIELD_MAPS.map(lambda fields: plain(dict(sorted(fields.items())))),
    st.tuples(FIELD_MAPS, st.dictionaries(st.just(18), st.integers(0, 9))).map(lambda b: plain(*b)),
    st.lists(LIVES, min_size=1, max_size=3).map(encode_record),
)


def outcome(read_it: Any) -> Any:
    try:
        return read_it()
    except Corruption:
        return Corruption


def same_tables(left: Any, right: Any) -> bool:
    if left is Corruption or right is Corruption:
        return left is right
    return left.schema == right.schema and all(
        [repr(value) for value in one.to_pylist()] == [repr(value) for value in other.to_pylist()]
        for one, other in zip(left.columns, right.columns, strict=True)
    )


@differential
@given(st.lists(CELLS, max_size=12))
def test_both_kernels_make_the_same_columns(cells: list[bytes]) -> None:
    assert same_tables(read(native, cells), read(pure, cells))


@differential
@given(CELLS, st.data())
@example(plain({}), None)
def test_both_kernels_refuse_the_same_bytes(cell: bytes, data: Any) -> None:
    changed = bytearray(cell)
    for _ in range(data.draw(st.integers(1, 3)) if data else 0):
        place = data.draw(st.integers(0, len(changed)))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change" if place < len(changed):
                changed[place] = data.draw(st.integers(0, 255))
            case "cut":
                del changed[place:]
            case _:
                changed[place:place] = data.draw(st.binary(max_size=3))
    cell = bytes(changed)
    mine, twin = (outcome(lambda k=k: read(k, [cell])) for k in (native, pure))
    assert same_tables(mine, twin)
    mine, twin = (outcome(lambda k=k: k.RowReader(FIELDS)(cell)) for k in (native, pure))
    assert repr(mine) == repr(twin)


@given(CELLS)
def test_what_is_read_is_what_is_visible(cell: bytes) -> None:
    shown = visible_fields(cell)
    assert repr(pure.read_fields(cell, lambda: "")) == repr(shown)
    for kernel in (pure, native):
        if kernel is not None:
            anything = [
                FieldSpec(field, kind, **INT64)
                for field, kind in zip(shown, kinds_of(shown), strict=True)
            ]
            row = kernel.RowReader(anything)(cell)
            if any(type(atom) is int and atom >= 1 << 63 for atom in shown.values()):
                assert row is None
            else:
                assert repr(row) == repr(tuple(shown.values()))


def kinds_of(shown: Any) -> list[int]:
    kinds = {bool: BOOLEAN, int: INTEGER, float: FLOAT, str: TEXT, bytes: BINARY}
    return [kinds.get(type(atom), TEXT) for atom in shown.values()]


@differential
@given(
    st.integers(1, 38).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p))),
    st.lists(
        st.from_regex(r"[-+]?[0-9]{0,41}\.?[0-9]{0,45}([eE][-+]?[0-9]{1,3})?", fullmatch=True)
        | st.decimals(allow_nan=True, allow_infinity=True).map(str),
        min_size=1,
    ),
)
def test_both_kernels_read_the_same_decimals(shape: tuple[int, int], texts: list[str]) -> None:
    precision, scale = shape
    field = FieldSpec(7, DECIMAL, f"d:{precision},{scale}", precision=precision, scale=scale)
    cells = [plain({7: text}) for text in texts]
    assert same_tables(read(native, cells, [field]), read(pure, cells, [field]))
