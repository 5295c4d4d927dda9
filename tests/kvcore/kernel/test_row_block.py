"""Blocks of rows: both kernels make the same of them, and refuse the same."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from murmur.errors import InvalidInput
from murmur.kvcore import record
from murmur.kvcore.cell import visible_fields, winner
from murmur.kvcore.kernel import pure as pure_kernel
from murmur.kvcore.kernel.block_plan import (
    ATOMS,
    CHILD,
    CLAIM,
    CONSTANT,
    INDEX,
    INTEGERS,
    NULLS,
    PARENT,
    TEXTS,
    BadValue,
    BlockPlan,
    ColumnSource,
    EntryPlan,
    KeyPart,
    RowSource,
)
from murmur.kvcore.kernel.fields import BINARY, BOOLEAN, FLOAT, INTEGER, TEXT, FieldSpec
from murmur.kvcore.kernel.pure import row_block as pure

try:
    from murmur.kvcore.kernel import _native as native
except ImportError:
    native = None
KERNELS = [pure, *([native] if hasattr(native, "RowEncoder") else [])]
kernels = pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.__name__.rpartition(".")[2])

NUMBER = FieldSpec(7, INTEGER, "i", width=4, low=-(2**31), high=2**31 - 1)
NAME = FieldSpec(300, TEXT, "u")
SHARE = FieldSpec(70_000, FLOAT, "g", width=8)
DATA = FieldSpec(2**32 - 1, BINARY, "z")
FLAG = FieldSpec(3_000_000_000, BOOLEAN, "b")
SPECS = [NUMBER, NAME, SHARE, FLAG, DATA]  # by id, as in a body
PLAN = BlockPlan(
    fields=tuple(spec.id for spec in SPECS),
    counters=(5, 90_000),
    prefix=b"\x02\x02table",
    parts=(KeyPart(0, NUMBER),),
    entries=(
        EntryPlan(INDEX, b"\x40\x01i", (KeyPart(1, NAME, descending=True), KeyPart(2, SHARE))),
        EntryPlan(CLAIM, b"\x40\x02c", (KeyPart(1, NAME),)),
        EntryPlan(CHILD, b"\x40\x03f", (KeyPart(4, DATA),)),
        EntryPlan(PARENT, b"\x02\x02p", (KeyPart(4, DATA),)),
    ),
)
COUNT = FieldSpec(0, INTEGER, "l", width=8, low=-(2**63), high=2**63 - 1)
AUTHOR = (5 << 16, b"replica!", 9)


def refuse(value: Any) -> Any:
    if type(value) in (int, str, float, bool, bytes, type(None)):
        raise ValueError(f"refused {value!r}")
    return "converted"


SOURCES = [
    *(RowSource(spec, at, refuse, nullable=spec is not NUMBER) for at, spec in enumerate(SPECS)),
    RowSource(COUNT, 5, lambda value: value or 0, nullable=False),
    RowSource(COUNT, -1, refuse, constant=msgpack.packb(-3)),
]

rows = st.lists(
    st.tuples(
        st.integers(-6, 6) | st.integers(-(2**31), 2**31 - 1),
        st.none()
        | st.text("ab\xe9\U0001f600", max_size=3)
        | st.text("x", min_size=30, max_size=300),
        st.none() | st.floats(),
        st.none() | st.booleans(),
        st.none() | st.binary(max_size=3) | st.binary(min_size=250, max_size=260),
        st.none() | st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=12,
)


def encoded(kernel: Any, given_rows: list[Any], plan: BlockPlan = PLAN) -> Any:
    encoder = kernel.RowEncoder(plan)
    encoder.bind(SOURCES, 6)
    encoder.add_rows(given_rows)
    assert encoder.count == len(given_rows)
    if given_rows:
        assert msgpack.unpackb(encoder.last_body(), strict_map_key=False)[0][7] == given_rows[-1][0]
    size = encoder.size
    block = encoder.finish()
    assert encoder.count == encoder.size == 0
    assert block.size == size
    return block


def all_of(block: Any, plans: int = 4) -> list[Any]:
    told = [block.count, block.size, block.repeated, block.operations(), block.pairs(*AUTHOR)]
    assert b"".join(block.pieces()) == block.operations()
    told.append(block.prefix)
    for row in range(block.count):
        key = block.key(row)
        told.append((key, block.body(row), block.place(row), block.cell(row, *AUTHOR)))
        told.append((block.find(key + b"\0"), block.touches(key, key + b"\0")))
        told.append(block.row_at(block.place(row)) == row)
    for plan in range(plans):
        asked = block.asked(plan)
        told += [asked, block.reclaimed(plan)]
        told += [block.asker(plan, at) for at in range(len(asked))]
        told += [block.claim_of(plan, values + b"own") for values in asked]
    bounds = [
        b"",
        b"\x02\x02p",
        b"\x02\x02u",
        b"\x40\x01h",
        b"\x40\x01ia",
        b"\x40\x01j",
        b"\x40\x03f",
        b"\x41",
        None,
    ]
    told += [block.touches(start, stop) for start in bounds[:-1] for stop in bounds]
    return told


@kernels
@settings(max_examples=40)
@given(given_rows=rows)
def test_a_block_holds_the_operations_of_a_record(kernel: Any, given_rows: list[Any]) -> None:
    block = encoded(kernel, given_rows)
    body = record.encode(b"replica!", 9, 5 << 16, bytes(16), {b"replica!": 8}, {}, [], [
        (block.count, block.operations())
    ])  # fmt: skip
    operations = record.decode(body).operations
    assert [each.key for each in operations] == sorted(each.key for each in operations)
    cells = dict(block.pairs(*AUTHOR)[: block.count])
    for operation in operations:
        assert operation.kind == record.INSERT
        cell = cells[operation.key]
        if block.repeated is None:
            insertion = operation.body
            assert visible_fields(cell) == pytest.approx(
                {**insertion.fields, **insertion.counters}, nan_ok=True
            )
            assert winner(cell) == AUTHOR
    numbers = [row[0] for row in given_rows]
    assert (block.repeated is None) == (len(set(numbers)) == len(numbers))


@pytest.mark.skipif(len(KERNELS) == 1, reason="there is no native kernel")
@settings(max_examples=40)
@given(given_rows=rows, more=rows)
def test_both_kernels_make_the_same_block(given_rows: list[Any], more: list[Any]) -> None:
    ours, theirs = encoded(pure, given_rows), encoded(native, given_rows)
    assert all_of(ours) == all_of(theirs)
    other, same = encoded(pure, more), encoded(native, more)
    for plan in (None, 1):
        assert ours.shared(plan, other) == theirs.shared(plan, same)
    probes = [other.key(row) for row in range(other.count)]
    probes += [entry for entry, _ in other.pairs(*AUTHOR)]
    for probe in probes:
        assert ours.find(probe) == theirs.find(probe)
        assert ours.claim_of(1, probe) == theirs.claim_of(1, probe)
    assert ours.first_of(probes) == theirs.first_of(probes)


@kernels
@settings(max_examples=40)
@given(there=rows, given_rows=rows)
def test_what_the_tree_has_is_found(kernel: Any, there: list[Any], given_rows: list[Any]) -> None:
    module = native if kernel is native else pure_kernel
    memtable = module.Memtable(0)
    block, old = encoded(kernel, given_rows), encoded(kernel, there)
    pairs = dict(old.pairs(*AUTHOR))
    kernel.apply_blocks(memtable, 1, [(b"\x41other", b"1"), (b"\x01", None)], [(old, *AUTHOR)])
    reads = module.Reads([memtable], [], {})
    assert dict(reads.scan(b"\x02", b"\x41", 1)) == pairs
    for plan in (None, 1):
        asked = block.asked(1) if plan else [block.key(row) for row in range(block.count)]
        held = [any(key.startswith(each) for key in pairs) for each in asked]
        assert block.present(plan, reads, 1) == (held.index(True) if True in held else None)
        assert block.present(plan, reads, 0) is None


@kernels
@settings(max_examples=60)
@given(parts=st.lists(rows, min_size=1, max_size=4), data=st.data())
def test_runs_are_read_where_they_stand(kernel: Any, parts: list[Any], data: st.DataObject) -> None:
    module = native if kernel is native else pure_kernel
    seen: set[int] = set()
    blocks = []
    for part in parts:
        fresh = {row[0]: row for row in part if row[0] not in seen}
        seen |= fresh.keys()
        blocks.append(encoded(kernel, list(fresh.values())))
    loads = [(block, 5 << 16, b"replica!", 9 + at) for at, block in enumerate(blocks)]
    below = {key: value for load in loads for key, value in load[0].pairs(*load[1:])}
    runs = kernel.runs_of(loads)
    assert all(run.bytes for run in runs)
    assert bool(runs) == bool(below)

    # What is newer hides rows; what is older is hidden by them.
    changed = sorted(below)[:: data.draw(st.integers(1, 3))]
    newer, older = module.Memtable(1), module.Memtable(0)
    older.apply(1, [(b"\x02\x01", b"old"), *((key, b"old") for key in below)])
    above = {key: None if at % 2 else b"new" for at, key in enumerate(changed)}
    newer.apply(2, list(above.items()))
    reads = module.Reads([newer, *runs, older], [], {})
    model: dict[bytes, bytes | None] = {b"\x02\x01": b"old", **below, **above}
    live = sorted((key, value) for key, value in model.items() if value is not None)

    probes = [b"", *model, *(key + b"\0" for key in model), *(key[:-1] for key in model)]
    for probe in probes:
        assert reads.get(probe, 2) == model.get(probe)
    assert reads.multi_get(probes, 2) == [model.get(probe) for probe in probes]
    bounds = st.sampled_from(probes)
    for _ in range(4):
        start, stop = data.draw(bounds), data.draw(st.none() | bounds)
        wanted = [pair for pair in live if start <= pair[0] and (stop is None or pair[0] < stop)]
        assert list(reads.scan(start, stop, 2)) == wanted
        assert list(reads.scan(start, stop, 2, reverse=True)) == wanted[::-1]


@kernels
def test_a_long_walk_finds_the_last_key(kernel: Any) -> None:
    module = native if kernel is native else pure_kernel
    row = (None, None, None, None, None)
    dense = encoded(kernel, [(n, *row) for n in range(0, 2000, 2)])
    sparse = encoded(kernel, [(n, *row) for n in [*range(1, 2000, 2), 1990]])
    memtable = module.Memtable(0)
    kernel.apply_blocks(memtable, 1, [], [(dense, *AUTHOR)])
    reads = module.Reads([memtable], [], {})
    assert sparse.key(sparse.present(None, reads, 1)) == dense.key(995)
    assert sparse.shared(None, dense) == sparse.present(None, reads, 1)


@kernels
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((1, "a", 1, None, None, 0), "refused 1"),
        ((2**31, "a", None, None, None, 0), "refused 2147483648"),
        ((True, "a", None, None, None, 0), "refused True"),
        ((None, "a", None, None, None, 0), "refused None"),
        ((1, "a\0", None, None, None, 0), "refused"),
        ((1, "\ud800", None, None, None, 0), "refused"),
        ((1, "a", None, 0, None, 0), "refused 0"),
        ((1, "a", None, None, "a", 0), "refused 'a'"),
        ((1, "a", None, None, None), "6 values"),
        ("abcdef", "6 values"),
        (7, "6 values"),
    ],
)
def test_a_row_that_is_refused_leaves_nothing(kernel: Any, row: Any, reason: str) -> None:
    encoder = kernel.RowEncoder(PLAN)
    encoder.bind(SOURCES, 6)
    good = (1, "a", None, None, None, 0)
    with pytest.raises((ValueError, InvalidInput), match=reason):
        encoder.add_rows([good, row])
    encoder.add_rows([[2, "b", None, object(), None, 0]])
    block = encoder.finish()
    assert block.count == 2
    assert [msgpack.unpackb(block.body(at), strict_map_key=False)[0][FLAG.id] for at in (0, 1)] == [
        None,
        "converted",
    ]


@kernels
def test_a_value_in_a_key_that_the_key_cannot_hold(kernel: Any) -> None:
    plan = PLAN._replace(parts=(KeyPart(1, NUMBER),))  # of the text's column
    encoder = kernel.RowEncoder(plan)
    encoder.bind(SOURCES, 6)
    with pytest.raises((ValueError, InvalidInput)):
        encoder.add_rows([(1, "a", None, None, None, 0)])
    encoder = kernel.RowEncoder(PLAN._replace(parts=(KeyPart(1, NAME),)))
    encoder.bind(SOURCES, 6)
    with pytest.raises(InvalidInput, match="longer than"):
        encoder.add_rows([(1, "a" * 66_000, None, None, None, 0)])
    assert encoder.count == 0


@kernels
def test_rows_without_key_columns_have_ids(kernel: Any) -> None:
    plan = BlockPlan((7,), (), b"\x02\x02t", ())
    encoder = kernel.RowEncoder(plan)
    encoder.bind([RowSource(NUMBER, 0, refuse)], 1)
    ids = iter([b"b" * 16, b"a" * 16])
    encoder.add_rows([(1,), (2,)], None, lambda: next(ids))
    source = ColumnSource(INTEGERS, values=struct.pack("<2i", 3, 4), width=4)
    encoder.add_columns(1, [source], b"c" * 16, 1)
    with pytest.raises(InvalidInput):
        encoder.add_rows([(5,)])
    with pytest.raises((BadValue, InvalidInput)):
        encoder.add_columns(2, [source], b"c" * 16)
    block = encoder.finish()
    assert [block.key(row)[-1:] for row in range(3)] == [b"a", b"b", b"c"]
    assert [block.place(row) for row in range(3)] == [1, 0, 2]


@kernels
def test_a_busy_encoder_refuses_to_be_used(kernel: Any) -> None:
    if kernel is pure:
        return
    encoder = kernel.RowEncoder(PLAN)

    def again(value: Any) -> int:
        encoder.finish()
        return 0

    encoder.bind([*SOURCES[:2], RowSource(SHARE, 2, again), *SOURCES[3:]], 6)
    with pytest.raises(RuntimeError, match="in use"):
        encoder.add_rows([(1, "a", "x", None, None, 0)])
    assert encoder.finish().count == 0


# Columns ---------------------------------------------------------------


buffers = (
    st.none()
    | st.binary(max_size=40)
    | st.lists(st.integers(-2, 12), max_size=8).map(
        lambda numbers: struct.pack(f"<{len(numbers)}i", *numbers)
    )
)
sources = st.builds(
    ColumnSource,
    form=st.sampled_from([*range(10)]),
    offset=st.integers(0, 9),
    validity=st.none() | st.binary(max_size=3),
    offsets=buffers,
    values=buffers | st.sampled_from([msgpack.packb(7), msgpack.packb("a"), b"\xc1", b"\xcd\1"]),
    width=st.sampled_from([0, 2, 4, 8, 16, 300]),
    nullable=st.booleans(),
    counter=st.booleans(),
    bias=st.sampled_from([0, 1, -(2**63), 2**63 - 1]),
    low=st.sampled_from([-(2**63), -5]),
    high=st.sampled_from([2**63 - 1, 100]),
    finite=st.booleans(),
    precision=st.integers(0, 40),
    scale=st.integers(0, 12),
    shortest=st.booleans(),
    longest=st.sampled_from([0, 1, 2]),
)


def column_outcome(kernel: Any, plan: BlockPlan, count: int, first: int, source: Any) -> Any:
    encoder = kernel.RowEncoder(plan)
    try:
        encoder.add_columns(count, [source], bytes(range(16)) * count, first)
        refused = None
    except BadValue as bad:
        refused = (bad.row, bad.column, bad.reason)
    block = encoder.finish()
    return refused, block.operations()


@pytest.mark.skipif(len(KERNELS) == 1, reason="there is no native kernel")
@settings(max_examples=200)
@given(source=sources, count=st.integers(0, 9), first=st.integers(0, 3))
def test_any_buffers_are_read_alike_or_refused(source: Any, count: int, first: int) -> None:
    plan = BlockPlan((7,), (), b"\x02\x02t", ())
    ours = column_outcome(pure, plan, count, first, source)
    assert column_outcome(native, plan, count, first, source) == ours


@kernels
def test_columns_and_rows_make_the_same_block(kernel: Any) -> None:
    numbers = [3, 1, 2]
    text = "cbé".encode()
    columns = [
        ColumnSource(INTEGERS, values=struct.pack("<4i", 9, *numbers), width=4, offset=1),
        ColumnSource(TEXTS, 0, bytes([0b101]), struct.pack("<4i", 0, 1, 1, 4), text),
        ColumnSource(NULLS),
        ColumnSource(CONSTANT, values=msgpack.packb(True)),  # noqa: FBT003
        ColumnSource(
            ATOMS, offsets=struct.pack("<4i", 0, 3, 4, 7), values=b"\xc4\1x" + b"\xc0" + b"\xc4\1y"
        ),
        ColumnSource(
            INTEGERS, 0, bytes([0b110]), None, struct.pack("<3q", 7, 8, -9), 8, counter=True
        ),
        ColumnSource(CONSTANT, values=msgpack.packb(-3)),
    ]
    encoder = kernel.RowEncoder(PLAN)
    encoder.add_columns(3, columns)
    given_rows = [
        (3, "c", None, True, b"x", 0),
        (1, None, None, True, None, 8),
        (2, "bé", None, True, b"y", -9),
    ]
    assert all_of(encoder.finish()) == all_of(encoded(kernel, given_rows))


@kernels
def test_a_plan_that_makes_no_sense_is_refused(kernel: Any) -> None:
    with pytest.raises(InvalidInput):
        kernel.RowEncoder(PLAN._replace(parts=(KeyPart(99, NUMBER),)))
    with pytest.raises(InvalidInput):
        kernel.RowEncoder(PLAN).bind(SOURCES[:2], 6)
    with pytest.raises(InvalidInput):
        kernel.RowEncoder(PLAN).bind(SOURCES, 3)
    with pytest.raises(BadValue):
        kernel.RowEncoder(PLAN).add_columns(1, [])
    block = kernel.RowEncoder(PLAN).finish()
    assert (block.count, block.operations(), block.find(b"x")) == (0, b"", None)
    if kernel is not pure:
        for call in (lambda: block.key(0), lambda: block.asked(4), lambda: block.asker(1, 0)):
            with pytest.raises(IndexError):
                call()
