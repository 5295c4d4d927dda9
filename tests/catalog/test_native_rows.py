"""Rows from the bytes of records: by either kernel, what going through Python objects gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from murmur.catalog import Table, add_column, decoding, parse_type, row_prefix, scan_rows
from murmur.catalog import rows as catalog_rows
from murmur.catalog.atoms import to_atom
from murmur.catalog.decoding import atoms_getter, row_decoder, row_reader
from murmur.catalog.fields import field_of
from murmur.catalog.layout import layout_of
from murmur.catalog.rows import Increment, Reset, get_row, scan_batches, update_row
from murmur.catalog.schema import ColumnDefinition, Default
from murmur.errors import Corruption
from murmur.kvcore import visible_fields
from murmur.kvcore.cell import Counter, Life, encode_record
from murmur.kvcore.kernel.pure import rows as pure
from murmur.kvcore.kernel.pure.chunk import chunks
from murmur.olap.arrow import iterate_rows, table_to_arrow
from tests.catalog.harness import (
    NOTE,
    apart,
    define,
    delete,
    exchange,
    insert,
    open_replica,
    seen,
    table_of,
    transact,
    update,
)
from tests.catalog.test_keycode_laws import FOREIGN
from tests.olap.harness import ONE_OF_EACH, every_type, make_peer, rows

try:
    from murmur.kvcore.kernel import _native as native
except ImportError:
    native = None
KERNELS = [pure, *([native] if hasattr(native, "ColumnReader") else [])]
KEYS = st.binary(min_size=1, max_size=6)


class Held:
    """Cells of one table, as a view that has no blocks to give."""

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self._pairs = sorted(pairs)

    def get(self, key: bytes) -> bytes | None:
        return dict(self._pairs).get(key)

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        found = [(k, v) for k, v in self._pairs if start <= k and (stop is None or k < stop)]
        return reversed(found) if reverse else iter(found)


class Blocks(Held):
    """The same, with blocks."""

    def chunks(self, start: bytes, stop: bytes | None) -> Iterator[Any]:
        pairs = list(self.scan(start, stop))
        pieces = [([key], [value]) for key, value in pairs]
        return chunks(pieces, 100)


@pytest.fixture(scope="module")
def table() -> Table:
    return make_peer().define(every_type())


@pytest.fixture(params=KERNELS, ids=lambda kernel: kernel.__name__.rpartition(".")[2])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(catalog_rows, "ColumnReader", request.param.ColumnReader)
    monkeypatch.setattr(decoding, "RowReader", request.param.RowReader)
    return request.param


def cell_of(table: Table, values: Sequence[Any], *, lives: int = 1) -> bytes:
    """A row with these values; with more lives, the others of NULLs and a counter of 1."""
    fields, counters = {}, {}
    for column, value in zip(table.columns[1:], values, strict=True):
        if column.type.name == "COUNTER":
            counters[column.id] = value or 0
        else:
            fields[column.id] = to_atom(value, column.type)
    born = [Life(9, b"replica0", 1, fields, {}, counted(counters, 9))]
    for number in range(1, lives):
        ones = counted(dict.fromkeys(counters, 1), number)
        nothing = dict.fromkeys(fields)
        born.append(Life(number, b"replica%d" % number, 1, nothing, {}, ones))
    cell = encode_record(born)
    assert cell is not None
    return cell


def counted(counters: dict[int, int], stamp: int) -> dict[int, Counter]:
    return {
        field: Counter(value, (stamp, b"replica%d" % (stamp % 9)), {}, {})
        for field, value in counters.items()
    }


def arrow_rows(view: Any, table: Table) -> list[tuple[Any, ...]]:
    found = table_to_arrow(view, table)
    for column in found.columns:
        column.validate(full=True)
    assert found.schema == table_to_arrow(Held([]), table).schema
    return list(iterate_rows(found))


@given(given_rows=rows(), lives=st.integers(1, 3))
def test_columns_and_rows_say_what_the_decoder_says(
    table: Table, given_rows: list[tuple[Any, ...]], lives: int
) -> None:
    pairs = [
        (row_prefix(table.id) + bytes([at]), cell_of(table, values, lives=lives))
        for at, values in enumerate(given_rows)
    ]
    decode = row_decoder(table.columns)
    expected = [decode(visible_fields(cell)) for _, cell in pairs]
    read = row_reader(table.columns)
    assert list(map(repr, (read(cell) for _, cell in pairs))) == list(map(repr, expected))
    for view in (Held(pairs), Blocks(pairs)):
        assert arrow_rows(view, table) == expected
    fields = [field_of(column, raw=True) for column in table.columns]
    held, given_blocks = (scan_batches(view(pairs), table, fields) for view in (Held, Blocks))
    assert [[pa.array(c) for c in batch] for batch in held] == [
        [pa.array(c) for c in batch] for batch in given_blocks
    ]


def test_every_type_is_read_by_either_kernel(kernel: Any) -> None:
    peer = make_peer()
    table = peer.define(every_type())
    peer.insert("t", {"id": 1, **ONE_OF_EACH}, {"id": 2})
    with peer.replica.snapshot() as view:
        ((key, one), (_, nothing)) = scan_rows(view, table)
        assert one == (1, *ONE_OF_EACH.values())
        assert nothing == (2, *(0 if name == "COUNTER" else None for name in ONE_OF_EACH))
        assert arrow_rows(view, table) == [one, nothing]
        assert atoms_getter(table.columns)(visible_fields(view.get(key) or b"")) == (
            1,
            *(to_atom(ONE_OF_EACH[c.name], c.type) for c in table.columns[1:]),
        )


def test_a_transaction_sees_what_it_has_not_committed(kernel: Any) -> None:
    with open_replica() as replica:
        define(replica, NOTE)
        transact(replica, lambda tx: [insert(tx, "note", id=n, body=f"n{n}") for n in (1, 2)])
        table = table_of(replica, "note")
        tx = replica.begin()
        update(tx, "note", 1, body="mine", likes=Increment(5))
        delete(tx, "note", 2)
        insert(tx, "note", id=3, body="new")
        assert arrow_rows(tx, table) == [(1, "mine", None, 5), (3, "new", None, 0)]
        assert [row for _, row in scan_rows(tx, table)] == arrow_rows(tx, table)
        tx.rollback()
        assert seen(replica, "note") == [(1, "n1", None, 0), (2, "n2", None, 0)]


def test_a_snapshot_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_replica() as replica:
        define(replica, NOTE)
        transact(replica, lambda tx: insert(tx, "note", id=1, body="x"))
        table = table_of(replica, "note")
        added = []

        class Reader(pure.ColumnReader):
            def add(self, chunk: Any) -> None:
                added.append(chunk.count)
                super().add(chunk)

        monkeypatch.setattr(catalog_rows, "ColumnReader", Reader)
        with replica.snapshot() as view:
            assert arrow_rows(view, table) == [(1, "x", None, 0)]
        tx = replica.begin()
        assert arrow_rows(tx, table) == [(1, "x", None, 0)]
        assert added == [1, 1]
        insert(tx, "note", id=2, body="y")
        assert len(arrow_rows(tx, table)) == 2
        assert added == [1, 1]
        tx.rollback()


def test_lives_edits_and_counts_of_replicas_that_met(kernel: Any) -> None:
    left, right = apart()
    define(left, NOTE)
    exchange(left, right)
    transact(left, lambda tx: insert(tx, "note", id=1, body="left", likes=3))
    transact(right, lambda tx: insert(tx, "note", id=1, body="right", likes=4))
    exchange(left, right)
    transact(left, lambda tx: update(tx, "note", 1, stars=5, likes=Increment(10)))
    transact(right, lambda tx: update(tx, "note", 1, body="edited", likes=Reset(100)))
    exchange(left, right)
    for replica in (left, right):
        table = table_of(replica, "note")
        with replica.snapshot() as view:
            decode = row_decoder(table.columns)
            expected = [
                decode(visible_fields(cell))
                for _, cell in view.scan(row_prefix(table.id), row_prefix(table.id + 1))
            ]
            assert [row for _, row in scan_rows(view, table)] == expected
            assert arrow_rows(view, table) == expected
            assert expected[0][:3] == (1, "edited", 5)


def test_a_column_that_came_later_reads_its_default(kernel: Any) -> None:
    with open_replica() as replica:
        define(replica, NOTE)
        key = transact(replica, lambda tx: insert(tx, "note", id=1, body="old"))
        late = ColumnDefinition("late", parse_type("DATE"), default=Default("constant", 1, "x"))
        transact(replica, lambda tx: add_column(tx, "note", late))
        table = table_of(replica, "note")
        with replica.snapshot() as view:
            (row,) = arrow_rows(view, table)
            assert str(row[-1]) == "0001-01-01"
            assert get_row(view, table, key) == row
        transact(replica, lambda tx: update_row(tx, table, key, {table.columns[-1].id: None}))
        with replica.snapshot() as view:
            assert arrow_rows(view, table)[0][-1] is None


def test_one_bad_atom_is_null_and_changes_no_other(kernel: Any) -> None:
    peer = make_peer()
    table = peer.define(every_type())
    good, bad = peer.insert("t", {"id": 1, **ONE_OF_EACH}, {"id": 2, **ONE_OF_EACH})
    other = {int: "x", str: 5, bytes: "x", bool: 5, float: "x"}
    with peer.replica.begin() as tx:
        for column in table.columns[1:]:
            if column.type.name != "COUNTER":
                atom = to_atom(ONE_OF_EACH[column.name], column.type)
                tx.edit(bad, {column.id: other[type(atom)]})
    with peer.replica.snapshot() as view:
        rows = arrow_rows(view, table)
        assert rows == [row for _, row in scan_rows(view, table)]
        assert rows[0] == get_row(view, table, good) == (1, *ONE_OF_EACH.values())
        shown = dict(zip(ONE_OF_EACH, rows[1][1:], strict=True))
        assert shown.pop("COUNTER") == 5
        assert set(shown.values()) == {None}


@given(st.data())
def test_rows_columns_and_conflicts_agree_on_what_reads_null(
    table: Table, data: st.DataObject
) -> None:
    column = data.draw(st.sampled_from(table.columns[:-1]))
    atom = data.draw(
        FOREIGN
        | st.integers(-40_000, 40_000)
        | st.sampled_from([2**31, -(2**31), 2**15, 3_652_059, 3_652_060, 86_400_000_000 - 1])
        | st.decimals(allow_nan=False, allow_infinity=False).map(str)
        | st.binary(min_size=12, max_size=12)
    )
    assume(not isinstance(atom, str) or atom.isprintable())
    layout = layout_of(table)
    fields = {each.id: None for each in table.columns} | {column.id: atom}
    cell = encode_record([Life(9, b"replica0", 1, dict(sorted(fields.items())), {}, {})])
    assert cell is not None
    expected = layout.decode(fields)
    at = column.position
    assert [c.id for c in layout.unreadable(fields)] == (
        [column.id] if atom is not None and expected[at] is None else []
    )
    assert repr(layout.decode(layout.readable(fields))) == repr(expected)
    fields_of = [field_of(each) for each in table.columns]
    for kernel in KERNELS:
        reader = kernel.RowReader(fields_of)
        row = reader(cell)
        assert (row is None) == (atom is not None and expected[at] is None)
        columns = kernel.ColumnReader(fields_of)
        columns.add_cells([cell])
        ((*arrays,),) = columns.take()
        assert pa.array(arrays[at]).null_count == (expected[at] is None)
    shown = arrow_rows(Held([(row_prefix(table.id) + b"k", cell)]), table)[0][at]
    if column.type.name == "REAL" and shown is not None:
        assert shown == pytest.approx(expected[at], nan_ok=True)
    else:
        assert shown == expected[at] or atom != atom


def test_a_damaged_record_is_told_with_its_key(table: Table, kernel: Any) -> None:
    key = row_prefix(table.id) + b"k"
    cell = cell_of(table, [None] * len(ONE_OF_EACH))
    with pytest.raises(Corruption, match=f"key {key.hex()}"):
        table_to_arrow(Blocks([(key, cell[:-1])]), table)
    with pytest.raises(Corruption, match="not a record"):
        table_to_arrow(Held([(key, cell[:-1])]), table)
    with pytest.raises(Corruption, match="not a record"):
        list(scan_rows(Held([(key, cell[:-1])]), table, columns=[table.columns[1].id]))
